import L7Engine
import MeshModel
import Testing

@testable import NodeAgent

@Suite("The log says who was refused a tunnel, and is not filled by who keeps on trying")
struct RefusalReportTests {
    private static let pod = IPAddress("10.2.0.7")!
    private static let thief = "spiffe://cluster.local/ns/shop/sa/web"

    private static func tunnel(
        _ peer: Int = 1, port: UInt16 = 40_000, _ reason: String = "name_mismatch"
    ) -> RefusedTunnel {
        RefusedTunnel(
            peer: SocketAddress(IPAddress("10.3.0.\(peer)")!, port), pod: pod, reason: reason,
            claim: thief)
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
                    + "at this address is; somebody uses a certificate that is not its own, or one "
                    + "of the nodes does not know the pod or its service account yet: compare "
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

    @Test func `the same peer again, from whatever port, is a number for a minute`() {
        var report = RefusalReport()
        #expect(report.lines(of: Self.refused([Self.tunnel()]), at: begin, Self.name).count == 1)
        for second in 1..<60 {
            let again = [Self.tunnel(port: UInt16(second)), Self.tunnel(port: UInt16(second + 99))]
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
