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
        "::+1", "::-0", "0:0:0:0:0:0:0:-0",
    ])
    func `what is no address is refused`(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test(arguments: [
        ("10.0.0.1:80", "10.0.0.1:80"), ("[fd00::1]:80", "[fd00::1]:80"),
        ("[0000:0000:0000:0000:0000:ffff:255.255.255.255]:65535", "255.255.255.255:65535"),
        ("10.0.0.1", nil), ("10.0.0.1:", nil), ("10.0.0.1:0", nil), ("10.0.0.1:65536", nil),
        ("10.0.0.1:+80", nil), ("10.0.0.1:00080", "10.0.0.1:80"), ("10.0.0.1:000080", nil),
        ("fd00::1:80", nil), ("[10.0.0.1]:80", nil), ("[fd00::1%1]:80", nil), ("[]:80", nil),
        (":80", nil), ("me@10.0.0.1:80", nil), ("10.0.0.1:80:80", nil), ("pod:80", nil),
    ])
    func `an address with a port`(text: String, canonical: String?) {
        #expect(SocketAddress(text)?.description == canonical)
    }

    /// What a peer of a tunnel may send as `:authority`: 28 ms of a worker each.
    @Test func `a text that is no address takes no time, however many letters belong together`() {
        let flags = String(repeating: "\u{1F1E6}", count: 2_000)
        let time = ContinuousClock().measure {
            for _ in 0..<200 { #expect(SocketAddress(flags) == nil) }
        }
        #expect(time < .seconds(1))
    }

    @Test func `an IPv4 address is held as mapped and read as bytes of network order`() {
        let address = IPAddress(v4: 0x0a00_0001)

        #expect(address.isIPv4)
        #expect((12..<16).map { address.byte($0) } == [10, 0, 0, 1])
        #expect(address.word(2) == 0xffff)
    }
}
