import CLinux
import Glibc
import MeshModel
import Synchronization

@testable import L7Engine

/// Blocking sockets on 127.0.0.1 with a time limit on every call: the other ends of the engine.
enum Loopback {
    /// - Parameter port: 0: a free one; else one that other listeners share.
    /// - Parameter host: an address of loopback, in host order.
    static func listen(
        backlog: Int32 = 128, port: UInt16 = 0, host: UInt32 = 0x7f00_0001
    ) -> (descriptor: Int32, port: UInt16) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var one: Int32 = 1
        // Safe: the call reads one number.
        unsafe _ = setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &one, 4)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = host.bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        // Safe: the calls read and write this one address.
        unsafe withUnsafeMutablePointer(to: &address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                precondition(unsafe bind(descriptor, $0, size) == 0, "loopback has a free port")
                unsafe _ = getsockname(descriptor, $0, &size)
            }
        }
        Glibc.listen(descriptor, backlog)
        return (descriptor, UInt16(bigEndian: address.sin_port))
    }

    /// At a free port of all addresses, of both families.
    static func listenOnAll(backlog: Int32 = 128) -> (descriptor: Int32, port: UInt16) {
        let descriptor = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
        Glibc.listen(descriptor, backlog)
        var local = engine_address()
        // Safe: the call writes one address.
        unsafe _ = engine_local_address(descriptor, &local)
        return (descriptor, local.port)
    }

    /// - Parameter source: an address of loopback, in host order.
    static func connect(_ port: UInt16, from source: UInt32 = 0) -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        limit(descriptor)
        // Safe: `call` gives it one address.
        if source != 0 { unsafe call(Glibc.bind, descriptor, source, 0) }
        connect(descriptor, port)
        return descriptor
    }

    static func connect(_ descriptor: Int32, _ port: UInt16) {
        limit(descriptor)
        // Safe: as above.
        unsafe call(Glibc.connect, descriptor, 0x7f00_0001, port)
    }

    /// - Parameter host: in host order.
    /// - Parameter waits: until it is connected.
    static func connect(to host: UInt32, _ port: UInt16, waits: Bool = true) -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if !waits { _ = fcntl(descriptor, F_SETFL, O_NONBLOCK) }
        limit(descriptor)
        // Safe: as above.
        unsafe call(Glibc.connect, descriptor, host, port)
        return descriptor
    }

    private static func call(
        _ call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32, _ descriptor: Int32,
        _ host: UInt32, _ port: UInt16
    ) {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = host.bigEndian
        // Safe: the call reads this one address.
        unsafe withUnsafePointer(to: &address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = unsafe call(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    /// Whether something can be read within the time.
    static func isReadable(_ descriptor: Int32, milliseconds: Int32) -> Bool {
        var watched = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // Safe: one record.
        return unsafe poll(&watched, 1, milliseconds) == 1
    }

    static func isConnected(_ descriptor: Int32) -> Bool {
        var peer = sockaddr()
        var size = socklen_t(MemoryLayout<sockaddr>.size)
        return unsafe getpeername(descriptor, &peer, &size) == 0
    }

    static func end(_ descriptor: Int32) { close(descriptor) }

    static func limit(_ descriptor: Int32) {
        var time = timeval(tv_sec: 5, tv_usec: 0)
        unsafe _ = setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        unsafe _ = setsockopt(
            descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    static func send(_ descriptor: Int32, _ text: String) { send(descriptor, Array(text.utf8)) }

    static func send(_ descriptor: Int32, _ bytes: [UInt8]) {
        var at = 0
        while at < bytes.count {
            let count = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.send(
                    descriptor, $0.baseAddress! + at, bytes.count - at, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { return }
            at += count
        }
    }

    /// Whether the condition comes true within ten seconds. A worker counts and logs a request
    /// after it has sent the answer, so a client may be faster.
    static func eventually(_ isTrue: () -> Bool) -> Bool {
        for _ in 0..<5000 {
            if isTrue() { return true }
            poll(nil, 0, 2)
        }
        return isTrue()
    }

    /// Up to `max` bytes; empty at the end or after five seconds.
    static func receive(_ descriptor: Int32, max: Int = 65536) -> [UInt8] {
        unsafe [UInt8](unsafeUninitializedCapacity: max) { buffer, count in
            count = unsafe Swift.max(0, recv(descriptor, buffer.baseAddress!, max, 0))
        }
    }

    /// One message with a head and `Content-Length` (or until the end), as text.
    static func message(_ descriptor: Int32) -> String {
        var bytes: [UInt8] = []
        while true {
            if let end = headEnd(bytes) {
                let head = String(decoding: bytes[..<end], as: UTF8.self).lowercased()
                if let length = field(head, "content-length").flatMap({ Int($0) }) {
                    if bytes.count >= end + length { break }
                } else if field(head, "transfer-encoding") != nil {
                    if bytes.suffix(5) == Array("0\r\n\r\n".utf8) { break }
                } else if !head.hasPrefix("http/") {
                    break
                }
            }
            let more = receive(descriptor)
            if more.isEmpty { break }
            bytes += more
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    static func headEnd(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        for index in 0...(bytes.count - 4)
        where bytes[index] == 13 && bytes[index + 1] == 10 && bytes[index + 2] == 13
            && bytes[index + 3] == 10
        {
            return index + 4
        }
        return nil
    }

    static func field(_ head: String, _ name: String) -> String? {
        for line in head.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2, parts[0].lowercased() == name {
                return String(parts[1].drop { $0 == " " })
            }
        }
        return nil
    }
}

/// A server whose every connection is a thread that runs `serve` with the connection's number.
final class Origin: Sendable {
    let port: UInt16
    private let descriptor: Int32

    /// - Parameter host: an address of loopback, in host order.
    convenience init(
        host: UInt32 = 0x7f00_0001, _ serve: @escaping @Sendable (Int32, Int) -> Void
    ) {
        self.init(at: Loopback.listen(host: host), serve)
    }

    init(
        at listener: (descriptor: Int32, port: UInt16),
        _ serve: @escaping @Sendable (Int32, Int) -> Void
    ) {
        (descriptor, port) = listener
        let descriptor = listener.descriptor
        try? Thread.start {
            var number = 0
            while true {
                let connection = accept(descriptor, nil, nil)
                guard connection >= 0 else { return }
                Loopback.limit(connection)
                let ordinal = number
                number += 1
                try? Thread.start {
                    serve(connection, ordinal)
                    close(connection)
                }
            }
        }
    }

    deinit {
        shutdown(descriptor, Int32(SHUT_RDWR))
        close(descriptor)
    }

    /// Answers each request with its own head as the body, prefixed by `name`.
    static func echo(_ name: String = "", isOnAll: Bool = false) -> Origin {
        Origin(at: isOnAll ? Loopback.listenOnAll() : Loopback.listen()) { connection, _ in
            while true {
                let request = Loopback.message(connection)
                if request.isEmpty { return }
                let body = name + request
                Loopback.send(
                    connection,
                    "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\nX-Origin: \(name)\r\n\r\n\(body)"
                )
            }
        }
    }
}

/// An engine with one worker, one Gateway socket and one service for each origin port.
struct Gateway {
    let engine: Engine
    let port: UInt16
    private let descriptor: Int32
    private let origins: [UInt16]
    private let workloads: [Workload]
    /// All origins are endpoints of one service.
    private let isOneService: Bool

    init(
        origins: [UInt16], rules: [HTTPRouteRule], workloads: [Workload] = [],
        limits: Limits = Limits(), isOneService: Bool = false
    ) throws {
        self.isOneService = isOneService
        self.workloads = workloads
        (descriptor, port) = Loopback.listen()
        self.origins = origins
        engine = try Engine(EngineOptions(workers: 1), limits: limits)
        try engine.start()
        adopt(rules, version: 1)
    }

    /// All requests go to the one origin.
    init(
        to origin: Origin, filters: [HTTPRouteFilter] = [],
        _ change: (inout Limits) -> Void = { _ in }
    ) throws {
        var limits = Limits()
        change(&limits)
        try self.init(
            origins: [origin.port],
            rules: [HTTPRouteRule(filters: filters, backends: [Gateway.to(0)])], limits: limits)
    }

    func adopt(_ rules: [HTTPRouteRule], version: UInt64) {
        let groups = isOneService ? [origins] : origins.map { [$0] }
        let services = groups.map { ports in
            Service(
                name: ObjectName("shop", "s\(ports[0])"), addresses: [],
                ports: [
                    ServicePort(
                        name: "http", port: 80, application: .http,
                        endpoints: ports.map { Endpoint(address: SocketAddress(.loopbackV4, $0)) })
                ])
        }
        let listener = Listener(
            gateway: ObjectName("shop", "edge"), name: "web", addresses: [.loopbackV4], port: port,
            hostname: nil)
        let route = HTTPRoute(
            name: ObjectName("shop", "all"), attachments: [.listener(0, hostnames: ["*"])],
            rules: rules)
        let mesh = Mesh(
            workloads: workloads, services: services, listeners: [listener], routes: [route])
        engine.adopt(
            SnapshotCompiler.compile(mesh, node: "n", version: version), sockets: [[descriptor]])
    }

    /// Ends the worker; the listening socket is ours.
    func stop() {
        engine.drain(seconds: 1)
        close(descriptor)
    }

    func get(_ target: String = "/", _ fields: String = "") -> String {
        let client = Loopback.connect(port)
        defer { close(client) }
        Loopback.send(client, "GET \(target) HTTP/1.1\r\nHost: shop.example\r\n\(fields)\r\n")
        return Loopback.message(client)
    }

    static func to(_ service: Int, weight: UInt32 = 1) -> RouteBackend {
        RouteBackend(target: .service(service, port: 0), weight: weight)
    }
}

extension Workload {
    /// A pod that a test's client is.
    static func client(_ namespace: String, _ name: String, _ address: String) -> Workload {
        Workload(
            name: ObjectName(namespace, name), serviceAccount: "default", node: "n",
            labels: ["app": "shop-web", "version": "v2"],
            addresses: [IPAddress(address)].compactMap(\.self), interface: nil, isMeshed: true,
            workloadName: name)
    }
}
