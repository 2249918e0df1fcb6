// What `malla … -o json` prints and the agent's socket answers: one listing a kind. Fields are only
// ever added (a schema test in CLITests says so).

/// `{apiVersion, kind, items}`, as kubectl prints lists.
public struct Listing<Item: Codable & Sendable & Equatable>: Codable, Sendable, Equatable {
    public var apiVersion = "malla.io/v1"
    public var kind: String
    public var items: [Item]

    public init(kind: String, items: [Item]) {
        self.kind = kind
        self.items = items
    }
}
