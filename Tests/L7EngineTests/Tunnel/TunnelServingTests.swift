import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Two engines: a call between nodes goes by mutual TLS and CONNECT", .serialized)
struct TunnelServingTests {
    /// Sends back what comes, until its end.
    static let echo: @Sendable (Int32, Int) -> Void = { connection, _ in
        while true {
            let bytes = Loopback.receive(connection)
            if bytes.isEmpty { return }
            Loopback.send(connection, bytes)
        }
    }

    static func opaque(_ change: (inout TunnelMesh.Options) -> Void = { _ in })
        -> TunnelMesh.Options
    {
        var options = TunnelMesh.Options(application: .tcp)
        change(&options)
        return options
    }

    static let answer: @Sendable (Int32, Int) -> Void = { connection, _ in
        while true {
            let request = Loopback.message(connection)
            if request.isEmpty { return }
            Loopback.send(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Length: \(request.utf8.count)\r\n\r\n\(request)")
        }
    }

    @Test func `requests of one pod share a stream on one tunnel`() throws {
        let mesh = try TunnelMesh(TunnelMesh.Options(), Self.answer)
        defer { mesh.stop() }
        for number in 0..<5 {
            let answer = mesh.get("/\(number)")
            #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
            #expect(answer.contains("GET /\(number) HTTP/1.1\r\n"))
        }
        let client = mesh.client.exposition()
        #expect(client.contains("malla_tunnels_opened_total{side=\"upstream\"} 1\n"))
        #expect(client.contains("malla_tunnel_streams_total{side=\"upstream\"} 1\n"))
        #expect(client.contains("malla_tls_handshakes_total{side=\"upstream\",result=\"ok\"} 1\n"))
        let server = try #require(mesh.server).exposition()
        #expect(server.contains("malla_tunnels{side=\"downstream\"} 1\n"))
        #expect(
            server.contains("malla_tls_handshakes_total{side=\"downstream\",result=\"ok\"} 1\n"))
    }

