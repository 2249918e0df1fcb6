internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("A translation that an older ABI recorded")
struct UncountedTranslationTests {
    private static func key(_ source: String, _ target: String) -> malla_flow_key {
        func end(_ text: String) -> (malla_address, UInt16) {
            let parts = text.split(separator: " ")
            return (malla_address(IPAddress(parts[0])!), UInt16(parts[1])!.bigEndian)
        }
        let (from, to) = (end(source), end(target))
        return malla_flow_key(
            source: from.0, target: to.0, source_port_be: from.1, target_port_be: to.1,
            protocol: 6, pad: (0, 0, 0))
    }

    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let kind: malla_nat_kind
        /// What the packet bears, and what it becomes.
        let key: (String, String)
        let becomes: (String, String)
        let isBack: Bool

        init(
            _ rule: String, _ kind: malla_nat_kind, _ key: (String, String),
            _ becomes: (String, String), isBack: Bool
        ) {
            (testDescription, self.kind, self.isBack) = (rule, kind, isBack)
            (self.key, self.becomes) = (key, becomes)
        }
    }

    private static let pod = "10.1.0.10"
    private static let service = "10.96.0.1"

    static let rows = [
        Row(
            "from outside", MALLA_NAT_FROM_FABRIC, ("198.51.100.1 5000", "10.0.0.1 30080"),
            ("10.0.0.1 61000", "10.2.0.11 8080"), isBack: false),
        Row(
            "its answers", MALLA_NAT_FROM_REMOTE, ("10.2.0.11 8080", "10.0.0.1 61000"),
            ("10.0.0.1 30080", "198.51.100.1 5000"), isBack: true),
        Row(
            "a pod to itself", MALLA_NAT_HOME, ("\(pod) 40000", "\(service) 80"),
            ("\(service) 40000", "\(pod) 8080"), isBack: false),
        Row(
            "its answers to itself", MALLA_NAT_HOME, ("\(pod) 8080", "\(service) 40000"),
            ("\(service) 80", "\(pod) 40000"), isBack: true),
        Row(
            "a pod to itself by a port that is the service's too", MALLA_NAT_HOME,
            ("\(pod) 40000", "\(service) 80"), ("\(service) 40000", "\(pod) 80"), isBack: false),
        Row(
            "the answers to that", MALLA_NAT_HOME, ("\(pod) 80", "\(service) 40000"),
            ("\(service) 80", "\(pod) 40000"), isBack: true),
    ]

    @Test(arguments: rows) func `goes on, and says which way it is`(_ row: Row) {
        let becomes = Self.key(row.becomes.0, row.becomes.1)
        let old = UncountedTranslation(
            becomes: becomes, seenNanoseconds: 77, kind: row.kind.rawValue, state: 1)
        let new = old.row(at: Self.key(row.key.0, row.key.1))

        #expect(new.becomes.source == becomes.source && new.becomes.target == becomes.target)
        #expect(new.becomes.source_port_be == becomes.source_port_be)
        #expect(new.seen_ns == 77 && new.kind == row.kind.rawValue)
        #expect(new.state == (row.isBack ? 1 | TranslationTable.ofAnswers : 1))
        #expect(new.packets == 0 && new.bytes == 0)
        #expect(MemoryLayout<UncountedTranslation>.size == 56)
    }
}
