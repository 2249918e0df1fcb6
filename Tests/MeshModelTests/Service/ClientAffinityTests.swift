import MeshModel
import Testing

@Suite("A client with affinity draws its endpoint")
struct ClientAffinityTests {
    private static let clients = (0..<2_000).map { IPAddress(high: 0, low: 0xffff_0a01_0000 + $0) }
    private static let endpoints = (0..<10).map { number in
        SocketAddress(IPAddress(high: 0, low: 0xffff_0a02_0000 + number), 8080)
    }

    private static func chosen(_ client: IPAddress, _ endpoints: [SocketAddress]) -> SocketAddress?
    {
        endpoints.max { ClientAffinity.draw(client, $0) < ClientAffinity.draw(client, $1) }
    }

    @Test func `clients are spread evenly`() {
        let counts = Dictionary(grouping: Self.clients) { Self.chosen($0, Self.endpoints) }
        #expect(counts.count == 10)
        // 200 expected of each; five standard deviations are 67.
        #expect(counts.values.allSatisfy { (133...267).contains($0.count) })
    }

    @Test func `who goes takes only his own clients along, who comes only what he draws`() {
        let fewer = Array(Self.endpoints.dropLast())
        for client in Self.clients {
            let (before, after) = (Self.chosen(client, Self.endpoints), Self.chosen(client, fewer))
            #expect(before == after || before == Self.endpoints.last)
        }
    }
}
