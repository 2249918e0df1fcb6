import MeshModel
import Testing

@testable import L7Engine

@Suite("Who was refused a tunnel is told by name, and a flood of them by number")
struct RefusalRegisterTests {
    private static func address(_ number: Int) -> IPAddress {
        IPAddress(v4: 0x0a00_0000 + UInt32(number))
    }

    private static let pod = IPAddress(v4: 0x0b00_0002)

    private static func tunnel(
        _ number: Int, _ reason: String, port: UInt16 = 40_000,
        pod: IPAddress = RefusalRegisterTests.pod, claim: String = ""
    ) -> RefusedTunnel {
        RefusedTunnel(
            peer: SocketAddress(address(number), port), pod: pod, reason: reason, claim: claim)
    }

    @Test func `a few of each reason are kept, the others are counted, and then it begins anew`() {
        let register = RefusalRegister()
        var made = 0
        for number in 1...1000 {
            register.note(.handshake(.untrusted), of: Self.address(number), at: Self.pod) {
                made += 1
                return Self.tunnel(number, $0)
            }
        }
        register.note(.handshake(.expired), of: Self.address(1), at: Self.pod) {
            Self.tunnel(1, $0)
        }
        let first = register.take()
        let kept = RefusalRegister.keptMax
        // Nothing is made of what is only counted.
        #expect(made == kept)
        #expect(first.tunnels.count { $0.reason == "untrusted" } == kept)
        #expect(first.tunnels.last?.reason == "expired")
        #expect(first.others == ["untrusted": 1000 - kept])
        #expect(register.take() == RefusedTunnels())
        register.note(.handshake(.untrusted), of: Self.address(1), at: Self.pod) {
            Self.tunnel(1, $0)
        }
        #expect(register.take().tunnels == [Self.tunnel(1, "untrusted")])
    }

    @Test func `a peer with another name each time has one place, and hides nobody`() {
        let register = RefusalRegister()
        for number in 1...1000 {
            register.note(.handshake(.untrusted), of: Self.address(1), at: Self.pod) {
                Self.tunnel(
                    1, $0, port: UInt16(number), claim: "spiffe://cluster.local/ns/a/sa/s\(number)")
            }
        }
        register.note(.handshake(.untrusted), of: Self.address(2), at: Self.pod) {
            Self.tunnel(2, $0)
        }
        // Whom this node dialled is another matter than who dialled it.
        register.note(.handshake(.untrusted), of: Self.address(1), at: Self.pod, isOurs: true) {
            Self.tunnel(3, $0)
        }
        let refused = register.take()
        #expect(refused.tunnels.map(\.peer.address) == (1...3).map(Self.address))
        #expect(refused.tunnels.first?.claim == "spiffe://cluster.local/ns/a/sa/s1")
        #expect(refused.others == ["untrusted": 999])
    }

    @Test(arguments: [false, true])
    func `a peer that was refused at several pods is kept at each of a few, and hides nobody`(
        _ isOurs: Bool
    ) {
        let register = RefusalRegister()
        func note(_ peer: Int, at number: Int) {
            let pod = Self.address(number)
            register.note(
                .handshake(.nameMismatch), of: Self.address(peer), at: pod, isOurs: isOurs
            ) {
                Self.tunnel(peer, $0, pod: pod)
            }
        }
        let (peers, pods) = (RefusalRegister.keptMax, RefusedTunnel.podsMax)
        // One of them again and again, and then more than are kept.
        for pod in [1, 1, 1, 1] + Array(2...1000) { note(1, at: pod) }
        for peer in 2...peers { note(peer, at: 1) }
        let refused = register.take()
        #expect(refused.tunnels.prefix(pods).map(\.pod) == (1...pods).map(Self.address))
        #expect(
            refused.tunnels.dropFirst(pods - 1).map(\.peer.address)
                == (1...peers).map(Self.address))
        #expect(refused.others == ["name_mismatch": 1003 - pods])
        note(1, at: 1000)
        #expect(register.take().tunnels.map(\.pod) == [Self.address(1000)])
    }

    @Test func `each reason has a place of its own`() {
        let all = RefusalReason.all
        #expect(all.map(\.number) == Array(0..<all.count))
        #expect("\(RefusalReason.forgedClientCert.label)" == RefusedTunnel.forgedClientCert)
        let register = RefusalRegister()
        for reason in all {
            register.note(reason, of: Self.address(1), at: Self.pod) { Self.tunnel(1, $0) }
        }
        let refused = register.take()
        #expect(refused.tunnels.map(\.reason) == all.map { "\($0.label)" })
        #expect(refused.others.isEmpty)
    }
}
