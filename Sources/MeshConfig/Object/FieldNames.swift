// The names of fields that every pod, service and slice of endpoints has: half of what their text
// is made of. ValueBytes writes a place in this list instead.

/// - Threads: any.
enum FieldNames {
    /// In this process only: the order may change with any build.
    static let all = [
        "apiVersion", "kind", "metadata", "name", "namespace", "labels", "annotations", "spec",
        "status", "addresses", "conditions", "ready", "serving", "terminating", "nodeName", "zone",
        "targetRef", "hostname", "hints", "forZones", "forNodes", "endpoints", "ports", "port",
        "protocol", "appProtocol", "addressType", "clusterIP", "clusterIPs", "selector",
        "targetPort", "nodePort", "type", "sessionAffinity", "ipFamilies", "ipFamilyPolicy",
        "externalIPs", "loadBalancer", "ingress", "egress", "from", "to", "podSelector",
        "namespaceSelector", "matchLabels", "matchExpressions", "key", "operator", "values",
        "policyTypes", "ipBlock", "cidr", "except", "endPort", "containers", "image",
        "containerPort", "hostPort", "serviceAccountName", "phase", "podIP", "podIPs", "ip",
        "hostIP", "hostIPs", "rules", "matches", "path", "value", "backendRefs", "parentRefs",
        "group", "weight", "filters", "uid", "resourceVersion", "creationTimestamp",
        "ownerReferences", "controller", "blockOwnerDeletion", "generation", "managedFields",
        "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by", "app",
        "lastTransitionTime", "lastProbeTime", "containerStatuses", "restartCount", "imageID",
        "containerID", "state", "running", "startedAt", "env", "resources", "limits", "requests",
        "cpu", "memory", "volumeMounts", "mountPath", "volumes", "tolerations", "effect",
    ]

    private static let places = Dictionary(
        uniqueKeysWithValues: all.enumerated().map { ($0.element, $0.offset) })

    static func place(of name: String) -> Int? { places[name] }
}
