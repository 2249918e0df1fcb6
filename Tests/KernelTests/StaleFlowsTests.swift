internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

/// What a walk has found, and a client who dials again from his port before it is dropped.
@Suite("Flows to endpoints that are gone", .enabled(if: isRoot, "needs root"))
struct StaleFlowsTests {
    private static func end(_ text: String, _ port: UInt16) -> SocketAddress {
        SocketAddress(IPAddress(text)!, port)
    }

    private static let client = end("198.51.100.1", 5000)
    private static let service = end("10.0.0.1", 30080)
    private static let gone = end("10.1.0.11", 8080)
    private static let next = end("10.1.0.12", 8080)

    /// The client's flow to the service, which is `endpoint`'s, in both directions.
    private static func dial(
        _ maps: borrowing ServiceMaps, _ endpoint: SocketAddress, _ transport: TransportProtocol
    ) throws {
        var forth = malla_snat()
        forth.becomes = malla_flow_key(client, endpoint, transport)
        forth.kind = MALLA_NAT_FROM_FABRIC.rawValue
        var back = malla_snat()
        back.becomes = malla_flow_key(service, client, transport)
        back.kind = MALLA_NAT_OUT_OF_POD.rawValue
        try maps.translations.set(malla_flow_key(client, service, transport), to: forth)
        try maps.translations.set(malla_flow_key(endpoint, client, transport), to: back)
    }

    private static func state(
        _ maps: borrowing ServiceMaps, _ key: malla_flow_key
    ) -> UInt32? {
        maps.translations.value(of: key, placeholder: malla_snat())?.state
    }

    @Test(arguments: [TransportProtocol.tcp, .udp])
    func `of a pod to itself end both ways`(_ transport: TransportProtocol) throws {
        let place = try BPFMount()
        let rows = try ServiceRows(place.load())
        let service = Self.end("10.96.0.1", 80)
        let (from, seen) = (Self.end("10.1.0.11", 40000), Self.end("10.96.0.1", 40000))
        let keys = [
            malla_flow_key(from, service, transport), malla_flow_key(Self.gone, seen, transport),
        ]
        let becomes = [
            malla_flow_key(seen, Self.gone, transport), malla_flow_key(service, from, transport),
        ]
        for index in 0..<2 {
            var row = malla_snat()
            row.becomes = becomes[index]
            row.kind = MALLA_NAT_HOME.rawValue
            row.state = index == 0 ? 0 : TranslationTable.ofAnswers
            try rows.maps.translations.set(keys[index], to: row)
        }
        let given = rows.maps.givenEnds
        let pair = GivenEnd(
            endpoint: malla_end(Self.gone, transport), dialled: malla_end(service, transport))
        #expect(given == [pair])
        rows.maps.dropFlows(to: EndedEnds(whole: [], left: LeftEnds([pair])))
        let states = keys.map { Self.state(rows.maps, $0) }
        let cut = TranslationTable.cut
        let wanted: [UInt32?] =
            transport == .tcp ? [cut, cut | TranslationTable.ofAnswers] : [nil, nil]
        #expect(states == wanted)
    }

    @Test(arguments: [TransportProtocol.tcp, .udp])
    func `are dropped, but not what the client has dialled since they were found`(
        _ transport: TransportProtocol
    ) throws {
        let place = try BPFMount()
        let rows = try ServiceRows(place.load())
        let ended = EndedEnds(whole: [malla_end(Self.gone, transport)], left: LeftEnds())
        let forth = malla_flow_key(Self.client, Self.service, transport)
        try Self.dial(rows.maps, Self.gone, transport)
        let found = rows.maps.flows(to: ended)
        #expect(found.count == 2)
        try Self.dial(rows.maps, Self.next, transport)
        rows.maps.drop(found, to: ended)
        let kept = (
            Self.state(rows.maps, forth),
            Self.state(rows.maps, malla_flow_key(Self.next, Self.client, transport)),
            Self.state(rows.maps, malla_flow_key(Self.gone, Self.client, transport))
        )
        #expect(kept.0 == 0 && kept.1 == 0, "of the endpoint of now")
        #expect(kept.2 == nil)

        try Self.dial(rows.maps, Self.gone, transport)
        rows.maps.dropFlows(to: ended)
        let last = Self.state(rows.maps, forth)
        #expect(last == (transport == .tcp ? TranslationTable.cut : nil))
        // What was taken out meanwhile does not come again.
        try rows.maps.translations.remove(forth)
        rows.maps.drop([forth], to: ended)
        let again = Self.state(rows.maps, forth)
        #expect(again == nil)
    }
}
