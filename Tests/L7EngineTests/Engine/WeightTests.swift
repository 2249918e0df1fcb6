import MeshModel
import Testing

@testable import L7Engine

@Suite("Weights where clients draw the endpoint that they stay with (docs/configuration.md)")
struct WeightTests {
    private static func end(_ last: UInt32) -> SocketAddress {
        SocketAddress(IPAddress(v4: 0x0a01_0000 + last), 8080)
    }

    @Test(arguments: [(19, 1, 0.95), (1, 1, 0.5), (1, 3, 0.25), (256, 1, 256.0 / 257)])
    func `each endpoint is drawn by its share of the clients`(
        _ one: UInt16, _ other: UInt16, _ share: Double
    ) {
        let count = 20_000
        let drawn = (0..<UInt32(count)).count { number in
            let client = IPAddress(v4: 0x0a02_0000 + number)
            func draw(_ end: UInt32, _ weight: UInt16) -> UInt64 {
                Worker.weighed(ClientAffinity.draw(client, Self.end(end)), weight)
            }
            return draw(1, one) > draw(2, other)
        }
        #expect(abs(Double(drawn) / Double(count) - share) < 0.02, "\(drawn) of \(count)")
    }

    @Test func `of the same weight the higher draw stays the higher one`() {
        let draws: [UInt64] = [0, 1 << 20, 1 << 40, 1 << 63, .max - 1 << 20, .max]
        let weighed = draws.map { Worker.weighed($0, 7) }
        #expect(weighed == weighed.sorted() && Set(weighed).count == draws.count)
    }
}
