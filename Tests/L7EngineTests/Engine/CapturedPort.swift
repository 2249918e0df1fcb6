import Glibc
import MeshModel

@testable import L7Engine

/// An engine whose one worker accepts what was captured for one service, as in the engine's
/// namespace, but on loopback.
struct CapturedPort {
    let engine: Engine
    let port: UInt16
    private let descriptor: Int32

    init(origin: UInt16) throws {
        (descriptor, port) = Loopback.listen()
        engine = try Engine(EngineOptions(workers: 1, capturedListeners: [descriptor]))
        try engine.start()
        let service = Service(
            name: ObjectName("shop", "catalog"), addresses: [.loopbackV4],
            ports: [
                ServicePort(
                    name: "http", port: port, application: .http,
                    endpoints: [Endpoint(address: SocketAddress(.loopbackV4, origin))])
            ])
        let mesh = Mesh(services: [service])
        engine.adopt(SnapshotCompiler.compile(mesh, node: "n", version: 1), sockets: [])
    }

    func stop() {
        engine.drain(seconds: 1)
        close(descriptor)
    }
}

extension Loopback {
    /// Sends `text`, then reads until the other end closes (or five seconds without a byte).
    static func exchange(_ port: UInt16, _ text: String) -> String {
        let client = connect(port)
        defer { close(client) }
        send(client, text)
        var bytes: [UInt8] = []
        while true {
            let more = receive(client)
            if more.isEmpty { break }
            bytes += more
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
