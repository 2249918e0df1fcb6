import AdminAPI
import MeshModel
import Synchronization
import Testing

@testable import NodeAgent

@Suite("Flow events are kept, chosen and handed on")
struct FlowHistoryTests {
    private static func item(_ number: Int, verdict: String = "denied") -> FlowEventItem {
        FlowEventItem(
            time: "t\(number)", node: "n1", verdict: verdict, reason: "denied_ingress",
            protocol: "TCP", source: "10.1.0.1", sourcePort: 40000 + number,
            sourcePod: "shop/web-1", target: "fd00::2", targetPort: 80, targetPod: "shop/cart-1")
    }

    private static func question(_ query: String) -> FlowQuestion {
        (try? FlowQuestion(query)) ?? FlowQuestion()
    }

    @Test func `the oldest make room, and the last are answered in order`() throws {
        let history = FlowHistory(limit: 3)
        history.append((0..<5).map { Self.item($0) })
        #expect(history.last(FlowQuestion()).map(\.time) == ["t2", "t3", "t4"])
        #expect(history.last(try FlowQuestion("last=2")).map(\.time) == ["t3", "t4"])
        #expect(history.last(try FlowQuestion("last=0")) == [])
        #expect(history.counts == ["denied": 5])
    }

    @Test func `who follows gets the past once and then each new event that was asked for`() throws
    {
        let history = FlowHistory(limit: 8)
        history.append([Self.item(0), Self.item(1, verdict: "allowed")])
        let heard = Mutex<[String]>([])
        let started = try #require(
            history.follow(try FlowQuestion("verdict=denied")) { items in
                heard.withLock { $0 += items.map(\.time) }
            })
        #expect(started.past.map(\.time) == ["t0"])
        history.append([Self.item(2), Self.item(3, verdict: "allowed")])
        history.append([Self.item(4)])
        history.unfollow(started.follower)
        history.append([Self.item(5)])
        #expect(heard.withLock { $0 } == ["t2", "t4"])
    }

    @Test func `only so many may follow`() throws {
        let history = FlowHistory(limit: 1)
        for _ in 0..<FlowHistory.followersMax { _ = history.follow(FlowQuestion()) { _ in } }
        #expect(history.follow(FlowQuestion()) { _ in } == nil)
    }

    struct Row: CustomTestStringConvertible, Sendable {
        var query: String
        var admits: Bool
        var testDescription: String { query }
    }

    @Test(arguments: [
        Row(query: "pod=shop/web-1", admits: true), Row(query: "pod=shop/cart-1", admits: true),
        Row(query: "pod=shop/db-1", admits: false), Row(query: "namespace=shop", admits: true),
        Row(query: "namespace=sho", admits: false), Row(query: "verdict=denied", admits: true),
        Row(query: "verdict=denied_ingress", admits: true),
        Row(query: "verdict=denied_egress", admits: false), Row(query: "port=80", admits: true),
        Row(query: "port=40007", admits: true), Row(query: "port=81", admits: false),
        Row(query: "protocol=tcp", admits: true), Row(query: "protocol=UDP", admits: false),
        Row(query: "protocol=sctp", admits: false), Row(query: "protocol=6", admits: true),
        Row(query: "from=10.1.0.1", admits: true), Row(query: "from=10.0.0.0/8", admits: true),
        Row(query: "from=10.2.0.0/16", admits: false),
        Row(query: "from=shop/cart-1", admits: false),
        Row(query: "to=shop/cart-1", admits: true), Row(query: "to=fd00::/64", admits: true),
        Row(query: "to=10.0.0.0/8", admits: false),
        Row(query: "pod=shop/web-1&port=80&verdict=allowed", admits: false),
    ])
    func `a question admits what all of it holds for`(_ row: Row) throws {
        #expect(try FlowQuestion(row.query).admits(Self.item(7)) == row.admits)
        let lost = FlowReader.lost(3, "ring_full", node: "n1")
        #expect(try FlowQuestion(row.query).admits(lost), "lost events concern everybody")
    }

    @Test(arguments: [
        "last=-1", "port=65536", "port=http", "pod=web", "pod=10.0.0.1", "from=web", "colour=red",
        "pod=", "to=10.0.0.0/33", "port=0", "verdict=bogus", "protocol=foo",
    ])
    func `a question that means nothing is refused`(_ query: String) {
        #expect(throws: FlowQuestion.Fault.self) { try FlowQuestion(query) }
    }

    @Test func `times are RFC 3339 with microseconds`() {
        #expect(FlowNames.text(1_763_755_200_012_345_678) == "2025-11-21T20:00:00.012345Z")
    }
}
