import Foundation
import TestSupport
import Testing

@Suite("A pod that floods the flow table (docs/operations.md)", .serialized)
struct FloodTests {
    /// Of each pod: an eighth of the table.
    private static let quota = 64

    private static func flows(
        _ node: TestNode, of pod: String
    ) throws -> [String: TranslatedFlowTests.Item] {
        let own = try TranslatedFlowTests.items(node, pod).filter { $0.sourcePod == pod }
        return Dictionary(
            own.map { ("\($0.protocol) \($0.source) \($0.target)", $0) },
            uniquingKeysWith: { $1 })
    }

    /// Datagrams and connections from as many ports as the argument before the addresses says, to
    /// each address: one after another, all of them kept.
    private static let flood = """
        import socket, sys
        kept, answers = [], 0
        for address in sys.argv[2:]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for number in range(int(sys.argv[1])):
                s = socket.socket(family, socket.SOCK_DGRAM)
                s.settimeout(5)
                s.sendto(b"flood", (address, 5353))
                # Every other one waits, so that the flow is one in use.
                if number % 2:
                    try: answers += s.recv(9) == b"flood"
                    except TimeoutError: pass
                t = socket.socket(family)
                t.setblocking(False)
                t.connect_ex((address, 9001))
                kept += [s, t]
        print("answers", answers)
        """

    @Test func `keeps what another pod of its node has open, packet for packet, both families`()
        throws
    {
        let mesh = try SmallMesh.running(
            more: ["noisy"], options: ["--map-entries", "malla_flow=\(Self.quota * 8)"])
        defer { mesh.close() }
        let node = mesh.node
        let addresses = ["near", "far"].flatMap { [mesh.bed[$0].v4, mesh.bed[$0].v6] }
        func calls(_ addresses: [String]) -> [SteadyTraffic.Call] {
            addresses.flatMap {
                [.init(.echo, $0), .init(.stream, $0, 9001), .init(.datagram, $0, 5353)]
            }
        }
        let far = mesh.bed["far"]
        let traffic = try SteadyTraffic(
            mesh.bed, servers: ["near", "far"],
            [
                (.pod("client"), calls(addresses)),
                // Who is flooded: answers that come too late are flows of its own.
                (.pod("near"), calls([far.v4, far.v6])),
            ])
        func evicted(_ pod: String) throws -> Double {
            try node.metric("malla_flow_evictions_total{pod=\"bed/\(pod)\"}")
        }
        let steady = try ["client", "near"].map { pod in
            try Self.flows(node, of: "bed/\(pod)").filter { $0.value.packetsReceived > 0 }
        }
        #expect(steady[0].count >= 12 && steady[1].count >= 6, "\(steady)")

        let noisy = mesh.bed["noisy"]
        for _ in 0..<3 {
            let flood = try noisy.run(
                ["/usr/bin/python3", "-c", Self.flood, "\(Self.quota)"] + addresses, seconds: 60)
            #expect(flood.isSuccess, "\(flood)")
            // Each other processor may find the last place at the same time.
            let held = try Self.flows(node, of: "bed/noisy").count
            #expect(held <= Self.quota + ProcessInfo.processInfo.processorCount - 1)
        }
        // Each round opens eight times what one pod may hold.
        let gone = try evicted("noisy")
        #expect(gone > Double(3 * 6 * Self.quota), "\(gone)\n\(mesh.logs)")
        #expect(try evicted("client") == 0)

        for (pod, flows) in zip(["client", "near"], steady) {
            let during = try Self.flows(node, of: "bed/\(pod)")
            for (name, flow) in flows {
                let now = try #require(during[name], "\(name) is gone")
                #expect(now.packetsSent > flow.packetsSent, "\(name): no new flow, not idle")
                #expect(now.packetsReceived > flow.packetsReceived, "\(name)")
            }
        }
        let outcome = try traffic.stop()
        #expect(outcome.faults == [], "\(mesh.logs)")
        #expect(outcome.datagrams == outcome.asked - outcome.echoes && outcome.bytes > 0)
    }
}
