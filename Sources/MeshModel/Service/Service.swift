// What the mesh knows of pods and services. Plain values: MeshConfig makes them, SnapshotCompiler
// flattens them, nothing here does I/O.

/// Namespace and name of an object; what people call it.
public struct ObjectName: Hashable, Sendable, Comparable, CustomStringConvertible {
    public var namespace: String
    public var name: String

    public init(_ namespace: String, _ name: String) {
        self.namespace = namespace
        self.name = name
    }

    public var description: String { "\(namespace)/\(name)" }

    public static func < (left: ObjectName, right: ObjectName) -> Bool {
        (left.namespace, left.name) < (right.namespace, right.name)
    }
}

/// A node of the mesh. Source: core/v1 Node.
public struct Node: Hashable, Sendable {
    public var name: String
    /// `status.addresses` of type InternalIP.
    public var addresses: [IPAddress]
    /// Those of type ExternalIP.
    public var externalAddresses: [IPAddress]
    /// Label `topology.kubernetes.io/zone`, empty if there is none.
    public var zone: String
    public var labels: [String: String]
    /// `spec.podCIDRs`: where its pods' addresses are from.
    public var podBlocks: [IPPrefix]

    public init(
        name: String, addresses: [IPAddress], externalAddresses: [IPAddress] = [],
        zone: String = "", labels: [String: String] = [:], podBlocks: [IPPrefix] = []
    ) {
        self.externalAddresses = externalAddresses
        self.podBlocks = podBlocks
        self.name = name
        self.addresses = addresses
        self.zone = zone
        self.labels = labels
    }
}

/// A pod. Source: core/v1 Pod.
public struct Workload: Hashable, Sendable {
    public var name: ObjectName
    public var serviceAccount: String
    /// `spec.nodeName`.
    public var node: String
    public var labels: [String: String]
    /// `status.podIPs`, at most one of a family.
    public var addresses: [IPAddress]
    /// The host side of its veth, annotation `malla.io/interface`; `nil`: no datapath for this pod.
    public var interface: String?
    /// Whether its connections to L7 services are captured (labels: docs/configuration.md).
    public var isMeshed: Bool
    /// Ports of the node that lead to it: `containers[].ports[].hostPort`.
    public var hostPorts: [HostPort]
    /// The owner as Istio's metrics name it (`destination_workload`): label
    /// `app.kubernetes.io/name`, else `app`, else the pod's name.
    public var workloadName: String
    /// The containers' ports that have a name.
    public var ports: [NamedPort]
    /// What of its connections to L7 services is not captured.
    public var exclusions: Exclusions
    /// What of the connections to it is not captured where it needs the engine for them: its own
    /// ports, and blocks that its clients are in.
    public var inboundExclusions: Exclusions
    /// What of it needs the engine, and what becomes of that while none serves.
    public var engineUse: EngineUse
    /// Whether Istio's ztunnel serves it: annotation `ambient.istio.io/redirection: enabled`.
    public var isRedirected: Bool
    /// `creationTimestamp`, seconds since 1970; the greatest if it is not known.
    public var created: Int64

    public init(
        name: ObjectName, serviceAccount: String, node: String, labels: [String: String],
        addresses: [IPAddress], interface: String?, isMeshed: Bool, workloadName: String,
        hostPorts: [HostPort] = [], ports: [NamedPort] = [],
        exclusions: Exclusions = Exclusions(), inboundExclusions: Exclusions = Exclusions(),
        engineUse: EngineUse = EngineUse(), isRedirected: Bool = false,
        created: Int64 = .max
    ) {
        self.name = name
        self.serviceAccount = serviceAccount
        self.node = node
        self.labels = labels
        self.addresses = addresses
        self.interface = interface
        self.isMeshed = isMeshed
        self.workloadName = workloadName
        self.hostPorts = hostPorts
        self.ports = ports
        self.exclusions = exclusions
        self.inboundExclusions = inboundExclusions
        self.engineUse = engineUse
        self.isRedirected = isRedirected
        self.created = created
    }
}

/// What a pod keeps from the engine: destinations as it dials them, or its ports and its clients.
public struct Exclusions: Hashable, Sendable {
    public var ports: [UInt16]
    public var blocks: [IPPrefix]

    public init(ports: [UInt16] = [], blocks: [IPPrefix] = []) {
        self.ports = ports
        self.blocks = blocks
    }

    public var isEmpty: Bool { ports.isEmpty && blocks.isEmpty }
}

/// What a service port speaks, as far as it was declared.
///
/// - Source: ServicePort.appProtocol, else the port's name or its prefix before `-` (Istio's rule).
public enum ApplicationProtocol: String, Sendable, Hashable {
    case http, http2, grpc, tls, tcp, undeclared

    /// HTTP of some version.
    public var isHTTP: Bool { self == .http || self == .http2 || self == .grpc }

    /// HTTP of a version that the engine speaks. The rest of `isHTTP` stays in the kernel unless a
    /// route names it.
    public var isSpoken: Bool { self == .http }
}

extension Service {
    /// Whether its node ports are served in this family.
    public func hasNodePorts(isIPv4: Bool) -> Bool {
        addresses.isEmpty || addresses.contains { $0.isIPv4 == isIPv4 }
    }
}

/// One port of a service with what stands behind it.
public struct ServicePort: Hashable, Sendable {
    public var name: String
    public var port: UInt16
    public var transport: TransportProtocol
    public var application: ApplicationProtocol
    public var nodePort: UInt16?
    /// Every endpoint, whatever its conditions; ready ones are what balances.
    public var endpoints: [Endpoint]
    /// `nil`: its endpoints are spoken to in plain text.
    public var tls: BackendTLS?

    public init(
        name: String, port: UInt16, transport: TransportProtocol = .tcp,
        application: ApplicationProtocol = .undeclared, nodePort: UInt16? = nil,
        endpoints: [Endpoint] = [], tls: BackendTLS? = nil
    ) {
        self.name = name
        self.port = port
        self.transport = transport
        self.application = application
        self.nodePort = nodePort
        self.endpoints = endpoints
        self.tls = tls
    }
}

/// A named group of endpoints. Source: core/v1 Service.
public struct Service: Hashable, Sendable {
    public var name: ObjectName
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    public var type: String
    /// `spec.clusterIPs`; empty when headless or ExternalName.
    public var addresses: [IPAddress]
    /// `spec.externalIPs`.
    public var externalAddresses: [IPAddress]
    /// `status.loadBalancer.ingress[].ip` of ipMode VIP.
    public var loadBalancerAddresses: [IPAddress]
    public var traffic: ServiceTraffic
    public var ports: [ServicePort]

    public init(
        name: ObjectName, type: String = "ClusterIP", addresses: [IPAddress],
        externalAddresses: [IPAddress] = [], loadBalancerAddresses: [IPAddress] = [],
        traffic: ServiceTraffic = ServiceTraffic(), ports: [ServicePort]
    ) {
        self.name = name
        self.type = type
        self.addresses = addresses
        self.externalAddresses = externalAddresses
        self.loadBalancerAddresses = loadBalancerAddresses
        self.traffic = traffic
        self.ports = ports
    }
}
