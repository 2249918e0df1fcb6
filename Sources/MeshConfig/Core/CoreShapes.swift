// The shapes of the core kinds. What a kubelet, a scheduler or a cloud wants is harmless here.

extension Shape {
    /// metadata of any object, with the keys that Malla reads in it.
    static let metadata: Shape = .fields(
        [
            .required("name", .text(.objectName)),
            .honoured("namespace", .text(.any(bytesMax: 63))),
            .honoured(
                "labels", .texts(countMax: .max, keys: .labelKey, values: .labelValue)),
            .honoured("annotations", .texts(countMax: .max)),
            .honoured("creationTimestamp", .text(.time)),
        ]
            + ShapeField.harmless([
                "generateName", "selfLink", "uid", "resourceVersion", "generation",
                "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences",
                "finalizers", "managedFields", "clusterName",
            ]))

    /// apiVersion, kind, metadata, and what comes with the kind.
    static func object(_ fields: ShapeField...) -> Shape {
        .fields(
            [
                .required("apiVersion", .text(.nonEmpty(bytesMax: 317))),
                .required("kind", .text(.kind)), .required("metadata", .metadata),
            ] + fields)
    }

    static let namespace: Shape = .object(.harmless("spec"), .harmless("status"))

    static let node: Shape = .object(
        .honoured(
            "spec",
            .fields(
                [
                    .honoured("podCIDR", .text(.any(bytesMax: 64))),
                    .honoured("podCIDRs", .list(.text(.nonEmpty(bytesMax: 64)), counts: 0...2)),
                ]
                    + ShapeField.harmless([
                        "configSource", "externalID", "providerID", "taints", "unschedulable",
                    ]))),
        .honoured(
            "status",
            .fields(
                [
                    .honoured(
                        "addresses",
                        .list(
                            .fields([
                                .required("type", .text(.nonEmpty(bytesMax: 253))),
                                .required("address", .text(.nonEmpty(bytesMax: 253))),
                            ]), counts: 0...64))
                ]
                    + ShapeField.harmless([
                        "allocatable", "capacity", "conditions", "config", "daemonEndpoints",
                        "features", "images", "nodeInfo", "phase", "runtimeHandlers",
                        "volumesAttached", "volumesInUse", "declaredFeatures",
                    ]))))

    static let serviceAccount: Shape = .object(
        .harmless("automountServiceAccountToken"), .harmless("imagePullSecrets"),
        .harmless("secrets"))

    static let secret: Shape = .object(
        .honoured("type", .text(.any(bytesMax: 317))),
        .honoured("data", .texts(countMax: .max)),
        .honoured("stringData", .texts(countMax: .max)), .harmless("immutable"))

    static let pod: Shape = .object(
        .honoured("spec", podSpec), .honoured("status", podStatus))

    private static let podSpec: Shape = .fields(
        [
            .honoured("nodeName", .text(.any(bytesMax: 253))),
            .honoured("serviceAccountName", .text(.any(bytesMax: 253))),
            .honoured("serviceAccount", .text(.any(bytesMax: 253))),
            .honoured("hostNetwork", .boolean),
            .honoured("containers", containers), .honoured("initContainers", containers),
        ]
            + ShapeField.harmless([
                "activeDeadlineSeconds", "affinity", "automountServiceAccountToken",
                "dnsConfig", "dnsPolicy", "enableServiceLinks", "ephemeralContainers",
                "hostAliases", "hostIPC", "hostPID", "hostUsers", "hostname",
                "hostnameOverride", "imagePullSecrets", "nodeSelector", "os", "overhead",
                "preemptionPolicy", "priority", "priorityClassName", "readinessGates",
                "resourceClaims", "resources", "restartPolicy", "runtimeClassName",
                "schedulerName", "schedulingGates", "securityContext", "setHostnameAsFQDN",
                "shareProcessNamespace", "subdomain", "terminationGracePeriodSeconds",
                "tolerations", "topologySpreadConstraints", "volumes", "workloadRef",
            ]))

    /// Named ports are what a Service's targetPort refers to.
    private static let containers: Shape = .list(
        .fields(
            [
                .honoured(
                    "ports",
                    .list(
                        .fields([
                            .honoured("name", .text(.any(bytesMax: 63))),
                            .required("containerPort", .integer(1...65535)),
                            .honoured("protocol", .oneOf(["TCP", "UDP", "SCTP"])),
                            .honoured("hostPort", .integer(0...65535)),
                            .honoured("hostIP", .text(.any(bytesMax: 45))),
                        ]), counts: 0...1024))
            ]
                + ShapeField.harmless([
                    "name", "image", "imagePullPolicy", "command", "args", "env", "envFrom",
                    "lifecycle", "livenessProbe", "readinessProbe", "startupProbe",
                    "resizePolicy", "resources", "restartPolicy", "restartPolicyRules",
                    "securityContext", "stdin", "stdinOnce", "terminationMessagePath",
                    "terminationMessagePolicy", "tty", "volumeDevices", "volumeMounts",
                    "workingDir",
                ])), counts: 0...1024)

    private static let podStatus: Shape = .fields(
        [
            .honoured(
                "phase", .oneOf(["Pending", "Running", "Succeeded", "Failed", "Unknown", ""])),
            .honoured("podIP", .text(.any(bytesMax: 45))),
            .honoured(
                "podIPs",
                .list(.fields([.honoured("ip", .text(.any(bytesMax: 45)))]), counts: 0...16)),
            .honoured(
                "conditions",
                .list(
                    .fields(
                        [
                            .required("type", .text(.any(bytesMax: 317))),
                            .required("status", .text(.any(bytesMax: 16))),
                        ]
                            + ShapeField.harmless([
                                "lastProbeTime", "lastTransitionTime", "message", "reason",
                                "observedGeneration",
                            ])), counts: 0...64)),
        ]
            + ShapeField.harmless([
                "containerStatuses", "ephemeralContainerStatuses", "hostIP", "hostIPs",
                "initContainerStatuses", "message", "nominatedNodeName", "qosClass", "reason",
                "resize", "resourceClaimStatuses", "startTime", "observedGeneration",
                "extendedResourceClaimStatus", "allocatedResources", "resources",
            ]))
}
