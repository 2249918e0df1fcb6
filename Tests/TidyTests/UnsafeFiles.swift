// Where belief is allowed (STYLE.md, R13): at system calls, C libraries and raw buffers.
// A new file here wants a reason in review; a file that no longer needs it is taken off.

enum UnsafeFiles {
    /// Files of `Sources` that may say `unsafe`, by folder.
    private static let folders: [String: [String]] = [
        "Sources/BPFLoader/": ["BPFError", "Datapath"],
        "Sources/BPFLoader/Attach/": ["Link", "OwnSockets"],
        "Sources/BPFLoader/Map/": ["BPFMap", "PerCPUArray", "SocketMap"],
        "Sources/BPFLoader/Object/": ["BPFObject", "PinDirectory"],
        "Sources/BPFLoader/Uplink/": ["NetworkLink"],
        "Sources/CLI/Agent/": ["AgentClient", "UnixSocket"],
        "Sources/CLI/Check/": ["NeighbourChecks"],
        "Sources/MeshConfig/Directory/": ["FileMark"],
        "Sources/MeshModel/Route/": [
            "CompiledRoutes+Conditions", "CompiledRoutes", "RegularExpression", "RequestHead",
            "RouteCompiler",
        ],
        "Sources/NodeAgent/Admin/": ["Listings", "Questions"],
        "Sources/NodeAgent/Command/": ["AgentOptions", "Mounts", "Run"],
        "Sources/NodeAgent/Reconcile/": ["AccessLog", "Agent"],
        "Sources/Supervisor/": [
            "ControlSocket", "EngineNamespace", "HeldSockets", "NodeLock", "Privileges",
            "Supervisor", "SupervisorError", "Sysctl",
        ],
    ]

    static let unsafe: Set<String> = Set(
        folders.flatMap { folder, names in names.map { folder + $0 + ".swift" } })

    /// Files of `Sources` whose types promise by themselves what the compiler cannot check.
    static let unchecked: Set<String> = [
        "Sources/MeshModel/Route/RegularExpression.swift",
    ]
}
