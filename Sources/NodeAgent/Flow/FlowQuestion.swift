internal import AdminAPI
internal import BPFLoader
internal import MeshModel

/// What `/v1/flows` is asked: which events, how many of those that were, and whether to go on.
struct FlowQuestion: Sendable, Equatable {
    struct Fault: Error, Equatable {
        var text: String
    }

    /// One end, as `from` and `to` name it.
    enum End: Sendable, Equatable {
        case pod(String)
        case block(IPPrefix)
    }

    static let lastDefault = 20
    private static let outcomes = ["denied", "audited", "allowed", "lost"]

    var last = lastDefault
    var follows = false
    /// `namespace/name`, at either end.
    var pod: String?
    /// Of a pod at either end.
    var namespace: String?
    /// `denied`, `audited`, `allowed`, or a reason.
    var verdict: String?
    /// At either end.
    var port: Int?
    var transport: String?
    var from: End?
    var to: End?

    init() {}

    /// `query`: `last=20&follow=1&pod=shop/web&verdict=denied&port=80&from=10.0.0.0/8`.
    init(_ query: String) throws(Fault) {
        for pair in query.split(separator: "&") {
            let halves = pair.split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false
            ).map(String.init)
            let value = halves.count == 2 ? halves[1] : ""
            guard !value.isEmpty else { throw Fault(text: "'\(halves[0])' has no value") }
            switch halves[0] {
            case "last":
                guard let number = Int(value), number >= 0 else {
                    throw Fault(text: "last '\(value)' is no number")
                }
                last = number
            case "follow": follows = value == "1"
            case "pod":
                guard case .pod(let name) = try Self.end(value) else {
                    throw Fault(text: "'\(value)' is no NAMESPACE/POD")
                }
                pod = name
            case "namespace": namespace = value
            case "verdict":
                guard Self.outcomes.contains(value) || VerdictName.all.contains(value) else {
                    throw Fault(
                        text: "verdict '\(value)' is not denied, audited, allowed or a reason of "
                            + "docs/verdicts.md, such as denied_ingress")
                }
                verdict = value
            case "port":
                guard let number = Int(value), (1...65535).contains(number) else {
                    throw Fault(text: "port '\(value)' is not in 1...65535")
                }
                port = number
            case "protocol":
                let known = PolicyQuestion.protocols[value.uppercased()]
                guard let number = UInt8(value) ?? known else {
                    throw Fault(
                        text: "protocol '\(value)' is not TCP, UDP, SCTP, ICMP, ICMPv6 or a "
                            + "number")
                }
                transport = Agent.protocolName(number).uppercased()
            case "from": from = try Self.end(value)
            case "to": to = try Self.end(value)
            default: throw Fault(text: "'\(halves[0])' is nothing to ask flows for")
            }
        }
    }

    private static func end(_ text: String) throws(Fault) -> End {
        if let address = IPAddress(text) { return .block(IPPrefix(address)) }
        if let block = IPPrefix(text) { return .block(block) }
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ !$0.isEmpty }), IPAddress(parts[0]) == nil else {
            throw Fault(text: "'\(text)' is neither NAMESPACE/POD nor an address or block")
        }
        return .pod(text)
    }

    /// That events are lost concerns everybody.
    func admits(_ item: FlowEventItem) -> Bool {
        if item.verdict == "lost" { return true }
        let pods = [item.sourcePod, item.targetPod]
        if let pod, !pods.contains(pod) { return false }
        if let namespace, !pods.contains(where: { $0.hasPrefix(namespace + "/") }) { return false }
        if let verdict, verdict != item.verdict, verdict != item.reason { return false }
        if let port, port != item.sourcePort, port != item.targetPort { return false }
        if let transport, transport != item.protocol.uppercased() { return false }
        return Self.holds(from, item.sourcePod, item.source)
            && Self.holds(to, item.targetPod, item.target)
    }

    private static func holds(_ end: End?, _ pod: String, _ address: String) -> Bool {
        switch end {
        case .none: true
        case .pod(let name): pod == name
        case .block(let block): IPAddress(address).map { block.contains($0) } ?? false
        }
    }
}
