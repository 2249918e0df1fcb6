import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Connections that ask once never enter the epoll set, and lose nothing by it", .serialized)
struct WatchTests {
    private static let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    @Test func `a request that comes in pieces is answered`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        for cut in 1..<Self.last.count {
            let client = Loopback.connect(gateway.port)
            defer { close(client) }
            Loopback.send(client, String(Self.last.prefix(cut)))
            _ = Loopback.isReadable(client, milliseconds: 1)
            Loopback.send(client, String(Self.last.dropFirst(cut)))
            #expect(Loopback.message(client).hasPrefix("HTTP/1.1 200 "), "cut at \(cut)")
        }
    }

    @Test func `a slow answer to the only request arrives, and so does a large one`() throws {
        let body = [UInt8](repeating: 0x61, count: 4 << 20)
        let origin = Origin { connection, _ in
            guard !Loopback.message(connection).isEmpty else { return }
            // Longer than a client may stay unwatched.
            _ = Loopback.isReadable(connection, milliseconds: 50)
            Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n")
            Loopback.send(connection, body)
        }
        for unwatched: UInt64 in [0, 10_000_000, 10_000_000_000] {
            let gateway = try Gateway(to: origin) { $0.unwatchedNanosecondsMax = unwatched }
            defer { gateway.stop() }
            let client = Loopback.connect(gateway.port)
            defer { close(client) }
            Loopback.send(client, Self.last)
            // The socket's buffers fill first.
            #expect(Loopback.isReadable(client, milliseconds: 5000))
            #expect(Loopback.message(client).utf8.count > body.count, "\(unwatched) ns")
        }
    }

    @Test func `a client that leaves before its answer ends the exchange`() throws {
        let origin = Origin { connection, _ in
            guard !Loopback.message(connection).isEmpty else { return }
            // Until the engine lets go.
            _ = Loopback.receive(connection)
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        Loopback.send(client, Self.last)
        #expect(
            TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"active\"} 1"))
        var off = linger(l_onoff: 1, l_linger: 0)
        unsafe _ = setsockopt(
            client, SOL_SOCKET, SO_LINGER, &off, socklen_t(MemoryLayout<linger>.size))
        close(client)
        #expect(
            TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"active\"} 0"))
    }
}
