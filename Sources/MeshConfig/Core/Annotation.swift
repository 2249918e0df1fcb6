/// The labels and annotations that mean something to Malla.
enum Annotation {
    /// Pod: the host side of its veth.
    static let interface = "malla.io/interface"
    /// Pod: ports that it dials past the engine; Malla's word, then Istio's.
    static let excludedPorts = [
        "malla.io/exclude-outbound-ports", "traffic.sidecar.istio.io/excludeOutboundPorts",
    ]
    /// Pod: blocks of addresses that it dials past the engine; the same.
    static let excludedBlocks = [
        "malla.io/exclude-outbound-cidrs", "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    ]
    /// Pod: the same of what it is dialled at.
    static let excludedInboundPorts = [
        "malla.io/exclude-inbound-ports", "traffic.sidecar.istio.io/excludeInboundPorts",
    ]
    /// Pod: the same of who dials it; Istio has no word for that.
    static let excludedInboundBlocks = ["malla.io/exclude-inbound-cidrs"]
    /// Pod: `open` or `closed`, what becomes of new connections that no engine can serve.
    static let failureMode = "malla.io/failure-mode"
    /// Pod: `l7`, what others dial of it goes through the engine.
    static let inbound = "malla.io/inbound"
    /// Pod: its share of new connections to services.
    static let weight = "malla.io/weight"
    /// Pod or Namespace: `enabled` or `disabled`.
    static let mesh = "malla.io/mesh"
    /// The same in Istio's words: `ambient` or `none`.
    static let dataplaneMode = "istio.io/dataplane-mode"
    /// NetworkPolicy or ClusterNetworkPolicy: `enforce`, or `audit` to count only.
    static let policyMode = "malla.io/policy-mode"
    /// Pod: `enabled` where Istio's ztunnel serves it.
    static let redirection = "ambient.istio.io/redirection"
    /// Gateway: the account whose identity it shows, in place of `<name>-<class>`.
    static let gatewayAccount = "gateway.istio.io/service-account"
    /// EndpointSlice: the Service it belongs to.
    static let serviceName = "kubernetes.io/service-name"
    /// Node: its zone.
    static let zone = "topology.kubernetes.io/zone"
    /// Namespace: its own name, as Kubernetes sets it on every namespace.
    static let namespaceName = "kubernetes.io/metadata.name"

    /// What the labels say about membership; `nil` if nothing.
    static func isMeshed(_ labels: [String: String]) -> Bool? {
        switch labels[mesh] {
        case "enabled"?: return true
        case "disabled"?: return false
        default: break
        }
        switch labels[dataplaneMode] {
        case "ambient"?: return true
        case "none"?: return false
        default: return nil
        }
    }
}
