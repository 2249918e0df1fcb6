// The flat arrays behind a RouteTable and the walk through them.

/// - Threads: any; immutable after `init`.
public final class CompiledRoutes: Sendable {
    /// Everything that is text: keys, names, values, ready header lines.
    public let text: [UInt8]
    public let names: [ByteRange]
    public let rules: [CompiledRule]
    public let backends: [CompiledBackend]
    public let redirects: [CompiledRedirect]

    let parts: Parts

    /// What only `find` reads.
    struct Parts: Sendable {
        var slots: [Slot] = []
        var scopes = HostMap()
        var scopeHosts: [HostMap] = []
        var groups: [Group] = []
        var prefixLengths: [Int32] = []
        var ranges: [Candidates] = []
        var candidates: [Candidate] = []
        var conditions: [Condition] = []
        var expressions: [RegularExpression] = []
    }

    init(
        text: [UInt8], names: [ByteRange], rules: [CompiledRule], backends: [CompiledBackend],
        redirects: [CompiledRedirect], parts: Parts
    ) {
        self.text = text
        self.names = names
        self.rules = rules
        self.backends = backends
        self.redirects = redirects
        self.parts = parts
    }

    /// One place of an open-addressed hash table; `value` < 0: free.
    struct Slot: Sendable, BitwiseCopyable {
        var hash: UInt32 = 0
        var key = ByteRange.empty
        var value: Int32 = -1
    }
    /// A hash table's part of `slots`; `count` is a power of two or 0.
    struct SlotMap: Sendable, BitwiseCopyable {
        var first: Int32 = 0
        var count: Int32 = 0
    }
    struct HostMap: Sendable, BitwiseCopyable {
        var exact = SlotMap()
        /// Keys are the suffixes with their first dot.
        var wildcard = SlotMap()
        /// Of those keys.
        var labels = HostLabels()
        var any: Int32 = -1
    }
    struct Candidates: Sendable, BitwiseCopyable {
        var start: Int32 = 0
        var end: Int32 = 0
    }
    /// The rules under one hostname of one listener.
    struct Group: Sendable, BitwiseCopyable {
        var exact = SlotMap()
        var prefix = SlotMap()
        /// Into `prefixLengths`, longest first, without that of `/`.
        var lengths = Candidates()
        var expressions = Candidates()
        /// Those whose prefix is `/`.
        var all = Candidates()
    }
    struct Candidate: Sendable, BitwiseCopyable {
        var rule: Int32
        var prefixLength: Int32
        /// Into `expressions`; -1: none.
        var pathExpression: Int32
        var method: ByteRange
        var headers: Candidates
        var query: Candidates
    }
    struct Condition: Sendable, BitwiseCopyable {
        var name: ByteRange
        var value: ByteRange
        /// Into `expressions`; -1: `value` is compared.
        var expression: Int32
    }
}

