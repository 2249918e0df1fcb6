// What `malla … -o json` prints and the agent's socket answers: one listing a kind. Fields are only
// ever added (a schema test in CLITests says so). Shapes only: no I/O, no imports.

/// The version of every program of this package.
public let mallaVersion = "0.1.0"

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

/// A question that the agent's socket answers with a listing.
public struct AdminResource<Item: Codable & Sendable & Equatable>: Sendable {
    /// Of the HTTP request: `GET /v1/status`.
    public let path: String
    /// `kind` of the listing.
    public let kind: String
}

extension AdminResource {
    /// A listing of this resource's kind.
    public func listing(_ items: [Item]) -> Listing<Item> { Listing(kind: kind, items: items) }

    /// The resource with a query: names, addresses and numbers only, which need no escape.
    public func asking(_ fields: [(name: String, value: String)]) -> AdminResource {
        let query = fields.map { "\($0.name)=\($0.value)" }.joined(separator: "&")
        return AdminResource(path: path + "?" + query, kind: kind)
    }
}

/// Everything the agent can be asked for, and by POST to its Unix socket be told to do.
public enum AdminAPI {
    public static let status = AdminResource<StatusItem>(path: "/v1/status", kind: "StatusList")
    public static let endpoints = AdminResource<EndpointItem>(
        path: "/v1/endpoints", kind: "EndpointList")
    public static let services = AdminResource<ServiceItem>(
        path: "/v1/services", kind: "ServiceList")
    public static let routes = AdminResource<RouteItem>(path: "/v1/routes", kind: "RouteList")
    public static let serviceRows = AdminResource<ServiceRowItem>(
        path: "/v1/bpf/services", kind: "ServiceRowList")
    public static let accounts = AdminResource<AccountItem>(
        path: "/v1/accounts", kind: "AccountList")
    public static let certificates = AdminResource<CertificateItem>(
        path: "/v1/certificates", kind: "CertificateList")
    public static let mutualTLS = AdminResource<MutualTLSItem>(
        path: "/v1/mtls", kind: "MutualTLSList")
    public static let bpfStats = AdminResource<BPFStatsItem>(
        path: "/v1/bpf/stats", kind: "BPFStatsList")
    public static let flows = AdminResource<FlowItem>(path: "/v1/bpf/ct", kind: "FlowList")
    public static let ipcache = AdminResource<IPCacheItem>(
        path: "/v1/bpf/ipcache", kind: "IPCacheList")
    public static let policyRows = AdminResource<PolicyRowItem>(
        path: "/v1/bpf/policy", kind: "PolicyRowList")
    public static let diagnostics = AdminResource<DiagnosticItem>(
        path: "/v1/config/diagnostics", kind: "DiagnosticList")
    /// `asking`: last, follow, pod, namespace, verdict, port, protocol, from, to.
    public static let flowEvents = AdminResource<FlowEventItem>(
        path: "/v1/flows", kind: "FlowEventList")
    public static let policies = AdminResource<PolicyItem>(
        path: "/v1/policies", kind: "PolicyList")
    public static let policyTrace = AdminResource<PolicyTraceItem>(
        path: "/v1/policy/trace", kind: "PolicyTraceList")

    /// What begins the paths that change something: POST, and to the Unix socket only.
    public static let flowFlushPrefix = "/v1/bpf/ct/flush/"

    /// - Parameter what: an address, or `all`.
    public static func flowFlush(_ what: String) -> AdminResource<FlowFlushItem> {
        AdminResource(path: flowFlushPrefix + what, kind: "FlowFlushList")
    }
}
