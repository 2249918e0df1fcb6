internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("Pods elsewhere, in a map that is too small", .enabled(if: isRoot, "needs root"))
struct PeerRowsTests {
    private static func rows(_ numbers: ClosedRange<Int>) -> MapRows {
        var rows = MapRows()
        let flags = UInt32(MALLA_PEER_POD | MALLA_PEER_HBONE)
        func address(_ number: Int) -> malla_address {
            malla_address(IPAddress(v4: 0x0a02_0000 + UInt32(number)))
        }
        for number in numbers { rows.peers[address(number)] = flags }
        rows.nodes = Set([300, 600, 900].map(address))
        for node in rows.nodes { rows.peers[node] = nil }
        return rows
    }

    @Test func `are ranked once as long as they are the same, and nodes among them are none`()
        throws
    {
        let place = try BPFMount()
        let object = try place.load(["malla_peer": 64])
        var kernel = try KernelRows(object)
        for _ in 1...3 {
            let problems = try kernel.apply(Self.rows(1...2000))
            #expect(problems.map(\.subject) == ["map malla_peer"])
            let rankings = kernel.tunnels.room.rankings
            #expect(rankings == 1)
        }
        let held = kernel.tunnels.heldPeers
        #expect(held.count == 64)
        for node in Self.rows(1...2000).nodes {
            let row = kernel.tunnels.peers.value(of: node, placeholder: 9)
            #expect(row == 0)
        }
        // Others than those that have rows: the kernel has no room until these are gone.
        let others = try kernel.apply(Self.rows(1500...2400))
        #expect(!others.isEmpty)
        let wanted = Self.rows(1500...2400)
        let blocks = kernel.tunnels.heldUnlisted.keys.map { IPPrefix($0) }
        let now = kernel.tunnels.heldPeers
        for (address, flags) in wanted.peers {
            let isIn = blocks.contains { $0.contains(IPAddress(address)) }
            #expect(now[address] == flags || now[address] == nil && isIn)
        }
        #expect(now.keys.allSatisfy { wanted.peers[$0] != nil || wanted.nodes.contains($0) })
        let enough = try kernel.apply(Self.rows(1...60))
        #expect(enough.isEmpty)
        let left = kernel.tunnels.heldUnlisted
        #expect(left.isEmpty)
    }
}
