// swift-tools-version: 6.2
import PackageDescription

// One settings loop for every Swift target: the language is strict, memory safety is checked,
// and a warning is an error (STYLE.md, R3 and R13).
let strict: [SwiftSetting] = [
    .strictMemorySafety(),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"),
    .product(name: "NIOPosix", package: "swift-nio"),
    .product(name: "NIOHTTP1", package: "swift-nio"),
]
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
// X.509 and the Workload API: only NodeAgent/Identity imports them (decision 0007).
let identity: [Target.Dependency] = [
    .product(name: "X509", package: "swift-certificates"),
    .product(name: "SwiftASN1", package: "swift-asn1"),
    .product(name: "NIOHTTP2", package: "swift-nio-http2"),
    .product(name: "NIOHPACK", package: "swift-nio-http2"),
]
let arguments: Target.Dependency = .product(
    name: "ArgumentParser", package: "swift-argument-parser")

// Swift's runtime goes into the two programs: where they run there is no toolchain. Static
// libraries need each other in both directions, which a group lets the linker follow.
let runtime: [LinkerSetting] = [
    .unsafeFlags(
        ["-static-stdlib", "-Xlinker", "--start-group"]
            + [
                "Foundation", "CoreFoundation", "FoundationInternationalization",
                "FoundationEssentials", "_FoundationCollections", "_FoundationCShims",
                "_FoundationICU", "swiftSynchronization",
            ].map { "-l" + $0 } + ["-Xlinker", "--end-group"])
]

// What every request runs through lies together in the agent: fewer pages of it to be found again
// after each system call (docs/performance.md). Of the linkers gold alone knows the option, Swift's
// own choice on Linux.
let order: [LinkerSetting] = [
    .unsafeFlags([
        "-Xlinker",
        "--section-ordering-file=\(Context.packageDirectory)/Sources/Programs/malla-agent/hot.order",
    ])
]

let package = Package(
    name: "malla",
    products: [
        .executable(name: "malla-agent", targets: ["malla-agent"]),
        .executable(name: "malla", targets: ["malla"]),
        .executable(name: "testbed", targets: ["Testbed"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
    ],
    targets: [
        // C: the kernel's side of the ABI, the embedded eBPF object, libbpf, and what Glibc's module leaves out.
        .target(name: "CMallaABI", path: "bpf/abi", publicHeadersPath: "."),
        .target(name: "CMallaObject"),
        .systemLibrary(
            name: "CBPF", pkgConfig: "libbpf", providers: [.apt(["libbpf-dev", "libelf-dev"])]),
        .target(name: "CLinux"),
        .target(
            name: "COpenSSL", dependencies: ["CLinux"],
            linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),

        .target(
            name: "CNghttp2", dependencies: ["CLinux"],
            linkerSettings: [.linkedLibrary("nghttp2")]),

        // The arrows of ARCHITECTURE.md; there are no others.
        .target(name: "MeshModel"),
        .target(name: "MeshConfig", dependencies: ["MeshModel", "Yams", "CLinux", "COpenSSL"]),
        .target(
            name: "BPFLoader",
            dependencies: ["MeshModel", "CMallaABI", "CMallaObject", "CBPF", "CLinux"]),
        // A worker's state is one thread's: run-time exclusivity checks cost 3 % of a request there.
        .target(
            name: "L7Engine", dependencies: ["MeshModel", "CLinux", "COpenSSL", "CNghttp2"],
            swiftSettings: [.unsafeFlags(["-enforce-exclusivity=unchecked"])]),
        .target(name: "Supervisor", dependencies: ["CLinux"]),
        .target(name: "AdminAPI"),
        .target(
            name: "NodeAgent",
            dependencies: [
                "MeshModel", "MeshConfig", "BPFLoader", "L7Engine", "Supervisor", "AdminAPI",
                "CLinux",
                logging, arguments,
            ] + nio + identity),
        .target(
            name: "CLI",
            dependencies: ["MeshModel", "MeshConfig", "AdminAPI", "CLinux", arguments] + nio),
        // Apart from their modules, for tests are linked to Swift's shared libraries.
        .executableTarget(
            name: "malla-agent", dependencies: ["NodeAgent"], path: "Sources/Programs/malla-agent",
            exclude: ["hot.order"], linkerSettings: order + runtime),
        .executableTarget(
            name: "malla", dependencies: ["CLI"], path: "Sources/Programs/malla",
            linkerSettings: runtime),

        // Tests. TestSupport makes nodes and pods of network namespaces; Testbed is the same by hand.
        .target(name: "TestSupport", path: "Tests/TestSupport"),
        .executableTarget(name: "Testbed", dependencies: ["TestSupport"], path: "Tests/Testbed"),
        // `make soak`: long runs on a mesh, and the steady load that they use.
        .executableTarget(name: "Soak", dependencies: ["TestSupport"], path: "Tests/Soak"),
        .executableTarget(name: "Pace", path: "Tests/Pace"),
        .testTarget(name: "MeshModelTests", dependencies: ["MeshModel"]),
        .testTarget(
            name: "MeshConfigTests", dependencies: ["MeshConfig", "MeshModel", "TestSupport"]),
        .testTarget(name: "BPFLoaderTests", dependencies: ["BPFLoader", "MeshModel", "CMallaABI"]),
        .target(name: "AllocationCount", path: "Tests/AllocationCount"),
        .testTarget(
            name: "L7EngineTests",
            dependencies: [
                "L7Engine", "MeshModel", "CLinux", "CNghttp2", "COpenSSL", "AllocationCount",
                "TestSupport",
            ], exclude: ["Tunnel/hbone_peer.py"]),
        .testTarget(
            name: "NodeAgentTests",
            dependencies: [
                "NodeAgent", "BPFLoader", "L7Engine", "Supervisor", "MeshModel", "AdminAPI",
                "TestSupport", arguments,
            ] + nio, exclude: ["Fixtures"]),
        .testTarget(
            name: "CLITests", dependencies: ["CLI", "AdminAPI", arguments], exclude: ["Fixtures"]),
        .testTarget(
            name: "KernelTests",
            dependencies: ["BPFLoader", "MeshModel", "CMallaABI", "CBPF", "CLinux"]),
        .testTarget(name: "NodeTests", dependencies: ["TestSupport"]),
        .testTarget(name: "TidyTests"),
    ],
    swiftLanguageModes: [.v6]
)

// `make fuzz`: the engine and its checks under libFuzzer, which brings its own main.
if Context.environment["MALLA_FUZZ"] != nil {
    let fuzzer: [SwiftSetting] = [.unsafeFlags(["-sanitize=fuzzer", "-parse-as-library"])]
    for target in package.targets where target.name == "L7Engine" { target.swiftSettings = fuzzer }
    package.targets.append(
        .executableTarget(
            name: "Fuzz", dependencies: ["L7Engine", "MeshModel", "CLinux"],
            path: "Tests/Fuzz/Target",
            swiftSettings: fuzzer, linkerSettings: [.unsafeFlags(["-sanitize=fuzzer"])]))
}

for target in package.targets
where target.type == .regular || target.type == .executable || target.type == .test {
    if target.name.hasPrefix("C") && target.name != "CLI" && target.name != "CLITests" { continue }
    target.swiftSettings = (target.swiftSettings ?? []) + strict
}