extension CompiledRoutes {
    /// As `RouteTable.find`.
    public func find(_ head: RequestHead) -> RouteMatch? {
        // Safe: `text` lives as long as self and never changes.
        unsafe text.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return nil }
            let text = unsafe Bytes(base, count: buffer.count)
            var scope: Int32 = -1
            _ = eachHost(parts.scopes, head.bytes, head.host, text) {
                scope = $0
                return true
            }
            guard scope >= 0 else { return nil }
            var answer: RouteMatch?
            _ = eachHost(parts.scopeHosts[Int(scope)], head.bytes, head.host, text) {
                answer = find(in: parts.groups[Int($0)], head, text)
                return answer != nil
            }
            return answer
        }
    }

    /// Whether there are listeners of several hostnames.
    public var hasSeveralScopes: Bool { parts.scopeHosts.count > 1 }
    /// The scope for all hosts; -1: there is none.
    public var scopeOfAny: Int32 { parts.scopes.any }

    /// The listener's scope that a host falls into; -1: none does.
    public func scope(_ bytes: Bytes, _ host: ByteRange) -> Int32 {
        // Safe: `text` lives as long as self and never changes.
        unsafe text.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return -1 }
            var scope: Int32 = -1
            _ = eachHost(parts.scopes, bytes, host, unsafe Bytes(base, count: buffer.count)) {
                scope = $0
                return true
            }
            return scope
        }
    }

    /// Calls `body` with the values under the host, most specific first, until it says true.
    @inline(__always)
    private func eachHost(
        _ map: HostMap, _ bytes: Bytes, _ host: ByteRange, _ text: Bytes, _ body: (Int32) -> Bool
    ) -> Bool {
        if map.exact.count > 0 {
            let found = value(map.exact, bytes, host.lower, host.upper, true, text)
            if found >= 0, body(found) { return true }
        }
        if map.wildcard.count > 0 {
            var dots = 0
            for index in host.lower..<host.upper where bytes[index] == UInt8(ascii: ".") {
                dots += 1
            }
            // The longest suffix begins at the first dot; a wildcard needs a label before it.
            var index = host.lower
            while dots > 0, index < host.upper {
                if bytes[index] == UInt8(ascii: ".") {
                    if index > host.lower, map.labels.contains(dots) {
                        let found = value(map.wildcard, bytes, index, host.upper, true, text)
                        if found >= 0, body(found) { return true }
                    }
                    dots -= 1
                }
                index += 1
            }
        }
        return map.any >= 0 && body(map.any)
    }

    private func value(
        _ map: SlotMap, _ bytes: Bytes, _ start: Int, _ end: Int, _ ignoringCase: Bool,
        _ text: Bytes
    ) -> Int32 {
        let mask = Int(map.count) - 1
        let hash = hash(bytes, start, end, ignoringCase: ignoringCase)
        var place = Int(hash) & mask
        while true {
            let slot = parts.slots[Int(map.first) + place]
            if slot.value < 0 { return -1 }
            if slot.hash == hash, isEqual(bytes, start, end, ignoringCase, text, slot.key) {
                return slot.value
            }
            place = (place + 1) & mask
        }
    }

    private func isEqual(
        _ bytes: Bytes, _ start: Int, _ end: Int, _ ignoringCase: Bool, _ text: Bytes,
        _ key: ByteRange
    ) -> Bool {
        guard end - start == key.count else { return false }
        for offset in 0..<key.count {
            let byte = bytes[start + offset]
            guard (ignoringCase ? lowered(byte) : byte) == text[key.lower + offset] else {
                return false
            }
        }
        return true
    }

    private func find(
        in group: Group, _ head: RequestHead, _ text: Bytes
    ) -> RouteMatch? {
        let path = head.path
        if group.exact.count > 0 {
            let found = value(group.exact, head.bytes, path.lower, path.upper, false, text)
            if found >= 0, let match = first(parts.ranges[Int(found)], head, text) { return match }
        }
        if group.expressions.start < group.expressions.end,
            let match = first(group.expressions, head, text)
        {
            return match
        }
        var index = group.lengths.start
        while index < group.lengths.end {
            let length = Int(parts.prefixLengths[Int(index)])
            index += 1
            // By whole segments: the prefix ends where the path or a segment of it ends.
            guard path.count >= length,
                path.count == length || head.bytes[path.lower + length] == UInt8(ascii: "/")
            else { continue }
            let end = path.lower + length
            let found = value(group.prefix, head.bytes, path.lower, end, false, text)
            if found >= 0, let match = first(parts.ranges[Int(found)], head, text) { return match }
        }
        return first(group.all, head, text)
    }

    private func first(
        _ range: Candidates, _ head: RequestHead, _ text: Bytes
    ) -> RouteMatch? {
        var index = range.start
        while index < range.end {
            let candidate = parts.candidates[Int(index)]
            index += 1
            if candidate.pathExpression >= 0,
                !parts.expressions[Int(candidate.pathExpression)].matches(head.bytes, head.path)
            {
                continue
            }
            if !candidate.method.isEmpty,
                !isEqual(
                    head.bytes, head.method.lower, head.method.upper, false, text, candidate.method)
            {
                continue
            }
            if candidate.headers.start < candidate.headers.end,
                !headersMatch(candidate.headers, head, text)
            {
                continue
            }
            if candidate.query.start < candidate.query.end,
                !queryMatches(candidate.query, head, text)
            {
                continue
            }
            return RouteMatch(
                rule: candidate.rule, prefixLength: candidate.prefixLength,
                namesMethod: !candidate.method.isEmpty)
        }
        return nil
    }
}
