import L7Engine
import MeshModel
import Testing

@testable import NodeAgent

@Suite("The log says who was refused a tunnel, and is not filled by who keeps on trying")
struct RefusalReportTests {
    private static let pod = IPAddress("10.2.0.7")!
    private static let thief = "spiffe://cluster.local/ns/shop/sa/web"

    private static func tunnel(
        _ peer: Int = 1, port: UInt16 = 40_000, _ reason: String = "name_mismatch",
        pod: IPAddress = RefusalReportTests.pod, claim: String = RefusalReportTests.thief
    ) -> RefusedTunnel {
        RefusedTunnel(
            peer: SocketAddress(IPAddress("10.3.0.\(peer)")!, port), pod: pod, reason: reason,
            claim: claim)
    }

    private static func refused(
        _ tunnels: [RefusedTunnel], _ others: [String: Int] = [:]
    ) -> RefusedTunnels {
        var refused = RefusedTunnels()
        (refused.tunnels, refused.others) = (tunnels, others)
        return refused
    }

    private static func name(_ address: IPAddress) -> String? {
        address == pod ? "shop/stock" : nil
    }

    private let begin = ContinuousClock.now
    private func at(_ seconds: Int) -> ContinuousClock.Instant { begin + .seconds(seconds) }

    @Test func `a line names the peer, whom it claims to be, the pod, the reason and a remedy`() {
        var report = RefusalReport()
        let line = report.lines(of: Self.refused([Self.tunnel()]), at: begin, Self.name)
        #expect(
            line == [
                "a tunnel from 10.3.0.1:40000, whose certificate names \(Self.thief), to pod "
                    + "shop/stock (10.2.0.7) was refused (name_mismatch): that is not who the pod "
                    + "at this address is, or it is a pod's name and no pod is there; somebody "
                    + "uses a certificate that is not its own, or one of the nodes does not know "
                    + "the pod or its service account yet: compare "
                    + "`malla mtls` and `malla certs`"
            ])
        var connect = Self.tunnel(2, "connect_elsewhere")
        connect.asked = SocketAddress(IPAddress("127.0.0.1")!, 15_020)
        let other = report.lines(of: Self.refused([connect]), at: begin, Self.name)
        #expect(other.first?.hasPrefix("a tunnel for 127.0.0.1:15020 from 10.3.0.2:") == true)
        let ours = RefusedTunnel(
            isOurs: true, peer: SocketAddress(Self.pod, 15_008), pod: .anyV6, reason: "expired")
        let own = report.lines(of: Self.refused([ours]), at: begin, Self.name)
        #expect(
            own.first?.hasPrefix(
                "a tunnel from a Gateway to pod shop/stock (10.2.0.7:15008) was given up (expired)")
                == true, "\(own)")
    }

    @Test func `a forged field is told of with who sent it, where it went, and what was done`() {
        var report = RefusalReport()
        var forged = Self.tunnel(1, RefusedTunnel.forgedClientCert, claim: "")
        forged.asked = SocketAddress(Self.pod, 8080)
        let lines = report.lines(
            of: Self.refused([forged], [RefusedTunnel.forgedClientCert: 5]), at: begin, Self.name)
        #expect(
            lines == [
                "a request from 10.3.0.1:40000 to pod shop/stock (10.2.0.7:8080) brought an "
                    + "x-forwarded-client-cert, which was taken out (forged_client_cert): who a "
                    + "request is from is what its connection has proved, not what it says itself; "
                    + "the request went on as from this peer: a proxy outside of the mesh, or a "
                    + "pod that passes on what it got, means no harm; else find out whom it "
                    + "pretends to be"
            ])
        #expect(
            report.lines(of: RefusedTunnels(), at: at(60), Self.name) == [
                "5 more requests brought an x-forwarded-client-cert, which was taken out, within "
                    + "60 s (forged_client_cert), of peers named before or too many to be named"
            ])
    }

    static let connects = [
        ("denied_by_policy", "): network policies do not let it reach the pod, or the client for"),
        ("connect_unavailable", "): the pod did not take the connection; see whether it runs"),
    ]

    @Test(arguments: connects)
    func `a CONNECT that was in order, and refused, has words of its own`(
        _ reason: String, _ words: String
    ) {
        var report = RefusalReport()
        var tunnel = Self.tunnel(1, reason)
        tunnel.asked = SocketAddress(Self.pod, 8080)
        let lines = report.lines(of: Self.refused([tunnel]), at: begin, Self.name)
        #expect(lines.count == 1 && lines[0].contains("(\(reason)\(words)"), "\(lines)")
        #expect(lines.first?.hasPrefix("a tunnel for 10.2.0.7:8080 from 10.3.0.1:") == true)
    }

    @Test func `a peer that names itself anew each time has one line a minute, and hides none`() {
        var report = RefusalReport()
        var lines: [String] = []
        for second in stride(from: 0, to: 60, by: 2) {
            let flood = (0..<8).map {
                Self.tunnel(1, "untrusted", claim: "spiffe://a/ns/b/sa/\(second)-\($0)")
            }
            let last = second == 58 ? [Self.tunnel(2, "untrusted")] : []
            lines += report.lines(of: Self.refused(flood + last), at: at(second), Self.name)
        }
        #expect(lines.count == 2, "\(lines)")
        #expect(lines.first?.contains("10.3.0.1:") == true)
        #expect(lines.last?.contains("10.3.0.2:") == true)
    }

    @Test func `a peer that is refused at another pod is named there, too, however often before`() {
        var report = RefusalReport()
        let decoy = Self.tunnel(pod: IPAddress("10.2.0.1")!)
        #expect(report.lines(of: Self.refused([decoy]), at: begin, Self.name).count == 1)
        let lines = report.lines(
            of: Self.refused([decoy, Self.tunnel()]), at: at(2), Self.name)
        #expect(lines.count == 1 && lines[0].contains("to pod shop/stock (10.2.0.7)"), "\(lines)")
    }

    @Test func `who dials many pods has a few lines a minute, and others come before them`() {
        var report = RefusalReport()
        var own = 0
        for second in stride(from: 0, to: 60, by: 2) {
            let many = (1...4).map {
                Self.tunnel(1, pod: IPAddress("10.2.\(second).\($0)")!)
            }
            // Another one each time, behind all of that.
            let late = Self.tunnel(2 + second)
            let lines = report.lines(of: Self.refused(many + [late]), at: at(second), Self.name)
            #expect(lines.count { $0.contains("10.3.0.\(2 + second):") } == 1, "\(lines)")
            own += lines.count { $0.contains("from 10.3.0.1:") }
        }
        #expect(own == RefusedTunnel.podsMax)
    }

    @Test func `the same peer again, from whatever port, is a number for a minute`() {
        var report = RefusalReport()
        #expect(report.lines(of: Self.refused([Self.tunnel()]), at: begin, Self.name).count == 1)
        for second in 1..<60 {
            let again = [
                Self.tunnel(port: UInt16(second)),
                Self.tunnel(port: UInt16(second + 99), claim: "spiffe://a/\(second)"),
            ]
            let lines = report.lines(of: Self.refused(again), at: at(second), Self.name)
            #expect(lines.isEmpty, "\(second): \(lines)")
        }
        let lines = report.lines(of: Self.refused([Self.tunnel()]), at: at(61), Self.name)
        #expect(lines.count == 2 && lines.first?.contains("10.3.0.1:40000") == true, "\(lines)")
        #expect(
            lines.last == "118 more tunnels were refused within 60 s (name_mismatch), of peers "
                + "named before or too many to be named")
        #expect(report.lines(of: RefusedTunnels(), at: at(300), Self.name).isEmpty)
    }

    @Test func `a flood of one reason has a few lines, hides no other, and is counted whole`() {
        var report = RefusalReport()
        let flood = (1...100).map { Self.tunnel($0, "untrusted") }
        let lines = report.lines(
            of: Self.refused(flood + [Self.tunnel(7, "expired")], ["untrusted": 1_000_000]),
            at: begin, Self.name)
        #expect(lines.count { $0.contains("(untrusted)") } == RefusalReport.linesMax)
        #expect(lines.count { $0.contains("(expired)") } == 1)
        let later = report.lines(of: RefusedTunnels(), at: at(60), Self.name)
        let left = 1_000_100 - RefusalReport.linesMax
        #expect(later.count == 1 && later[0].hasPrefix("\(left) more"), "\(later)")
    }

    @Test func `no more peers are remembered than its limit`() {
        var report = RefusalReport()
        var count = 0
        for look in 0..<29 {
            let all = (0..<250).map { Self.tunnel($0, "untrusted \(look) \($0 % 50)") }
            count += report.lines(of: Self.refused(all), at: at(2 * look), Self.name).count
        }
        #expect(count == RefusalReport.rememberedMax)
    }
}
