internal import MeshModel
internal import Testing

@Suite("Which endpoints get traffic (Kubernetes: kube-proxy's CategorizeEndpoints)")
struct EndpointChoiceTests {
    /// a letter each: r ready, n not ready, t terminating and serving, d terminating and not,
    /// 0 ready with weight 0
    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        /// `CONDITION NODE ZONE`, then `>zone` or `@node` hints.
        let ends: [String]
        var distribution: TrafficDistribution?
        let cluster: [Int]
        let local: [Int]
        let uses: [EndpointUse]

        init(
            _ rule: String, _ ends: [String], _ distribution: TrafficDistribution? = nil,
            cluster: [Int], local: [Int], _ uses: [EndpointUse]
        ) {
            testDescription = rule
            self.ends = ends
            self.distribution = distribution
            self.cluster = cluster
            self.local = local
            self.uses = uses
        }
    }

    /// On node n1 in zone a.
    static let rows = [
        Row(
            "ready ones", ["r n1 a", "n n1 a", "r n2 b"], cluster: [0, 2], local: [0],
            [.used, .notReady, .used]),
        Row(
            "terminating ones drain", ["r n1 a", "t n1 a", "d n2 b"], cluster: [0], local: [0],
            [.used, .draining, .draining]),
        Row(
            "terminating ones serve where none is ready", ["n n1 a", "t n2 a", "d n2 a"],
            cluster: [1], local: [], [.notReady, .usedWhileTerminating, .draining]),
        Row(
            "the same for those of this node alone", ["t n1 a", "r n2 a"], cluster: [1],
            local: [0], [.draining, .used]),
        Row(
            "PreferSameZone", ["r n2 a", "r n3 b"], .sameZone, cluster: [0], local: [],
            [.used, .otherZone]),
        Row(
            "PreferSameZone without one in the zone", ["r n2 b", "r n3 b"], .sameZone,
            cluster: [0, 1], local: [], [.used, .used]),
        Row(
            "PreferSameZone where the one in the zone is not ready", ["n n2 a", "r n3 b"],
            .sameZone, cluster: [1], local: [], [.notReady, .used]),
        Row(
            "PreferSameZone where a zone is unknown", ["r n2 a", "r n3 -"], .sameZone,
            cluster: [0, 1], local: [], [.used, .used]),
        Row(
            "PreferSameNode", ["r n1 a", "r n2 a"], .sameNode, cluster: [0], local: [0],
            [.used, .otherNode]),
        Row(
            "PreferSameNode falls back to the zone", ["r n2 a", "r n3 b"], .sameNode,
            cluster: [0], local: [], [.used, .otherZone]),
        Row(
            "hints of the slice, without any distribution", ["r n2 b >a", "r n3 b >b"],
            cluster: [0], local: [], [.used, .otherZone]),
        Row(
            "hints where one endpoint has none are ignored", ["r n2 b >a", "r n3 b"],
            cluster: [0, 1], local: [], [.used, .used]),
        Row(
            "hints for nodes beat those for zones", ["r n2 a @n1", "r n3 a @n3"],
            cluster: [0], local: [], [.used, .otherNode]),
        Row(
            "weight 0 gets nothing new", ["0 n1 a", "r n2 a"], cluster: [1], local: [],
            [.weightless, .used]),
        Row("weight 0 alone", ["0 n1 a"], cluster: [], local: [], [.weightless]),
        Row(
            "weight 0 in the preferred zone", ["0 n2 a", "r n3 b"], .sameZone, cluster: [1],
            local: [], [.weightless, .used]),
        Row("no endpoint at all", [], cluster: [], local: [], []),
    ]

    @Test(arguments: rows) func choice(_ row: Row) {
        let ends = row.ends.map(Self.endpoint)
        let choice = EndpointChoice(
            ends, distribution: row.distribution, node: "n1", zone: "a")
        #expect(choice.cluster == row.cluster)
        #expect(choice.local == row.local)
        #expect(ends.indices.map(choice.use) == row.uses)
    }

    private static func endpoint(_ text: String) -> Endpoint {
        let words = text.split(separator: " ").map(String.init)
        var endpoint = Endpoint(
            address: SocketAddress(IPAddress(v4: 0x0a01_0001), 80), node: words[1],
            isReady: words[0] == "r" || words[0] == "0",
            isServing: words[0] == "r" || words[0] == "t" || words[0] == "0",
            isTerminating: words[0] == "t" || words[0] == "d",
            zone: words[2] == "-" ? "" : words[2], weight: words[0] == "0" ? 0 : 1)
        for hint in words.dropFirst(3) {
            if hint.hasPrefix(">") { endpoint.hintZones.append(String(hint.dropFirst())) }
            if hint.hasPrefix("@") { endpoint.hintNodes.append(String(hint.dropFirst())) }
        }
        return endpoint
    }
}
