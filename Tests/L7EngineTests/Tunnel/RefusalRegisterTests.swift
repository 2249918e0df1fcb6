import MeshModel
import Testing

@testable import L7Engine

@Suite("Who was refused a tunnel is told by name, and a flood of them by number")
struct RefusalRegisterTests {
    private static func address(_ number: Int) -> IPAddress {
        IPAddress(v4: 0x0a00_0000 + UInt32(number))
    }

    private static func tunnel(
        _ number: Int, _ reason: String, port: UInt16 = 40_000, claim: String = ""
    ) -> RefusedTunnel {
        RefusedTunnel(
            peer: SocketAddress(address(number), port), pod: IPAddress(v4: 0x0b00_0002),
            reason: reason, claim: claim)
    }

    @Test func `a few of each reason are kept, the others are counted, and then it begins anew`() {
        let register = RefusalRegister()
        var made = 0
        for number in 1...1000 {
            register.note(.handshake(.untrusted), of: Self.address(number)) {
                made += 1
                return Self.tunnel(number, $0)
            }
        }
        register.note(.handshake(.expired), of: Self.address(1)) { Self.tunnel(1, $0) }
        let first = register.take()
        let kept = RefusalRegister.keptMax
        // Nothing is made of what is only counted.
        #expect(made == kept)
        #expect(first.tunnels.count { $0.reason == "untrusted" } == kept)
        #expect(first.tunnels.last?.reason == "expired")
        #expect(first.others == ["untrusted": 1000 - kept])
        #expect(register.take() == RefusedTunnels())
        register.note(.handshake(.untrusted), of: Self.address(1)) { Self.tunnel(1, $0) }
        #expect(register.take().tunnels == [Self.tunnel(1, "untrusted")])
    }

    @Test func `a peer with another name each time has one place, and hides nobody`() {
        let register = RefusalRegister()
        for number in 1...1000 {
            register.note(.handshake(.untrusted), of: Self.address(1)) {
                Self.tunnel(
                    1, $0, port: UInt16(number), claim: "spiffe://cluster.local/ns/a/sa/s\(number)")
            }
        }
        register.note(.handshake(.untrusted), of: Self.address(2)) { Self.tunnel(2, $0) }
        // Whom this node dialled is another matter than who dialled it.
        register.note(.handshake(.untrusted), of: Self.address(1), isOurs: true) {
            Self.tunnel(3, $0)
        }
        let refused = register.take()
        #expect(refused.tunnels.map(\.peer.address) == (1...3).map(Self.address))
        #expect(refused.tunnels.first?.claim == "spiffe://cluster.local/ns/a/sa/s1")
        #expect(refused.others == ["untrusted": 999])
    }

    @Test func `each reason has a place of its own`() {
        let all = RefusalReason.all
        #expect(all.map(\.number) == Array(0..<all.count))
        #expect("\(RefusalReason.forgedClientCert.label)" == RefusedTunnel.forgedClientCert)
        let register = RefusalRegister()
        for reason in all {
            register.note(reason, of: Self.address(1)) { Self.tunnel(1, $0) }
        }
        let refused = register.take()
        #expect(refused.tunnels.map(\.reason) == all.map { "\($0.label)" })
        #expect(refused.others.isEmpty)
    }
}
