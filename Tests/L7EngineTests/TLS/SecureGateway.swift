import Foundation
import MeshModel
import TestSupport

@testable import L7Engine

/// An engine with one worker and one HTTPS socket of several listeners, each of which routes all of
/// its requests to the origin.
struct SecureGateway {
    struct Site {
        /// nil: all hosts.
        var hostname: String?
        var certificates: [Certificate]
        var versionMin = ListenerTLS.Version.v12
        var clients: ClientValidation?
        var isPlain = false

        /// For all hosts, with a certificate for a.example.
        static func anyHost(_ authority: TestAuthority) throws -> Site {
            Site(
                hostname: nil, certificates: [try authority.issue("DNS:a.example").certificate()])
        }
    }

    let engine: Engine
    let port: UInt16
    let descriptor: Int32
    private let origin: UInt16
    private let filters: [HTTPRouteFilter]

    init(
        _ sites: [Site], origin: UInt16, backend: BackendTLS? = nil,
        filters: [HTTPRouteFilter] = [], limits: Limits = Limits()
    ) throws {
        (descriptor, port) = Loopback.listen()
        self.origin = origin
        self.filters = filters
        engine = try Engine(EngineOptions(workers: 1), limits: limits)
        try engine.start()
        adopt(sites, version: 1, backend: backend)
    }

    func adopt(_ sites: [Site], version: UInt64, backend: BackendTLS? = nil) {
        var mesh = Mesh(
            services: [
                Service(
                    name: ObjectName("shop", "web"), addresses: [],
                    ports: [
                        ServicePort(
                            name: "http", port: 80, application: .http,
                            endpoints: [Endpoint(address: SocketAddress(.loopbackV4, origin))],
                            tls: backend)
                    ])
            ])
        var attachments: [RouteAttachment] = []
        for (index, site) in sites.enumerated() {
            let first = mesh.certificates.count
            mesh.certificates += site.certificates
            mesh.listeners.append(
                Listener(
                    gateway: ObjectName("shop", "edge"), name: "l\(index)",
                    addresses: [.loopbackV4], port: port, hostname: site.hostname,
                    tls: site.isPlain
                        ? nil
                        : ListenerTLS(
                            certificates: Array(first..<mesh.certificates.count),
                            versionMin: site.versionMin, clients: site.clients)))
            attachments.append(.listener(index, hostnames: [site.hostname ?? "*"]))
        }
        mesh.routes = [
            HTTPRoute(
                name: ObjectName("shop", "all"), attachments: attachments,
                rules: [
                    HTTPRouteRule(
                        filters: filters,
                        backends: [RouteBackend(target: .service(0, port: 0))])
                ])
        ]
        engine.adopt(
            SnapshotCompiler.compile(mesh, node: "n", version: version), sockets: [[descriptor]])
    }

    func stop() {
        engine.drain(seconds: 1)
        close(descriptor)
    }

    /// What curl prints, with the status on a line of its own behind it.
    func curl(_ host: String, _ authority: TestAuthority, _ options: [String] = []) -> String {
        Program.run(
            [
                "curl", "-sS", "--max-time", "10", "--cacert", authority.file, "--resolve",
                "\(host):\(port):127.0.0.1", "-w", "\n%{http_code}",
            ] + options + ["https://\(host):\(port)/"]
        ).output
    }

    /// What `openssl s_client` prints about one request and its answer, and behind it the
    /// certificate as text.
    func client(_ options: String..., input: String = SecureGateway.request) -> String {
        client(options, input: input)
    }

    func client(_ options: [String], input: String = SecureGateway.request) -> String {
        let answer = Program.run(
            ["openssl", "s_client", "-connect", "127.0.0.1:\(port)", "-ign_eof"] + options,
            input: input
        ).output
        guard answer.contains("BEGIN CERTIFICATE") else { return answer }
        return answer + Program.run(["openssl", "x509", "-noout", "-text"], input: answer).output
    }

    static let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"

    func handshakes(_ side: HandshakeSide, _ result: TLSFailure) -> UInt64 {
        engine.tallies.reduce(0) { $0 + $1.value(side, result) }
    }

    /// Waits, at most five seconds, until so many handshakes ended so.
    func waitFor(_ side: HandshakeSide, _ result: TLSFailure, _ count: UInt64 = 1) -> Bool {
        (try? eventually("\(count) \(result)", within: 5) {
            handshakes(side, result) >= count
        }) != nil
    }
}

/// One TLS connection that stays open, by `openssl s_client`.
final class SecureClient {
    private let process = Process()
    private let input = Foundation.Pipe()
    private let output = Foundation.Pipe()

    init(_ gateway: SecureGateway, _ host: String) throws {
        process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        process.arguments = [
            "s_client", "-connect", "127.0.0.1:\(gateway.port)", "-servername", host, "-quiet",
        ]
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
    }

    /// One answer of the echoing origin: it ends with the head of the request.
    func get(_ target: String) -> String {
        input.fileHandleForWriting.write(
            Data("GET \(target) HTTP/1.1\r\nHost: a.example\r\n\r\n".utf8))
        var text = ""
        while text.components(separatedBy: "\r\n\r\n").count < 3 {
            let more = output.fileHandleForReading.availableData
            if more.isEmpty { break }
            text += String(decoding: more, as: UTF8.self)
        }
        return text
    }

    func close() {
        try? input.fileHandleForWriting.close()
        // It ignores the end of its input and, in a test's process, SIGTERM.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
}
