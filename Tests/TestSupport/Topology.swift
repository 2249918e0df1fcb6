// One line that says which nodes there are and which pods run on them, and the addresses that
// follow from it.

/// `n1: client, near; n2: far` as a value.
///
/// Addresses follow from the order: node *i* is 10.76.0.i and fd00:76::i, its pods are in
/// 10.77.i.0/24 and fd00:77:i::/64, from .10 and ::10 on. They exist only inside namespaces.
public struct Topology: Sendable {
    public struct Pod: Sendable {
        public var name: String
        public var node: String
        public var v4: String
        public var v6: String
        /// The host side of its veth, in the node's namespace.
        public var interface: String { "lxc-\(name)" }
    }
    public struct Node: Sendable {
        public var name: String
        public var index: Int
        public var v4: String { "10.76.0.\(index)" }
        public var v6: String { "fd00:76::\(index)" }
        public var pods: [Pod]
        var podsV4: String { "10.77.\(index).0/24" }
        var podsV6: String { "fd00:77:\(index)::/64" }
    }

    /// A host on the fabric that is no node: where clients from outside are.
    public static let outsideV4 = "10.76.0.254"
    public static let outsideV6 = "fd00:76::254"
    /// The fabric's namespace.
    public static let fabric = "fabric"

    public let text: String
    public let nodes: [Node]
    public var pods: [Pod] { nodes.flatMap(\.pods) }

    public init(_ text: String) throws {
        self.text = text
        var nodes: [Node] = []
        var names: Set<String> = [Self.fabric]
        for part in text.split(separator: ";") {
            let halves = part.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let index = nodes.count + 1
            let name = Self.trimmed(halves[0])
            let podNames =
                halves.count == 1 ? [] : halves[1].split(separator: ",").map(Self.trimmed)
            let pods = podNames.filter { !$0.isEmpty }.enumerated().map { offset, pod in
                Pod(
                    name: pod, node: name, v4: "10.77.\(index).\(10 + offset)",
                    v6: "fd00:77:\(index)::\(10 + offset)")
            }
            nodes.append(Node(name: name, index: index, pods: pods))
            for each in [name] + pods.map(\.name) {
                // A pod's interface is lxc-NAME, and Linux ends interface names at 15 bytes.
                guard !each.isEmpty, each.utf8.count <= 11, names.insert(each).inserted else {
                    throw CommandFailure(description: "topology: bad or second name '\(each)'")
                }
            }
        }
        self.nodes = nodes
    }

    private static func trimmed(_ text: Substring) -> String {
        String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
