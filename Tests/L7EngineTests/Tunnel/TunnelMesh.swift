import Foundation
import Glibc
import MeshModel
import Synchronization
import TestSupport

@testable import L7Engine

/// Two nodes on loopback: on `a` the client's engine, which accepts what was captured for a service,
/// on `b` a pod at an address of its own, with an engine on its port 15008 or a peer of the test's.
final class TunnelMesh {
    /// Who the pods are.
    static let clientID = "spiffe://cluster.local/ns/shop/sa/web"
    static let serverID = "spiffe://cluster.local/ns/shop/sa/stock"

    struct Options {
        var application = ApplicationProtocol.http
        /// What the client's node takes it for, if something else.
        var clientApplication: ApplicationProtocol?
        var limits = Limits()
        /// What each node is given; `nil`: it has no certificate.
        var clientID: String? = TunnelMesh.clientID
        var serverID: String? = TunnelMesh.serverID
        /// The server's node runs an engine.
        var hasServer = true
        var modes: [PeerAuthentication] = []
        var clientAccountAtServer = "web"
    }

    let authority: TestAuthority
    let client: Engine
    let server: Engine?
    /// Where clients connect.
    let port: UInt16
    /// The pod's address, and the port of what it runs.
    let pod: IPAddress
    let target: UInt16
    private var origin: Origin?
    private var descriptors: [Int32] = []
    private let options: Options
    private var version: UInt64 = 2

    /// - Parameter serve: what the pod runs: a connection, and its number.
    init(
        _ options: Options = Options(), _ serve: @escaping @Sendable (Int32, Int) -> Void
    ) throws {
        self.options = options
        authority = try TestAuthority()
        // Of its own, so that tests may run beside each other.
        let host = 0x7f40_0000 | UInt32.random(in: 1...0x003f_fffe)
        pod = IPAddress(v4: host)
        let origin = Origin(host: host, serve)
        self.origin = origin
        target = origin.port
        let (captured, port) = Loopback.listen()
        self.port = port
        descriptors.append(captured)
        client = try Engine(
            EngineOptions(workers: 1, capturedListeners: [captured]), limits: options.limits)
        try client.start()
        if options.hasServer {
            let (tunnels, _) = Loopback.listen(port: 15008, host: host)
            descriptors.append(tunnels)
            let server = try Engine(
                EngineOptions(workers: 1, capturedListeners: [tunnels]), limits: options.limits)
            try server.start()
            self.server = server
        } else {
            server = nil
        }
        try adopt(clientID: options.clientID, serverID: options.serverID)
        adoptMesh()
    }

    /// Where the pod's tunnels are taken.
    var tunnelAddress: String { "\(pod):15008" }
    var authorityName: String { "\(pod):\(target)" }

    func adopt(clientID: String?, serverID: String?) throws {
        client.adopt(try credentials(clientID.map { [$0] } ?? []))
        server?.adopt(try credentials(serverID.map { [$0] } ?? []))
    }

    func credentials(_ ids: [String], isExpired: Bool = false) throws -> Credentials {
        let domain = TrustDomain.standard
        var svids: [SPIFFEID: X509SVID] = [:]
        for id in ids {
            let svid = try authority.svid(id, isExpired: isExpired)
            svids[svid.id] = svid
        }
        let bundle = TrustBundle(trustDomain: domain, roots: PEM.blocks(authority.bundle))
        return Credentials(version: 1, svids: svids, bundles: [domain: bundle])
    }

    /// What is in force, once `change` is made.
    func adoptMesh(_ change: (inout Mesh) -> Void = { _ in }) {
        version += 2
        client.adopt(snapshot("a", change), sockets: [])
        server?.adopt(snapshot("b", change), sockets: [])
    }

    /// Where the Nodes say that pods are: those of `a` there, the pod of `b` in a block of its own.
    static func confine(_ mesh: inout Mesh, to block: String) {
        for (index, text) in [block, "127.64.0.0/10"].enumerated() {
            mesh.nodes[index].podBlocks = [IPPrefix(text)!]
        }
    }

    private func snapshot(_ node: String, _ change: (inout Mesh) -> Void) -> Snapshot {
        var web = Workload.client("shop", "web", "127.0.0.1")
        web.node = "a"
        web.serviceAccount = node == "b" ? options.clientAccountAtServer : "web"
        var stock = Workload.client("shop", "stock", "\(pod)")
        stock.node = "b"
        stock.serviceAccount = "stock"
        var service = Service(
            name: ObjectName("shop", "stock"), addresses: [.loopbackV4],
            ports: [
                ServicePort(
                    name: "p", port: port, application: .http,
                    endpoints: [Endpoint(address: SocketAddress(pod, target), node: "b")])
            ])
        var mesh = Mesh(
            nodes: [
                Node(name: "a", addresses: []), Node(name: "b", addresses: []),
            ], workloads: [web, stock], services: [service], peerAuthentications: options.modes)
        let before = SnapshotCompiler.compile(mesh, node: node, version: version - 1)
        // A port of TCP that was one of HTTP stays captured: the engine's opaque path.
        service.ports[0].application =
            (node == "a" ? options.clientApplication : nil) ?? options.application
        mesh.services = [service]
        change(&mesh)
        return SnapshotCompiler.compile(mesh, node: node, version: version, after: before)
    }

    /// Nothing listens there any more.
    func closePod() { origin = nil }

