internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("More pods elsewhere than malla_peer has rows")
struct PeerRoomTests {
    private static let plain = UInt32(MALLA_PEER_POD)
    private static let tunnelled = UInt32(MALLA_PEER_POD | MALLA_PEER_HBONE)

    private func address(_ text: String) throws -> malla_address {
        malla_address(try #require(IPAddress(text)))
    }

    @Test func `a row that only spares a way is not taken from one that asks for a tunnel`() throws
    {
        var wanted: [malla_address: UInt32] = [:]
        for number in 1...6 { wanted[try address("10.2.0.\(number)")] = Self.plain }
        let tunnels = try ["10.3.0.1", "10.3.0.2", "10.3.0.3"].map(address)
        for tunnel in tunnels { wanted[tunnel] = Self.tunnelled }
        #expect(PeerRoom.fitting(wanted, room: 9, held: [:]) == wanted)

        let held = try address("10.2.0.5")
        let most = PeerRoom.fitting(wanted, room: 4, held: [held: Self.plain])
        #expect(Set(most.keys) == Set(tunnels + [held]))
        let few = PeerRoom.fitting(wanted, room: 2, held: [tunnels[2]: Self.tunnelled])
        #expect(few.count == 2 && few[tunnels[2]] != nil)
        #expect(few.values.allSatisfy { $0 == Self.tunnelled })
    }

    /// The engine, which a block leads to, tunnels for some pods only; such a row speaks for all.
    @Test func `who insists and can be reached by no tunnel has a row before the others`() throws {
        let strict = UInt32(MALLA_PEER_POD | MALLA_PEER_STRICT)
        let (tunnel, insists) = (try address("10.3.0.1"), try address("10.3.0.2"))
        let most = PeerRoom.fitting(
            [tunnel: Self.tunnelled, insists: strict], room: 1, held: [tunnel: Self.tunnelled])
        #expect(most == [insists: strict])
    }

    @Test func `the blocks hold every address that is left out, and few others`() throws {
        #expect(PeerRoom.blocks(holding: []).isEmpty)
        let two = PeerRoom.blocks(holding: [try address("10.2.0.1"), try address("fd00:2::1")])
        #expect(Set(two.map { IPPrefix($0).description }) == ["10.2.0.1/32", "fd00:2::1/128"])

        var all: [IPAddress] = []
        for net in 0..<40 {
            for host in 1...20 {
                all.append(try #require(IPAddress("10.\(net).7.\(host)")))
                all.append(try #require(IPAddress("fd00:\(net)::\(host)")))
            }
        }
        let blocks = PeerRoom.blocks(holding: all.map { malla_address($0) }).map { IPPrefix($0) }
        #expect(blocks.count <= PeerRoom.blocksMax)
        #expect(all.allSatisfy { one in blocks.contains { $0.contains(one) } })
        for other in ["10.200.0.1", "192.0.2.1", "fd01::1", "2001:db8::1"] {
            let other = try #require(IPAddress(other))
            #expect(!blocks.contains { $0.contains(other) }, "\(other) in \(blocks)")
        }
    }

    /// Nodes and pods share a network, and every fifth address is a node's.
    @Test func `no block takes a node for a pod`() throws {
        var wanted: [malla_address: UInt32] = [:]
        var nodes: Set<malla_address> = []
        for number in 1...250 {
            let one = try address("10.2.0.\(number)")
            if number % 5 == 0 { nodes.insert(one) } else { wanted[one] = Self.tunnelled }
        }
        nodes.insert(try address("192.0.2.1"))
        var room = PeerRoom()
        for size in [1, 20, 80, 120, 199] {
            let plan = room.plan(wanted, nodes: nodes, room: size, held: [:])
            #expect(plan.rows.count <= size)
            let blocks = plan.blocks.map { IPPrefix($0) }
            func isWithin(_ one: malla_address) -> Bool {
                blocks.contains { $0.contains(IPAddress(one)) }
            }
            #expect(wanted.allSatisfy { plan.rows[$0.key] == $0.value || isWithin($0.key) })
            let taken = nodes.filter { isWithin($0) && plan.rows[$0] != 0 }
            // All but where there is no room for as many nodes.
            #expect(taken.count == max(0, nodes.filter(isWithin).count - size), "\(size)")
            #expect(plan.rows.filter { nodes.contains($0.key) }.allSatisfy { isWithin($0.key) })
            #expect(plan.leftOut == wanted.count - plan.rows.count { $0.value != 0 })
        }
        let all = room.plan(wanted, nodes: nodes, room: 200, held: [:])
        #expect(all == PeerRoom.Plan(rows: wanted))
    }

    @Test func `pods that are the same are ranked once`() throws {
        var wanted: [malla_address: UInt32] = [:]
        for number in 1...9 { wanted[try address("10.2.0.\(number)")] = Self.tunnelled }
        var room = PeerRoom()
        let first = room.plan(wanted, nodes: [], room: 4, held: [:])
        #expect(room.plan(wanted, nodes: [], room: 4, held: first.rows) == first)
        #expect(room.rankings == 1)
        wanted[try address("10.2.0.10")] = Self.plain
        #expect(room.plan(wanted, nodes: [], room: 4, held: first.rows).rows == first.rows)
        #expect(room.rankings == 2)
    }
}