    /// Puts a socket that takes nothing in the place of the client's end of the tunnel, which does
    /// not hear of it.
    private static func muteTunnel(of mesh: TunnelMesh) throws {
        for descriptor in 3..<Int32(4096) {
            var peer = sockaddr_in()
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            // Safe: the call writes one address.
            let result = unsafe withUnsafeMutablePointer(to: &peer) {
                unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe getpeername(descriptor, $0, &size)
                }
            }
            guard result == 0, peer.sin_family == sa_family_t(AF_INET),
                UInt16(bigEndian: peer.sin_port) == 15008,
                UInt32(bigEndian: peer.sin_addr.s_addr) == UInt32(truncatingIfNeeded: mesh.pod.low)
            else { continue }
            var pair: [Int32] = [-1, -1]
            let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
            // Safe: the call writes two numbers.
            let made = unsafe socketpair(AF_UNIX, kind, 0, &pair)
            try #require(made == 0)
            close(pair[1])
            #expect(dup2(pair[0], descriptor) == descriptor)
            close(pair[0])
            return
        }
        Issue.record("there is no tunnel")
    }

    @Test func `a POST of which nothing has left in a lost tunnel goes by another one`() throws {
        let mesh = try TunnelMesh(TunnelMesh.Options(), Self.answer)
        defer { mesh.stop() }
        #expect(mesh.get().hasPrefix("HTTP/1.1 200 "))
        #expect(TunnelMesh.counts(mesh.client, "malla_upstream_connections{state=\"idle\"} 1"))
        try Self.muteTunnel(of: mesh)
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        Loopback.send(client, "POST /a HTTP/1.1\r\nHost: stock\r\nContent-Length: 4\r\n\r\nbody")
        let answer = Loopback.message(client)
        #expect(answer.hasPrefix("HTTP/1.1 200 ") && answer.hasSuffix("\r\nbody"), "\(answer)")
        #expect(TunnelMesh.counts(mesh.client, "malla_tunnels_opened_total{side=\"upstream\"} 2"))
        #expect(
            TunnelMesh.counts(
                mesh.client,
                "malla_tunnels_ended_total{side=\"upstream\",reason=\"connection_lost\"} 1"))
    }

    @Test(arguments: [ApplicationProtocol.http, .tcp])
    func `the pod is told its real client, once, whoever read the request before`(
        _ application: ApplicationProtocol
    ) throws {
        var options = TunnelMesh.Options()
        options.clientApplication = application
        let mesh = try TunnelMesh(options, Self.answer)
        defer { mesh.stop() }
        let said = mesh.get("/", "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n")
        #expect(said.contains("\r\nX-Forwarded-For: 6.6.6.6, 127.0.0.1\r\n"), "\(said)")
        #expect(said.contains("\r\nForwarded: for=6.6.6.6, for=127.0.0.1\r\n"), "\(said)")
        #expect(mesh.get().contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"))
    }

    @Test(arguments: [true, false])
    func `who closes and then resets is reset at a silent other end, too`(_ isClient: Bool) throws {
        let (heard, ended, reset) = (Results(), Results(), Results())
        /// Hears the end of the other side, and says nothing.
        let listens: @Sendable (Int32) -> Void = { connection in
            heard.add(Loopback.receive(connection) == [UInt8]("last".utf8))
            ended.add(Loopback.receive(connection).isEmpty)
            var event = pollfd(fd: connection, events: 0, revents: 0)
            let count = unsafe poll(&event, 1, 5_000)
            reset.add(count == 1 && event.revents & Int16(POLLERR | POLLHUP) != 0)
        }
        /// Sends, says that this was all; its close is a reset, when the other side has heard it.
        let leaves: @Sendable (Int32) -> Void = { connection in
            Loopback.send(connection, "last")
            shutdown(connection, Int32(SHUT_WR))
            _ = Loopback.eventually { ended.count == 1 }
            Loopback.willReset(connection)
        }
        let mesh = try TunnelMesh(Self.opaque()) { connection, _ in
            isClient ? listens(connection) : leaves(connection)
        }
        defer { mesh.stop() }
        let client = Loopback.connect(mesh.port)
        isClient ? leaves(client) : listens(client)
        close(client)
        #expect(Loopback.eventually { reset.count == 1 })
        #expect(heard.all && ended.all && reset.all)
    }

    @Test func `bytes of tunnels are counted at both ends, each way`() throws {
        let answer = 50_000
        let mesh = try TunnelMesh(Self.opaque()) { connection, _ in
            var count = 0
            while count < 1_000_000 {
                let bytes = Loopback.receive(connection)
                if bytes.isEmpty { break }
                count += bytes.count
            }
            Loopback.send(connection, [UInt8](repeating: 9, count: answer))
        }
        defer { mesh.stop() }
        func bytes(_ engine: Engine?, _ way: String, _ side: String) -> Int {
            TunnelMesh.value(engine, "malla_tunnel_\(way)_bytes_total{side=\"\(side)\"}")
        }
        let (client, server) = (mesh.client, mesh.server)
        #expect(bytes(client, "sent", "upstream") == 0 && bytes(server, "sent", "downstream") == 0)
        let link = Loopback.connect(mesh.port)
        defer { close(link) }
        Loopback.send(link, [UInt8](repeating: 7, count: 1_000_000))
        #expect(Loopback.rest(link).count == answer)
        // What one end has sent the other has received; frames add little.
        for (from, to, way, back, count) in [
            (client, server, "upstream", "downstream", 1_000_000),
            (server, client, "downstream", "upstream", answer),
        ] {
            #expect(
                Loopback.eventually {
                    let sent = bytes(from, "sent", way)
                    return sent >= count && sent == bytes(to, "received", back)
                })
            #expect(bytes(from, "sent", way) < count + 20_000, "\(bytes(from, "sent", way))")
        }
        #expect(bytes(client, "sent", "downstream") == 0)
        #expect(bytes(server, "received", "upstream") == 0)
    }

    @Test func `each direction ends by itself`() throws {
        let mesh = try TunnelMesh(Self.opaque()) { connection, _ in
            var count = 0
            while true {
                let bytes = Loopback.receive(connection)
                if bytes.isEmpty { break }
                count += bytes.count
            }
            Loopback.send(connection, "\(count)")
        }
        defer { mesh.stop() }
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        Loopback.send(client, [UInt8](repeating: 7, count: 100_000))
        shutdown(client, Int32(SHUT_WR))
        #expect(String(decoding: Loopback.rest(client), as: UTF8.self) == "100000")
    }

    @Test func `a server that speaks first is heard`() throws {
        let mesh = try TunnelMesh(Self.opaque()) { connection, _ in
            Loopback.send(connection, "220 ready\r\n")
            _ = Loopback.receive(connection)
        }
        defer { mesh.stop() }
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        #expect(String(decoding: Loopback.receive(client), as: UTF8.self) == "220 ready\r\n")
    }

    @Test(arguments: [true, false])
    func `a reset of one end is a reset of the other`(_ isServers: Bool) throws {
        let mesh = try TunnelMesh(Self.opaque()) { connection, _ in
            let bytes = Loopback.receive(connection)
            Loopback.send(connection, bytes)
            if isServers {
                Loopback.willReset(connection)
            } else {
                // What the other end did is said by the errno, which the test hears as a name.
                Loopback.send(connection, Loopback.ending(connection) == ECONNRESET ? "r" : "e")
            }
        }
        defer { mesh.stop() }
        let client = Loopback.connect(mesh.port)
        Loopback.send(client, "a")
        #expect(Loopback.receive(client).count == 1)
        if isServers {
            #expect(Loopback.ending(client) == ECONNRESET)
            close(client)
        } else {
            Loopback.willReset(client)
            close(client)
            #expect(
                TunnelMesh.counts(
                    mesh.server, "malla_requests_failed_total{reason=\"downstream_gone\"} 1"))
        }
    }

    @Test func `big streams arrive as they were sent, several at a time`() throws {
        let mesh = try TunnelMesh(Self.opaque(), Self.echo)
        defer { mesh.stop() }
        let size = 24 << 20
        let port = mesh.port
        let results = Results()
        for number in 0..<3 {
            try Thread.start {
                let client = Loopback.connect(port)
                defer { close(client) }
                try? Thread.start {
                    Loopback.send(
                        client, (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ number) })
                    shutdown(client, Int32(SHUT_WR))
                }
                var at = 0
                var isSame = true
                while true {
                    let bytes = Loopback.receive(client, max: 1 << 20)
                    if bytes.isEmpty { break }
                    for byte in bytes {
                        isSame = isSame && byte == UInt8(truncatingIfNeeded: at &* 31 &+ number)
                        at += 1
                    }
                }
                results.add(isSame && at == size)
            }
        }
        #expect(Loopback.eventually { results.count == 3 })
        #expect(results.all)
    }

    @Test(arguments: [1, 3]) func `who does not read holds up its sender, and nobody else`(
        _ stalls: Int
    ) throws {
        let mayRead = Results()
        // All in one tunnel, whose own window three would use up.
        let options = Self.opaque {
            $0.limits.carriersMax = 1
            $0.limits.tunnelWindowsBytesMax = 256 << 10
        }
        let mesh = try TunnelMesh(options) { connection, number in
            if number < stalls { _ = Loopback.eventually { mayRead.count > 0 } }
            Self.echo(connection, number)
        }
        defer { mesh.stop() }
        var stalled: [Int32] = []
        defer { for client in stalled { close(client) } }
        for _ in 0..<stalls {
            stalled.append(Loopback.connect(mesh.port))
            // Sockets of the loopback take some MiB, the stream's window four at most.
            #expect(Self.fill(stalled[stalled.count - 1]) < 24 << 20)
        }
        let other = Loopback.connect(mesh.port)
        defer { close(other) }
        Loopback.send(other, "hello")
        #expect(Loopback.receive(other).count == 5)
        mayRead.add(true)
    }

    /// Sends until nothing is taken any more; answers how much was.
    private static func fill(_ stalled: Int32) -> Int {
        var sent = 0
        let block = [UInt8](repeating: 1, count: 65_536)
        let flags = fcntl(stalled, F_GETFL)
        _ = fcntl(stalled, F_SETFL, flags | O_NONBLOCK)
        var quiet = 0
        while quiet < 20 {
            let count = unsafe Glibc.send(stalled, block, block.count, Int32(MSG_NOSIGNAL))
            if count > 0 {
                sent += count
                quiet = 0
            } else {
                quiet += 1
                poll(nil, 0, 10)
            }
        }
        return sent
    }

    @Test func `a busy peer gets several tunnels, and no more than its limit`() throws {
        let options = Self.opaque {
            $0.limits.carrierStreamsMax = 8
            $0.limits.carriersMax = 4
        }
        let mesh = try TunnelMesh(options, Self.echo)
        defer { mesh.stop() }
        var clients: [Int32] = []
        defer { for client in clients { close(client) } }
        for _ in 0..<32 {
            let client = Loopback.connect(mesh.port)
            clients.append(client)
            Loopback.send(client, "x")
            #expect(Loopback.receive(client).count == 1)
        }
        #expect(TunnelMesh.counts(mesh.client, "malla_tunnels{side=\"upstream\"} 4"))
        let late = Loopback.connect(mesh.port)
        defer { close(late) }
        #expect(Loopback.ending(late) == ECONNRESET)
        // The line is there from the beginning.
        let shed = "malla_requests_shed_total{reason=\"tunnels\"}"
        #expect(Loopback.eventually { TunnelMesh.value(mesh.client, shed) > 0 })
    }

    @Test func `connections that are opened together are spread over a few tunnels`() throws {
        let options = Self.opaque {
            $0.limits.carrierStreamsSpread = 4
            $0.limits.carriersSpread = 3
        }
        let mesh = try TunnelMesh(options, Self.echo)
        defer { mesh.stop() }
        var clients: [Int32] = []
        defer { for client in clients { close(client) } }
        for (number, tunnels) in [(4, 1), (8, 2), (12, 3), (40, 3)] {
            while clients.count < number {
                let client = Loopback.connect(mesh.port)
                clients.append(client)
                Loopback.send(client, "x")
                #expect(Loopback.receive(client).count == 1)
            }
            let series = "malla_tunnels{side=\"upstream\"} \(tunnels)"
            #expect(TunnelMesh.counts(mesh.client, series), "\(number)")
        }
    }

    /// bytes a second that one may move, and how many tunnels there are in the end
    @Test(arguments: [(UInt64(1), 2), (1 << 40, 1)])
    func `what moves many bytes gets another tunnel for the next stream`(
        _ most: UInt64, _ tunnels: Int
    ) throws {
        let options = Self.opaque {
            $0.limits.carrierBytesPerSecondMax = most
            $0.limits.carrierStreamsSpread = 128
            $0.limits.carriersMax = 2
        }
        let mesh = try TunnelMesh(options, Self.echo)
        defer { mesh.stop() }
        var clients: [Int32] = []
        defer { for client in clients { close(client) } }
        let series = "malla_tunnels{side=\"upstream\"}"
        // Looks a tenth of a second apart are compared: as many streams as that takes.
        _ = Loopback.eventually {
            let client = Loopback.connect(mesh.port)
            clients.append(client)
            Loopback.send(client, "x")
            #expect(Loopback.receive(client).count == 1)
            return TunnelMesh.value(mesh.client, series) == 2 || clients.count == 120
        }
        #expect(TunnelMesh.counts(mesh.client, "\(series) \(tunnels)"))
    }

    @Test func `the pod's port is closed: the client's node learns it before it sends`() throws {
        let mesh = try TunnelMesh { connection, _ in _ = connection }
        defer { mesh.stop() }
        mesh.closePod()
        #expect(mesh.get().hasPrefix("HTTP/1.1 503 "))
        // And says what it was: the handshake was a good one.
        #expect(
            TunnelMesh.counts(
                mesh.client, "malla_requests_failed_total{reason=\"connect_failed\"} 1"))
    }

    @Test(arguments: [("connect", "connect_failed"), ("timeout", "connect_timeout")])
    func `nobody takes tunnels at the pod's address: that is no failed handshake`(
        _ end: String, _ reason: String
    ) throws {
        var options = TunnelMesh.Options()
        options.hasServer = false
        options.limits.connectNanosecondsMax = 300_000_000
        let mesh = try TunnelMesh(options, Self.answer)
        var sockets: [Int32] = []
        defer {
            for socket in sockets { close(socket) }
            mesh.stop()
        }
        if end == "timeout" {
            // A queue that is full: the kernel does not answer.
            sockets.append(Loopback.listen(backlog: 0, port: 15_008, host: mesh.pod.v4).descriptor)
            for _ in 0..<4 {
                sockets.append(Loopback.connect(to: mesh.pod.v4, 15_008, waits: false))
            }
        }
        #expect(mesh.get().hasPrefix("HTTP/1.1 503 "))
        let failed = "malla_requests_failed_total{reason="
        #expect(TunnelMesh.counts(mesh.client, failed + "\"\(reason)\"} 1"))
        #expect(TunnelMesh.value(mesh.client, failed + "\"upstream_tls\"}") == 0)
        let ended = "malla_tunnels_ended_total{side=\"upstream\",reason=\"\(end)\"}"
        #expect(TunnelMesh.value(mesh.client, ended) == 1)
    }

    @Test func `without a certificate nothing goes in plain text`() throws {
        var options = TunnelMesh.Options()
        options.clientID = nil
        let mesh = try TunnelMesh(options, Self.answer)
        defer { mesh.stop() }
        #expect(mesh.get().hasPrefix("HTTP/1.1 503 "))
        #expect(
            TunnelMesh.counts(
                mesh.client, "malla_requests_failed_total{reason=\"no_identity\"} 1"))
        #expect(mesh.client.exposition().contains("malla_upstream_dials_total 0\n"))
        // It comes, and all is well.
        try mesh.adopt(clientID: TunnelMesh.clientID, serverID: TunnelMesh.serverID)
        #expect(mesh.get().hasPrefix("HTTP/1.1 200 "))
    }

    @Test func `a server that shows another account's certificate gets nothing`() throws {
        var options = TunnelMesh.Options()
        options.serverID = "spiffe://cluster.local/ns/shop/sa/thief"
        options.hasServer = false
        let mesh = try TunnelMesh(options, Self.answer)
        defer { mesh.stop() }
        let peer = try PythonPeer(mesh, id: "spiffe://cluster.local/ns/shop/sa/thief")
        defer { peer.stop() }
        #expect(mesh.get().hasPrefix("HTTP/1.1 503 "))
        #expect(
            mesh.client.exposition().contains(
                "malla_tunnels_ended_total{side=\"upstream\",reason=\"wrong_identity\"} 3\n"))
    }

    @Test func `DISABLE means plain text`() throws {
        var options = TunnelMesh.Options()
        options.modes = [
            PeerAuthentication(name: ObjectName("shop", "off"), selector: nil, mode: .disable)
        ]
        let mesh = try TunnelMesh(options, Self.answer)
        defer { mesh.stop() }
        #expect(mesh.get().hasPrefix("HTTP/1.1 200 "))
        #expect(
            mesh.client.exposition().contains("malla_tunnels_opened_total{side=\"upstream\"} 0\n"))
    }

    @Test func `certificates change under load and no request fails`() throws {
        let mesh = try TunnelMesh(TunnelMesh.Options(), Self.answer)
        defer { mesh.stop() }
        var failed = 0
        for round in 0..<6 {
            try mesh.adopt(clientID: TunnelMesh.clientID, serverID: TunnelMesh.serverID)
            for number in 0..<20 where !mesh.get("/\(round)/\(number)").hasPrefix("HTTP/1.1 200") {
                failed += 1
            }
        }
        #expect(failed == 0)
    }

    @Test func `an end that is drained says goodbye and finishes what is open`() throws {
        let mesh = try TunnelMesh(Self.opaque(), Self.echo)
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        Loopback.send(client, "a")
        #expect(Loopback.receive(client).count == 1)
        let server = try #require(mesh.server)
        let done = Results()
        try Thread.start {
            server.drain(seconds: 5)
            done.add(true)
        }
        #expect(TunnelMesh.counts(mesh.client, "malla_tunnels{side=\"upstream\"} 1"))
        Loopback.send(client, "b")
        #expect(Loopback.receive(client).count == 1)
        shutdown(client, Int32(SHUT_WR))
        #expect(Loopback.receive(client).isEmpty)
        // The worker ends with its last connection, not at its deadline.
        #expect(Loopback.eventually { done.count == 1 })
        #expect(TunnelMesh.counts(mesh.client, "malla_tunnels{side=\"upstream\"} 0"))
        mesh.stop()
    }
}
