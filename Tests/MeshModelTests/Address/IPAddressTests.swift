import MeshModel
import Testing

@Suite("RFC 4291 and RFC 5952: addresses as text")
struct IPAddressTests {
    @Test(arguments: [
        ("10.0.0.1", "10.0.0.1"), ("::1", "::1"), ("fd00::1", "fd00::1"), ("::", "::"),
        ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("::ffff:1.2.3.4", "1.2.3.4"),
        ("fe80:0:0:0:0:0:0:1", "fe80::1"),
    ])
    func `an address is written in its one canonical form`(text: String, canonical: String) {
        #expect(IPAddress(text)?.description == canonical)
    }

    @Test(arguments: [
        "", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "1.2.3.-4", ":", ":::", "1::2::3",
        "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "g::1", "12345::1", "1.2.3.4 ",
    ])
    func `what is no address is refused`(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func `an IPv4 address is held as mapped and read as bytes of network order`() {
        let address = IPAddress(v4: 0x0a00_0001)

        #expect(address.isIPv4)
        #expect((12..<16).map { address.byte($0) } == [10, 0, 0, 1])
        #expect(address.word(2) == 0xffff)
    }
}
