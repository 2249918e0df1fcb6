import MeshModel
import Testing

@testable import L7Engine

@Suite("For whom a CONNECT is asked: one form is written and read (docs/hbone.md)")
struct ForwardedElementTests {
    @Test(arguments: ["10.1.0.5", "203.0.113.9", "fd00::5", "2001:db8::1:0:0:7"])
    func `what is written is read`(_ text: String) throws {
        let address = try #require(IPAddress(text))
        #expect(ForwardedElement.address(ForwardedElement.text(address)) == address)
    }

    @Test(arguments: [
        "", "for=", "10.1.0.5", "by=10.1.0.5", "For=10.1.0.5", "for=10.1.0.5 ", "for= 10.1.0.5",
        "for=\"10.1.0.5\"", "for=10.1.0.5:80", "for=10.1.0.5;proto=http",
        "for=10.1.0.5,for=10.1.0.6",
        "for=fd00::5", "for=[fd00::5]", "for=\"[fd00::5]:80\"", "for=\"[fd00::5%1]\"",
        "for=\"[10.1.0.5]\"", "for=\"[::ffff:10.1.0.5]\"", "for=unknown", "for=_hidden",
        // Every machine has these, and each its own.
        "for=127.0.0.1", "for=\"[::1]\"", "for=0.0.0.0", "for=\"[::]\"", "for=169.254.7.127",
        "for=\"[fe80::1]\"", "for=224.0.0.1", "for=\"[ff02::1]\"",
    ])
    func `nothing else is`(_ text: String) {
        #expect(ForwardedElement.address(text) == nil)
    }
}
