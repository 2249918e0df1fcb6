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
}