    func stop() {
        client.drain(seconds: 1)
        server?.drain(seconds: 1)
        for descriptor in descriptors { close(descriptor) }
        authority.remove()
    }

    func get(_ target: String = "/", _ fields: String = "") -> String {
        let client = Loopback.connect(port)
        defer { close(client) }
        Loopback.send(client, "GET \(target) HTTP/1.1\r\nHost: stock\r\n\(fields)\r\n")
        return Loopback.message(client)
    }

    /// Whether an engine comes to say the line of its metrics.
    static func counts(_ engine: Engine?, _ line: String) -> Bool {
        Loopback.eventually { engine?.exposition().contains(line + "\n") ?? false }
    }

    /// What an engine's metrics say of a series; -1: nothing.
    static func value(_ engine: Engine?, _ series: String) -> Int {
        let lines = engine?.exposition().split(separator: "\n") ?? []
        return lines.first { $0.hasPrefix(series + " ") }
            .flatMap { Int($0.dropFirst(series.count + 1)) } ?? -1
    }
}

/// The other kind of peer: a program in Python.
final class PythonPeer {
    private let process = Process()
    private let output = Foundation.Pipe()
    static let script =
        (ProcessInfo.processInfo.environment["MALLA_TEST_ROOT"] ?? repository)
        + "/Tests/L7EngineTests/Tunnel/hbone_peer.py"
    private static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    /// A server that runs until `stop`.
    ///
    /// - Parameter issuer: who has signed its certificate; `nil`: the mesh's own authority.
    init(
        _ mesh: TunnelMesh, id: String, issuer: TestAuthority? = nil, isExpired: Bool = false,
        at address: String? = nil, _ words: [String] = []
    ) throws {
        let pair = try (issuer ?? mesh.authority).issue("URI:\(id)", isExpired: isExpired)
        let files = try mesh.authority.write(pair, UUID().uuidString)
        process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        process.arguments =
            [
                Self.script, "server", address ?? mesh.tunnelAddress, "--ca",
                mesh.authority.file, "--cert", files.chain, "--key", files.key, "--connect",
                mesh.authorityName,
            ] + words
        process.standardOutput = output
        try process.run()
        _ = said(1)
    }

    private var lines: [String] = []
    /// The first lines that it has printed, or fewer after ten seconds without one.
    func said(_ count: Int) -> [String] {
        let descriptor = output.fileHandleForReading.fileDescriptor
        while lines.count < count, Loopback.isReadable(descriptor, milliseconds: 10_000) {
            let more = output.fileHandleForReading.availableData
            if more.isEmpty { break }
            lines += String(decoding: more, as: UTF8.self).split(separator: "\n").map(String.init)
        }
        return lines
    }

    func stop() {
        // A thread of the tests' blocks signals, and so does what it starts.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// A client run to its end: what it has printed.
    static func client(
        _ mesh: TunnelMesh, _ pair: TestAuthority.Pair?, trust: TestAuthority? = nil,
        _ words: [String] = []
    ) throws -> String { try prepared(mesh, pair, trust: trust, words)() }

    /// The same for a thread of its own.
    static func prepared(
        _ mesh: TunnelMesh, _ pair: TestAuthority.Pair?, trust: TestAuthority? = nil,
        _ words: [String] = []
    ) throws -> @Sendable () -> String {
        let files = try pair.map { try mesh.authority.write($0, UUID().uuidString) }
        let line = clientLine(mesh.tunnelAddress, trust ?? mesh.authority, files, words)
        return { Program.run(line, seconds: 40).output }
    }

    static func clientLine(
        _ address: String, _ trust: TestAuthority, _ files: (chain: String, key: String)?,
        _ words: [String]
    ) -> [String] {
        ["/usr/bin/python3", script, "client", address, "--ca", trust.file]
            + (files.map { ["--cert", $0.chain, "--key", $0.key] } ?? []) + words
    }
}

enum PEM {
    /// DER of each block.
    static func blocks(_ pem: [UInt8]) -> [[UInt8]] {
        var blocks: [[UInt8]] = []
        var text = ""
        for line in String(decoding: pem, as: UTF8.self).split(whereSeparator: \.isNewline) {
            if line.hasPrefix("-----BEGIN") {
                text = ""
            } else if line.hasPrefix("-----END") {
                if let data = Data(base64Encoded: text) { blocks.append([UInt8](data)) }
            } else {
                text += line
            }
        }
        return blocks
    }
}

extension TestAuthority {
    /// A certificate of a workload as the engine holds it.
    func svid(_ id: String, isExpired: Bool = false) throws -> X509SVID {
        let pair = try issue("URI:\(id)", isExpired: isExpired)
        let files = try write(pair, UUID().uuidString)
        // Safe: the path is copied.
        let descriptor = unsafe open(files.key, O_RDONLY)
        defer { close(descriptor) }
        return X509SVID(
            id: try SPIFFEID(id), chain: PEM.blocks(pair.chain),
            key: try SigningKey.read(from: descriptor), notBefore: 1_577_836_800,
            notAfter: isExpired ? 1_577_923_200 : 3_155_760_000)
    }
}

/// What threads of a test found.
final class Results: Sendable {
    private let found = Mutex<[Bool]>([])
    func add(_ result: Bool) { found.withLock { $0.append(result) } }
    var count: Int { found.withLock { $0.count } }
    var all: Bool { found.withLock { $0.allSatisfy(\.self) } }
}
