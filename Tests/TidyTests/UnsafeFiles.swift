// Where belief is allowed (STYLE.md, R13): at system calls, C libraries and raw buffers.
// A new file here wants a reason in review; a file that no longer needs it is taken off.

enum UnsafeFiles {
    /// Files of `Sources` that may say `unsafe`, by folder.
    private static let folders: [String: [String]] = [
        "Sources/BPFLoader/": ["BPFError", "Datapath"],
        "Sources/BPFLoader/Attach/": ["GracePeriods", "Guards", "LeftLinks", "Link", "OwnSockets"],
        "Sources/BPFLoader/Event/": ["EventRing"],
        "Sources/BPFLoader/Flow/": ["FlowClock"],
        "Sources/BPFLoader/Map/": ["BPFMap", "PerCPUArray", "SocketMap"],
        "Sources/BPFLoader/Object/": ["BPFObject", "PinDirectory"],
        "Sources/BPFLoader/Projection/": ["GroupRows"],
        "Sources/BPFLoader/Uplink/": ["NetworkLink", "Uplinks"],
        "Sources/CLI/Agent/": ["AgentClient", "UnixSocket"],
        "Sources/CLI/Check/": ["NeighbourChecks"],
        "Sources/L7Engine/": ["Engine"],
        "Sources/L7Engine/Codec/": ["BodyFraming", "FirstBytes", "MessageHead"],
        "Sources/L7Engine/Codec/HTTP1/": [
            "Authority", "FieldReader", "HTTP1Parser", "PathNormalForm", "RequestTarget", "Scan",
        ],
        "Sources/L7Engine/Codec/HTTP2/": ["HBONETunnel"],
        "Sources/L7Engine/Exchange/": ["ForwardedFields", "RequestID", "UpgradeOffer"],
        "Sources/L7Engine/Metrics/": [
            "AccessLog", "AccessLog+Line", "Accounts", "BlackBox", "Tally",
        ],
        "Sources/L7Engine/TLS/": [
            "Credentials", "MeshStore", "SigningKey", "TLS", "TLSCallbacks", "TLSClient",
            "TLSServer", "TLSStore", "Worker+MeshTLS", "Worker+TLS",
        ],
        "Sources/L7Engine/Upstream/": ["AffinityTable", "NodeSockets", "UpstreamPool"],
        "Sources/L7Engine/Worker/": [
            "ByteBuffer", "Connection", "Thread", "Worker+Accept", "Worker+Carrier",
            "Worker+Chunks", "Worker+Downstream",
            "Worker+Finish", "Worker+Forward", "Worker+Gather", "Worker+Opaque", "Worker+Overload",
            "Worker+Route", "Worker+Schedule", "Worker+Sense", "Worker+Splice", "Worker+Transport",
            "Worker+Tunnel", "Worker+Upstream", "Worker",
        ],
        "Sources/MeshConfig/Certificate/": ["PEMText"],
        "Sources/MeshConfig/Directory/": ["DirectoryWatch", "FileMark"],
        "Sources/MeshConfig/LastGood/": ["LastGoodDirectory"],
        "Sources/MeshModel/Route/": [
            "CompiledRoutes+Conditions", "CompiledRoutes", "RegularExpression", "RequestHead",
            "RouteCompiler",
        ],
        "Sources/NodeAgent/Admin/": ["Listings", "Questions"],
        "Sources/NodeAgent/Command/": ["AgentOptions", "Mounts", "Run"],
        "Sources/NodeAgent/Identity/": ["IdentityFile"],
        "Sources/NodeAgent/Identity/WorkloadAPI/": ["WorkloadAPIStream"],
        "Sources/NodeAgent/Reconcile/": ["AccessLog", "Agent", "GatewayListeners", "SocketResets"],
        "Sources/Supervisor/": [
            "BlackBoxPage", "ChildProcess", "ControlSocket", "EngineNamespace", "HeldSockets",
            "NamespaceSearch", "NodeLock", "Privileges", "Remains", "Supervisor", "SupervisorError",
            "Sysctl",
            "Takeover",
        ],
    ]

    static let unsafe: Set<String> = Set(
        folders.flatMap { folder, names in names.map { folder + $0 + ".swift" } })

    /// Files of `Sources` whose types promise by themselves what the compiler cannot check.
    static let unchecked: Set<String> = [
        "Sources/L7Engine/Metrics/AccessLog.swift",
        "Sources/L7Engine/Metrics/Accounts.swift",
        "Sources/L7Engine/Metrics/BlackBox.swift",
        "Sources/L7Engine/Metrics/Tally.swift",
        "Sources/L7Engine/TLS/MeshStore.swift",
        "Sources/L7Engine/TLS/SigningKey.swift",
        "Sources/L7Engine/TLS/TLS.swift",
        "Sources/L7Engine/TLS/TLSStore.swift",
        "Sources/L7Engine/Upstream/AffinityTable.swift",
    ]
}
