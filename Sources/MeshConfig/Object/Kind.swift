// Which kinds there are and what becomes of them. One table: a kind that is in none of its rows is
// reported as unknown, never dropped without a word.

/// What this build does with a kind.
enum Kind {
    /// Read, checked against its shape, resolved into the mesh.
    case honoured(Shape, isClusterWide: Bool, versions: Set<String>)
    /// Known; nothing in it concerns a mesh. The text says why.
    case ignored(String)
    /// Known; asks for something that this build does not do.
    case unsupported

    static func of(group: String, kind: String) -> Kind? {
        if let found = honouredKinds[group]?[kind] { return found }
        if let reason = ignoredKinds[group]?[kind] { return .ignored(reason) }
        if unsupportedKinds[group]?.contains(kind) == true { return .unsupported }
        return nil
    }

    static func isClusterWide(group: String, kind: String) -> Bool {
        if case .honoured(_, let isClusterWide, _)? = of(group: group, kind: kind) {
            return isClusterWide
        }
        return clusterWide.contains(kind)
    }

    static let gatewayGroup = "gateway.networking.k8s.io"

    private static let gatewayVersions: Set<String> = ["v1", "v1beta1", "v1alpha2"]

    private static let honouredKinds: [String: [String: Kind]] = [
        "": [
            "Namespace": .honoured(.namespace, isClusterWide: true, versions: ["v1"]),
            "Node": .honoured(.node, isClusterWide: true, versions: ["v1"]),
            "Pod": .honoured(.pod, isClusterWide: false, versions: ["v1"]),
            "Service": .honoured(.service, isClusterWide: false, versions: ["v1"]),
            "ServiceAccount": .honoured(.serviceAccount, isClusterWide: false, versions: ["v1"]),
            "Secret": .honoured(.secret, isClusterWide: false, versions: ["v1"]),
            "ConfigMap": .honoured(.configMap, isClusterWide: false, versions: ["v1"]),
        ],
        "discovery.k8s.io": [
            "EndpointSlice": .honoured(.endpointSlice, isClusterWide: false, versions: ["v1"])
        ],
        "networking.k8s.io": [
            "NetworkPolicy": .honoured(.networkPolicy, isClusterWide: false, versions: ["v1"])
        ],
        "policy.networking.k8s.io": [
            "ClusterNetworkPolicy": .honoured(
                .clusterNetworkPolicy, isClusterWide: true, versions: ["v1alpha2"])
        ],
        "security.istio.io": [
            "PeerAuthentication": .honoured(
                .peerAuthentication, isClusterWide: false, versions: ["v1", "v1beta1"])
        ],
        gatewayGroup: [
            "GatewayClass": .honoured(
                .gatewayClass, isClusterWide: true, versions: gatewayVersions),
            "Gateway": .honoured(.gateway, isClusterWide: false, versions: gatewayVersions),
            "HTTPRoute": .honoured(.httpRoute, isClusterWide: false, versions: gatewayVersions),
            // Served since v1; one rule, as v1 has it.
            "TCPRoute": .honoured(
                .tcpRoute, isClusterWide: false, versions: ["v1", "v1alpha2"]),
            "ReferenceGrant": .honoured(
                .referenceGrant, isClusterWide: false, versions: gatewayVersions),
            "BackendTLSPolicy": .honoured(
                .backendTLSPolicy, isClusterWide: false, versions: ["v1", "v1alpha3"]),
        ],
    ]

    private static let ignoredKinds: [String: [String: String]] = [
        "": [
            "PersistentVolume": "storage is no concern of a mesh",
            "PersistentVolumeClaim": "storage is no concern of a mesh",
            "Event": "events are no configuration",
            "LimitRange": "quotas are no concern of a mesh",
            "ResourceQuota": "quotas are no concern of a mesh",
        ],
        "apps": workloads(["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet"]),
        "batch": workloads(["Job", "CronJob"]),
        "apiextensions.k8s.io": ["CustomResourceDefinition": "schemas are built in"],
        "rbac.authorization.k8s.io": [
            "Role": "permissions in the API server", "RoleBinding": "permissions in the API server",
            "ClusterRole": "permissions in the API server",
            "ClusterRoleBinding": "permissions in the API server",
        ],
        "admissionregistration.k8s.io": [
            "ValidatingAdmissionPolicy": "admission in the API server",
            "ValidatingAdmissionPolicyBinding": "admission in the API server",
            "ValidatingWebhookConfiguration": "admission in the API server",
            "MutatingWebhookConfiguration": "admission in the API server",
        ],
        "autoscaling": ["HorizontalPodAutoscaler": "scaling is no concern of a mesh"],
        "policy": ["PodDisruptionBudget": "scheduling is no concern of a mesh"],
        "scheduling.k8s.io": ["PriorityClass": "scheduling is no concern of a mesh"],
        "storage.k8s.io": ["StorageClass": "storage is no concern of a mesh"],
        "kustomize.config.k8s.io": ["Kustomization": "build it first; its output is read"],
    ]

    /// A cluster makes Pods of these; stand-alone, nobody does.
    private static func workloads(_ kinds: [String]) -> [String: String] {
        var reasons: [String: String] = [:]
        for kind in kinds { reasons[kind] = "only the Pods that a cluster makes of it count" }
        return reasons
    }

    private static let unsupportedKinds: [String: Set<String>] = [
        "": ["Endpoints", "ReplicationController"],
        "networking.k8s.io": ["Ingress", "IngressClass"],
        "policy.networking.k8s.io": ["AdminNetworkPolicy", "BaselineAdminNetworkPolicy"],
        gatewayGroup: [
            "GRPCRoute", "TLSRoute", "UDPRoute", "ListenerSet",
            "BackendLBPolicy",
        ],
        "gateway.networking.x-k8s.io": [
            "XListenerSet", "XBackendTrafficPolicy", "XMesh", "XBackend",
        ],
        "multicluster.x-k8s.io": ["ServiceImport", "ServiceExport"],
        "networking.istio.io": [
            "VirtualService", "DestinationRule", "ServiceEntry", "Gateway", "Sidecar",
            "EnvoyFilter", "WorkloadEntry", "WorkloadGroup", "ProxyConfig",
        ],
        "security.istio.io": [
            "AuthorizationPolicy", "RequestAuthentication",
        ],
        "telemetry.istio.io": ["Telemetry"],
        "extensions.istio.io": ["WasmPlugin", "TrafficExtension"],
        "cilium.io": ["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"],
        "split.smi-spec.io": ["TrafficSplit"],
        "access.smi-spec.io": ["TrafficTarget"],
        "specs.smi-spec.io": ["HTTPRouteGroup", "TCPRoute"],
        "linkerd.io": ["ServiceProfile"],
        "policy.linkerd.io": [
            "Server", "ServerAuthorization", "AuthorizationPolicy", "HTTPRoute",
            "MeshTLSAuthentication", "NetworkAuthentication",
        ],
    ]

    private static let clusterWide: Set<String> = [
        "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "PersistentVolume",
        "StorageClass", "PriorityClass", "IngressClass", "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy",
        "CiliumClusterwideNetworkPolicy",
    ]
}
