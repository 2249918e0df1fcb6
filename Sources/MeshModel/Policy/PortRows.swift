// The rules that concern one pair of peers -> rows by protocol and port. Everything that tiers,
// priorities, Pass, default deny and audit mean is decided here, once a port range; the kernel only
// looks up the longest match.

/// One rule of one direction, ready to be evaluated.
struct PolicyEntry: Sendable {
    var tier: NetworkPolicy.Tier
    var action: PolicyRule.Action
    var isAudited: Bool
    var rule: UInt32
    var ports: [PolicyPort]?

    var hasNamedPorts: Bool {
        ports?.contains { if case .named = $0.number { true } else { false } } ?? false
    }
}

/// What is the case besides rules.
struct PolicyDefaults: Hashable, Sendable {
    /// Whether a NetworkPolicy selects the pod, so that what no rule allows is denied.
    var isIsolated: Bool
    /// The same of policies that are enforced, not only tried.
    var isIsolatedByEnforced: Bool
    var allow: UInt32
    var deny: UInt32
}

/// A row without set, identity and direction.
struct PortRow: Hashable, Sendable {
    var transport: UInt8
    var port: UInt16
    var bits: UInt8
    var decision: PolicyDecision
}

/// Entries with their ports known: named ports have become numbers.
struct PortRules {
    private struct Rule {
        var entry: PolicyEntry
        /// `nil`: everything.
        var ranges: [(transport: UInt8, ports: ClosedRange<UInt16>)]?
    }

    private let rules: [Rule]
    private let defaults: PolicyDefaults
    private let hasAudited: Bool
    static let transports: [TransportProtocol] = [.tcp, .udp, .sctp]

    /// - Parameters:
    ///   - entries: in the order of evaluation.
    ///   - named: the destination's ports with names.
    init(_ entries: [PolicyEntry], named: [NamedPort], _ defaults: PolicyDefaults) {
        self.defaults = defaults
        rules = entries.map { entry in
            Rule(entry: entry, ranges: entry.ports.map { Self.ranges($0, named) })
        }
        hasAudited =
            entries.contains(where: \.isAudited)
            || defaults.isIsolated != defaults.isIsolatedByEnforced
    }

    private static func ranges(
        _ ports: [PolicyPort], _ named: [NamedPort]
    ) -> [(transport: UInt8, ports: ClosedRange<UInt16>)] {
        ports.flatMap { port -> [(transport: UInt8, ports: ClosedRange<UInt16>)] in
            let transports = port.transport.map { [$0] } ?? Self.transports
            switch port.number {
            case .any: return transports.map { ($0.number, 0...UInt16.max) }
            case .range(let range): return transports.map { ($0.number, range) }
            case .named(let name):
                return named.filter { $0.name == name && transports.contains($0.transport) }
                    .map { ($0.transport.number, $0.number...$0.number) }
            }
        }
    }

    /// The decision for packets of protocols that no rule names.
    var otherProtocols: PolicyDecision { decide { $0.ranges == nil } }

    /// Disjoint under longest prefix match; the first row is the one for any protocol.
    func rows() -> [PortRow] {
        let other = otherProtocols
        var rows = [
            PortRow(transport: 0, port: 0, bits: PolicyRowKey.anyProtocolBits, decision: other)
        ]
        for transport in Self.transports.map(\.number) {
            appendRows(transport, besides: other, to: &rows)
        }
        return rows
    }

    private func appendRows(
        _ transport: UInt8, besides other: PolicyDecision, to rows: inout [PortRow]
    ) {
        var starts: Set<Int> = [0]
        for rule in rules {
            for range in rule.ranges ?? [] where range.transport == transport {
                starts.insert(Int(range.ports.lowerBound))
                starts.insert(Int(range.ports.upperBound) + 1)
            }
        }
        let isNamed = rules.contains { $0.ranges?.contains { $0.transport == transport } ?? false }
        guard isNamed else { return }
        let bounds = starts.filter { $0 <= 65535 }.sorted() + [65536]
        var segments: [(ports: Range<Int>, decision: PolicyDecision)] = []
        for (start, end) in zip(bounds, bounds.dropFirst()) {
            let port = UInt16(start)
            let decision = decide { rule in
                rule.ranges?.contains { $0.transport == transport && $0.ports.contains(port) }
                    ?? true
            }
            if let last = segments.last, last.decision == decision {
                segments[segments.count - 1].ports = last.ports.lowerBound..<end
            } else {
                segments.append((start..<end, decision))
            }
        }
        var weight: [PolicyDecision: Int] = [:]
        for segment in segments { weight[segment.decision, default: 0] += segment.ports.count }
        let base =
            segments.max { weight[$0.decision, default: 0] < weight[$1.decision, default: 0] }?
            .decision ?? other
        if base != other {
            rows.append(
                PortRow(
                    transport: transport, port: 0, bits: PolicyRowKey.anyPortBits, decision: base))
        }
        for segment in segments where segment.decision != base {
            for (port, bits) in Self.prefixes(segment.ports) {
                rows.append(
                    PortRow(
                        transport: transport, port: port, bits: PolicyRowKey.anyPortBits + bits,
                        decision: segment.decision))
            }
        }
    }

    /// The fewest aligned blocks that make up the range, each with its bits of 16.
    static func prefixes(_ ports: Range<Int>) -> [(port: UInt16, bits: UInt8)] {
        var found: [(port: UInt16, bits: UInt8)] = []
        var start = ports.lowerBound
        while start < ports.upperBound {
            var size = 1
            var bits: UInt8 = 16
            while bits > 0, start % (size * 2) == 0, start + size * 2 <= ports.upperBound {
                size *= 2
                bits -= 1
            }
            found.append((UInt16(start), bits))
            start += size
        }
        return found
    }

    // MARK: One packet

    private func decide(_ matches: (Rule) -> Bool) -> PolicyDecision {
        let enforced = walk(isolated: defaults.isIsolatedByEnforced) {
            !$0.entry.isAudited && matches($0)
        }
        guard hasAudited, enforced.isAllowed else { return enforced }
        var all = walk(isolated: defaults.isIsolated, matches)
        // What the policies on trial would deny passes, and is marked.
        if !all.isAllowed { all.isAudited = true }
        return all.isAllowed ? enforced : all
    }

    /// Admin, then NetworkPolicy, then Baseline.
    private func walk(isolated: Bool, _ matches: (Rule) -> Bool) -> PolicyDecision {
        var passed: NetworkPolicy.Tier?
        for rule in rules where rule.entry.tier != passed && matches(rule) {
            if rule.entry.tier == .baseline, isolated { break }
            switch rule.entry.action {
            case .accept: return PolicyDecision(isAllowed: true, rule: rule.entry.rule)
            case .deny: return PolicyDecision(isAllowed: false, rule: rule.entry.rule)
            case .pass: passed = rule.entry.tier
            }
        }
        return PolicyDecision(
            isAllowed: !isolated, rule: isolated ? defaults.deny : defaults.allow)
    }
}
