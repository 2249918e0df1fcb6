internal import COpenSSL
internal import MeshModel

/// Which context serves a name: that of the listener whose hostname fits best, and in it that of
/// the certificate that names it.
///
/// - Threads: any; immutable.
/// - Source: Gateway API, Listener.hostname; RFC 6066 section 3 (names ignore case).
final class TLSNames: Sendable {
    /// `context` is nil where the socket's own context serves.
    struct Choice: Sendable {
        var context: TLSContext?
    }

    /// Names of one kind of match, each with what it leads to.
    struct Table<Value: Sendable>: Sendable {
        var exact: [String: Value] = [:]
        /// By suffix, with its dot.
        var wildcard: [String: Value] = [:]
        /// Of those.
        private var labels = HostLabels()
        var any: Value?

        mutating func set(_ name: String, _ value: Value) {
            if name.hasPrefix("*.") {
                let suffix = String(name.dropFirst())
                if wildcard[suffix] == nil { wildcard[suffix] = value }
                labels.insert(Self.dots(suffix))
            } else if exact[name] == nil {
                exact[name] = value
            }
        }

        /// The longest suffix counts. `labelsMax`: how much a wildcard stands for; nil: any.
        func find(_ name: String, labelsMax: Int?) -> Value? {
            if let found = exact[name] { return found }
            if labels.isEmpty { return any }
            let dots = Self.dots(name)
            var passed = 0
            for index in name.utf8.indices where name.utf8[index] == UInt8(ascii: ".") {
                if let labelsMax, passed >= labelsMax { break }
                if labels.contains(dots - passed), index != name.startIndex,
                    let found = wildcard[String(name[index...])]
                {
                    return found
                }
                passed += 1
            }
            return any
        }

        private static func dots(_ name: String) -> Int {
            name.utf8.count { $0 == UInt8(ascii: ".") }
        }
    }

    private let listeners: Table<Table<Choice>>

    init(_ listeners: Table<Table<Choice>>) { self.listeners = listeners }

    /// `nil`: nobody serves it. Without a name only a listener for all hosts does; what is too long
    /// for a name has none.
    func find(_ name: String?) -> Choice? {
        guard let name else { return listeners.any?.any }
        guard name.utf8.count <= HostLabels.nameBytesMax else { return nil }
        return listeners.find(name, labelsMax: nil)?.find(name, labelsMax: 1)
    }
}

/// What a Gateway's socket begins TLS connections with.
///
/// - Threads: any; immutable.
final class TLSServer: Sendable {
    let context: TLSContext

    /// `context` asks `names` for each connection and keeps them for as long as it lives.
    init(_ context: TLSContext, _ names: TLSNames) {
        self.context = context
        // Safe: the context releases the names when it is freed.
        let argument = unsafe Unmanaged.passRetained(names).toOpaque()
        unsafe tls_context_choose(
            context.pointer, malla_tls_choose, malla_tls_release, argument)
    }
}
