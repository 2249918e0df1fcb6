// Why no rule allows what policies deny by default: the rule that came nearest, and what it wanted
// instead. Read from the policies as they were written, for people.

/// The rule that would have allowed a flow with the fewest changes.
public struct PolicyNearest: Sendable, Hashable {
    public var rule: RuleReference
    /// `shop/web-1 is not app=frontend`, `port 81/TCP is not among 80/TCP`.
    public var why: String

    public init(rule: RuleReference, why: String) {
        self.rule = rule
        self.why = why
    }
}

extension Snapshot {
    /// Titles of the policies that select a pod in this direction, in the order of evaluation.
    ///
    /// - Parameter workload: into `mesh.workloads`.
    public func policyTitles(ofWorkload workload: Int, _ direction: PolicyDirection) -> [String] {
        policy.policies(ofWorkload: workload).filter { $0.rules(direction) != nil }.map(\.title)
    }

    /// `nil`: no policy of the pod has a rule that allows anything in this direction.
    ///
    /// - Parameters:
    ///   - workload: the pod whose policies decided, into `mesh.workloads`.
    ///   - peer: the other end.
    ///   - transport: the protocol's number.
    ///   - port: of the pod that would receive; 0 where the protocol has none.
    ///   - isAudited: policies on trial are asked too.
    public func nearest(
        workload: Int, _ direction: PolicyDirection, peer: IPAddress, transport: UInt8,
        port: UInt16, isAudited: Bool = false
    ) -> PolicyNearest? {
        let miss = PolicyMiss(
            snapshot: self, subject: workload, direction: direction, peer: peer,
            other: workloadsByAddress[peer], transport: transport, port: port)
        var best: (distance: Int, nearest: PolicyNearest)?
        for policy in policy.policies(ofWorkload: workload)
        where isAudited || !policy.isAudited {
            for (index, rule) in (policy.rules(direction) ?? []).enumerated()
            where rule.action == .accept {
                let found = miss.of(rule)
                guard found.distance < best?.distance ?? .max else { continue }
                let reference = RuleReference(
                    policy: policy.title, direction: direction,
                    part: .rule(index: index, name: rule.name))
                best = (found.distance, PolicyNearest(rule: reference, why: found.why))
            }
        }
        return best?.nearest
    }
}

/// What one rule lacks to allow one flow.
private struct PolicyMiss {
    /// How far from a match, and why; distance 0: it matches.
    typealias Answer = (distance: Int, why: String)

    let snapshot: Snapshot
    let subject: Int
    let direction: PolicyDirection
    let peer: IPAddress
    /// The peer's workload, if it is a pod.
    let other: Int?
    let transport: UInt8
    let port: UInt16

    private static let matched: Answer = (0, "")
    /// Further than any number of labels.
    private static let hopeless = 1_000
    private static let listedMax = 4

    func of(_ rule: PolicyRule) -> Answer {
        let peers = rule.peers.map(peers) ?? Self.matched
        let ports = rule.ports.map(ports) ?? Self.matched
        return (
            peers.distance + ports.distance,
            [peers.why, ports.why].filter { !$0.isEmpty }.joined(separator: "; ")
        )
    }

    // MARK: Peers

    private func peers(_ peers: [PolicyPeer]) -> Answer {
        peers.map(of).min { $0.distance < $1.distance } ?? (Self.hopeless, "it names no peer")
    }

    private func of(_ peer: PolicyPeer) -> Answer {
        switch peer {
        case .pods(let selection): pods(selection)
        case .network(let block, let except): network(block, except)
        case .nodes(let selector):
            snapshot.mesh.nodes.contains {
                $0.addresses.contains(self.peer) && selector.selects($0.labels)
            } ? Self.matched : (3, "\(self.peer) is no node with \(selector)")
        case .unsupported: (Self.hopeless, "its peer is of a kind that is not supported")
        }
    }

    private func pods(_ selection: PodSelection) -> Answer {
        guard let other else { return (3, "\(peer) is no pod") }
        let pod = snapshot.mesh.workloads[other]
        let space = pod.name.namespace
        var distance = 0
        var whys: [String] = []
        switch selection.namespaces {
        case .named(let name) where name != space:
            distance += 1
            whys.append("\(pod.name) is not in namespace \(name)")
        case .selected(let selector):
            let missing = Self.missing(selector, snapshot.mesh.labels(ofNamespace: space))
            distance += missing.requirements.count
            if distance > 0 { whys.append("namespace \(space) is not \(missing)") }
        case .named: break
        }
        let missing = Self.missing(selection.pods, pod.labels)
        distance += missing.requirements.count
        if !missing.requirements.isEmpty { whys.append("\(pod.name) is not \(missing)") }
        return (distance, whys.joined(separator: ", "))
    }

    /// The requirements that do not hold.
    private static func missing(
        _ selector: LabelSelector, _ labels: [String: String]
    ) -> LabelSelector {
        LabelSelector([:], selector.requirements.filter { !$0.holds(labels) })
    }

    private func network(_ block: IPPrefix, _ except: [IPPrefix]) -> Answer {
        guard block.contains(peer) else { return (2, "\(peer) is not in \(block)") }
        guard let hole = except.first(where: { $0.contains(peer) }) else { return Self.matched }
        return (1, "\(peer) is excepted by \(hole)")
    }

    // MARK: Ports

    private func ports(_ ports: [PolicyPort]) -> Answer {
        guard Self.names[transport] != nil else { return (2, "it allows ports only") }
        if ports.contains(where: holds) { return Self.matched }
        let listed =
            ports.prefix(Self.listedMax).map(Self.text)
            + (ports.count > Self.listedMax ? ["…"] : [])
        let isSameProtocol = ports.contains { $0.transport?.number ?? transport == transport }
        return (
            isSameProtocol ? 1 : 2,
            "port \(port)/\(Self.names[transport] ?? "") is not among "
                + (listed.isEmpty ? "none" : listed.joined(separator: ", "))
        )
    }

    private func holds(_ each: PolicyPort) -> Bool {
        guard each.transport?.number ?? transport == transport else { return false }
        switch each.number {
        case .any: return true
        case .range(let range): return range.contains(port)
        case .named(let name):
            let receiver = direction == .ingress ? subject : other
            let named = receiver.map { snapshot.mesh.workloads[$0].ports } ?? []
            return named.contains {
                $0.name == name && $0.transport.number == transport && $0.number == port
            }
        }
    }

    private static let names: [UInt8: String] = [6: "TCP", 17: "UDP", 132: "SCTP"]

    private static func text(_ port: PolicyPort) -> String {
        let number =
            switch port.number {
            case .any: "any"
            case .range(let range):
                range.count == 1
                    ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
            case .named(let name): name
            }
        return port.transport.map { "\(number)/\($0.rawValue)" } ?? number
    }
}
