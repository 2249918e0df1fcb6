import Glibc
import MeshModel

@testable import L7Engine

/// An engine whose one worker accepts what was captured for one service, as in the engine's
/// namespace, but on loopback.
struct CapturedPort {
    let engine: Engine
    let port: UInt16
    private let descriptor: Int32

    /// - Parameter application: `.http` is captured as declared, another because an HTTPRoute names
    ///   the port; `.tcp` without a route was captured before.
    /// - Parameter isOnAll: the service has an address of IPv6, too.
    init(
        origin: UInt16?, application: ApplicationProtocol = .http, isRouted: Bool = false,
        limits: Limits = Limits(), workloads: [Workload] = [], isOnAll: Bool = false
    ) throws {
        (descriptor, port) = isOnAll ? Loopback.listenOnAll() : Loopback.listen()
        engine = try Engine(
            EngineOptions(workers: 1, capturedListeners: [descriptor]), limits: limits)
        try engine.start()
        let endpoints = origin.map { [Endpoint(address: SocketAddress(.loopbackV4, $0))] } ?? []
        var service = Service(
            name: ObjectName("shop", "catalog"),
            addresses: isOnAll ? [.loopbackV4, IPAddress(high: 0, low: 1)] : [.loopbackV4],
            ports: [
                ServicePort(name: "p", port: port, application: .http, endpoints: endpoints)
            ])
        let before = SnapshotCompiler.compile(
            Mesh(workloads: workloads, services: [service]), node: "n", version: 1)
        service.ports[0].application = application
        let route = HTTPRoute(
            name: ObjectName("shop", "all"), attachments: [.service(0, port: 0)],
            rules: [HTTPRouteRule(backends: [Gateway.to(0)])])
        let mesh = Mesh(
            workloads: workloads, services: [service], routes: isRouted ? [route] : [])
        engine.adopt(
            SnapshotCompiler.compile(mesh, node: "n", version: 2, after: before), sockets: [])
    }

    /// A port whose protocol the first bytes say.
    static func detecting(
        _ origin: UInt16?, limits: Limits = Limits(), workloads: [Workload] = []
    ) throws -> CapturedPort {
        try CapturedPort(
            origin: origin, application: .undeclared, isRouted: true, limits: limits,
            workloads: workloads)
    }

    func stop() {
        engine.drain(seconds: 1)
        close(descriptor)
    }

    func counts(_ line: String) -> Bool {
        Loopback.eventually { engine.exposition().contains(line + "\n") }
    }
}

extension Loopback {
    /// Sends `text`, then reads until the other end closes (or five seconds without a byte).
    static func exchange(_ port: UInt16, _ text: String) -> String {
        let client = connect(port)
        defer { close(client) }
        send(client, text)
        return String(decoding: rest(client), as: UTF8.self)
    }

    /// What comes until the other end closes, or five seconds without a byte.
    static func rest(_ descriptor: Int32) -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let more = receive(descriptor)
            if more.isEmpty { return bytes }
            bytes += more
        }
    }

    /// How the connection ends, after what still comes: 0, or the errno of the last recv.
    static func ending(_ descriptor: Int32) -> Int32 {
        var bytes = [UInt8](repeating: 0, count: 65536)
        while true {
            // Safe: the call writes no more than the array holds.
            let count = unsafe recv(descriptor, &bytes, bytes.count, 0)
            if count <= 0 { return count == 0 ? 0 : errno }
        }
    }

    /// Its close will be a reset.
    static func willReset(_ descriptor: Int32) {
        var none = linger(l_onoff: 1, l_linger: 0)
        // Safe: the call reads one record.
        unsafe _ = setsockopt(
            descriptor, SOL_SOCKET, SO_LINGER, &none, socklen_t(MemoryLayout<linger>.size))
    }
}
