import MeshModel
import Testing

@testable import L7Engine

@Suite("Who was refused a tunnel is told by name, and a flood of them by number")
struct RefusalRegisterTests {
    private static func tunnel(_ number: Int, _ reason: String) -> RefusedTunnel {
        RefusedTunnel(
            peer: SocketAddress(IPAddress(v4: 0x0a00_0001), UInt16(number)),
            pod: IPAddress(v4: 0x0a00_0002), reason: reason)
    }

    @Test func `a few of each reason are kept, the others are counted, and then it begins anew`() {
        let register = RefusalRegister()
        var made = 0
        for number in 1...1000 {
            register.note(TLSFailure.untrusted.label) {
                made += 1
                return Self.tunnel(number, $0)
            }
        }
        register.note(TLSFailure.expired.label) { Self.tunnel(1, $0) }
        let first = register.take()
        let kept = RefusalRegister.keptMax
        // Nothing is made of what is only counted.
        #expect(made == kept)
        #expect(first.tunnels.count { $0.reason == "untrusted" } == kept)
        #expect(first.tunnels.last?.reason == "expired")
        #expect(first.others == ["untrusted": 1000 - kept])
        #expect(register.take() == RefusedTunnels())
        register.note(TLSFailure.untrusted.label) { Self.tunnel(1, $0) }
        #expect(register.take().tunnels == [Self.tunnel(1, "untrusted")])
    }
}
