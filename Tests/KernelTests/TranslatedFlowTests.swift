internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

/// What the agent sees of malla_snat, in a map that nobody else writes to.
@Suite("Flows that are translated from outside", .enabled(if: isRoot, "needs root"))
struct TranslatedFlowTests {
    private static let client = end("198.51.100.1", 5000)
    private static let service = end("10.0.0.1", 30080)
    private static let node = end("10.0.0.1", 61000)
    private static let pod = end("10.2.0.11", 8080)
    private static let second: UInt64 = 1_000_000_000

    private static func end(_ text: String, _ port: UInt16) -> SocketAddress {
        SocketAddress(IPAddress(text)!, port)
    }

    /// The client's flow to the service, from his port and beyond; `back` says whose it is.
    private static func put(
        _ object: borrowing BPFObject, _ transport: TransportProtocol, _ back: malla_nat_kind,
        seen: UInt64, states: (UInt32, UInt32) = (1, 1)
    ) throws {
        let map = try BPFMap<malla_flow_key, malla_snat>(
            adopting: object.map("malla_snat"), name: "malla_snat")
        // Only what goes elsewhere is dialled by the node.
        let source = back == MALLA_NAT_FROM_REMOTE ? node : client
        let forth = malla_snat(
            becomes: malla_flow_key(source, pod, transport), packets: 7, bytes: 700, seen_ns: seen,
            kind: MALLA_NAT_FROM_FABRIC.rawValue, state: states.0)
        let answer = malla_snat(
            becomes: malla_flow_key(service, client, transport), packets: 5, bytes: 5000,
            seen_ns: seen, kind: back.rawValue, state: states.1 | TranslationTable.ofAnswers)
        try map.set(malla_flow_key(client, service, transport), to: forth)
        try map.set(malla_flow_key(pod, source, transport), to: answer)
    }

    private static func rowCount(_ object: borrowing BPFObject) throws -> UInt64 {
        try BPFMap<malla_flow_key, malla_snat>(
            adopting: object.map("malla_snat"), name: "malla_snat"
        ).count()
    }

    private static func entries(_ table: borrowing TranslationTable) -> [FlowEntry] {
        var entries: [FlowEntry] = []
        let now = FlowClock.nanoseconds()
        table.forEachFlow { flow in
            guard flow.isAlone else { return }
            entries.append(FlowEntry(flow, isPressed: false, now: now))
        }
        return entries
    }

    @Test(arguments: [MALLA_NAT_FROM_REMOTE, MALLA_NAT_OUT_OF_NODE, MALLA_NAT_OUT_OF_POD])
    func `are listed once, both ways counted, where malla_flow does not know them`(
        _ kind: malla_nat_kind
    ) throws {
        let place = try BPFMount()
        let object = try place.load()
        try Self.put(object, .tcp, kind, seen: FlowClock.nanoseconds())
        let table = try TranslationTable(object)
        let entries = Self.entries(table)
        guard kind != MALLA_NAT_OUT_OF_POD else {
            #expect(entries.isEmpty)
            return
        }
        let entry = try #require(entries.first)
        #expect(entries.count == 1)
        #expect(entry.source == Self.client && entry.target == Self.service)
        #expect(entry.other == Self.pod && entry.kind == "translated" && entry.state == "open")
        #expect(entry.packets == (7, 5) && entry.bytes == (700, 5000))
        #expect(entry.idle < .seconds(60) && entry.remaining > .seconds(7900))
    }

    @Test func `are flushed by any of their ends; an open connection keeps its endpoint`() throws {
        let place = try BPFMount()
        let object = try place.load()
        let now = FlowClock.nanoseconds()
        try Self.put(object, .udp, MALLA_NAT_FROM_REMOTE, seen: now)
        try Self.put(object, .tcp, MALLA_NAT_FROM_REMOTE, seen: now)
        let table = try TranslationTable(object)
        let stranger = malla_address(IPAddress("192.0.2.77")!)
        let none = table.flush(of: stranger)
        let kept = Self.entries(table)
        #expect(none == 0 && kept.count == 2)
        let both = table.flush(of: malla_address(Self.pod.address))
        let left = Self.entries(table)
        #expect(both == 2 && left.map(\.protocolNumber) == [6])
        // Closed by both: nothing is lost with it.
        try Self.put(object, .tcp, MALLA_NAT_FROM_REMOTE, seen: now, states: (3, 3))
        let closed = table.flush(of: nil)
        let rows = try Self.rowCount(object)
        #expect(closed == 1 && rows == 0, "of both directions")
    }

    @Test func `are counted as collected once, where malla_flow does not know them`() throws {
        let place = try BPFMount()
        let object = try place.load()
        let old = FlowClock.nanoseconds() - 200 * Self.second
        var table = try TranslationTable(object)
        for (kind, count) in [
            (MALLA_NAT_OUT_OF_POD, 0), (MALLA_NAT_FROM_REMOTE, 1), (MALLA_NAT_OUT_OF_NODE, 2),
        ] {
            try Self.put(object, .udp, kind, seen: old)
            table.collect()
            let (collected, rows) = (table.collected, try Self.rowCount(object))
            #expect(collected == UInt64(count) && rows == 0)
        }
    }
}
