import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Upstream connections: which is used again, and when it ends", .serialized)
struct UpstreamTests {
    private static func answer(_ body: String) -> String {
        "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    @Test func `the one used last is used next`() throws {
        let (asked, first, second) = (Atomic64(), Atomic64(), Atomic64())
        let origin = Origin { connection, number in
            while !Loopback.message(connection).isEmpty {
                asked.add(1)
                if asked.value <= 2 {
                    _ = (number == 0 ? first : second).waits(milliseconds: 10_000)
                }
                Loopback.send(connection, Self.answer("connection \(number)"))
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let clients = (0..<2).map { _ in Loopback.connect(gateway.port) }
        defer { for client in clients { close(client) } }
        for (index, client) in clients.enumerated() {
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(Loopback.eventually { asked.value == UInt64(index + 1) })
        }
        first.finish()
        #expect(Loopback.message(clients[0]).hasSuffix("connection 0"))
        second.finish()
        #expect(Loopback.message(clients[1]).hasSuffix("connection 1"))

        for _ in 0..<5 { #expect(gateway.get().hasSuffix("connection 1")) }

        #expect(TimeoutTests.counts(gateway, "malla_upstream_dials_total 2"))
    }

    @Test func `one that nobody uses ends, and the next request dials`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin) { $0.idleUpstreamNanosecondsMax = TimeoutTests.tenth }
        defer { gateway.stop() }
        #expect(gateway.get().hasPrefix("HTTP/1.1 200 "))
        #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"active\"} 0"))
        #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"idle\"} 0"))
        #expect(gateway.get().hasPrefix("HTTP/1.1 200 "))
        #expect(TimeoutTests.counts(gateway, "malla_upstream_dials_total 2"))
    }

    /// RFC 9112 section 9.3.
    @Test(arguments: [
        ("Connection: keep-alive\r\n", true), ("Connection: x, Keep-Alive\r\n", true),
        ("", false), ("Keep-Alive: timeout=60\r\n", false), ("Connection: close\r\n", false),
        ("Connection: keep-alive, close\r\n", false),
    ])
    func `one of a server of HTTP/1.0 is used again where that says so`(
        fields: String, isKept: Bool
    ) throws {
        let origin = Origin { connection, number in
            while !Loopback.message(connection).isEmpty {
                let body = "connection \(number)"
                Loopback.send(
                    connection,
                    "HTTP/1.0 200 OK\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        for number in 0..<3 {
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = Loopback.message(client)
            #expect(answer.hasSuffix("connection \(isKept ? 0 : number)"), "\(answer)")
        }

        #expect(TimeoutTests.counts(gateway, "malla_upstream_dials_total \(isKept ? 1 : 3)"))
        let idle = "malla_upstream_connections{state=\"idle\"} \(isKept ? 1 : 0)"
        #expect(TimeoutTests.counts(gateway, idle))
    }

    /// A download over a connection that was dialled before the uplink's MTU shrank stood still.
    @Test func `none that was open takes a request after the word to dial anew`() throws {
        let origin = Origin { connection, number in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(connection, Self.answer("connection \(number)"))
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        for _ in 0..<2 { #expect(gateway.get().hasSuffix("connection 0")) }

        gateway.engine.dialAnew()

        #expect(Loopback.eventually { gateway.get().hasSuffix("connection 1") })
        #expect(gateway.get().hasSuffix("connection 1"))
        #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"idle\"} 1"))
    }

    @Test func `as many are kept as may be, the others end`() throws {
        let (asked, go) = (Atomic64(), Atomic64())
        let origin = Origin { connection, _ in
            while !Loopback.message(connection).isEmpty {
                asked.add(1)
                _ = go.waits(milliseconds: 10_000)
                Loopback.send(connection, Self.answer("ok"))
            }
        }
        let gateway = try Gateway(to: origin) { $0.idleUpstreamsMax = 2 }
        defer { gateway.stop() }
        let clients = (0..<5).map { _ in Loopback.connect(gateway.port) }
        defer { for client in clients { close(client) } }
        for client in clients { Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") }
        #expect(Loopback.eventually { asked.value == 5 })
        go.finish()
        for client in clients { #expect(Loopback.message(client).hasSuffix("ok")) }
        #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"idle\"} 2"))
        #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"active\"} 0"))
    }

    @Test(arguments: [true, false])
    func `one that speaks unasked is not used again`(isAtOnce: Bool) throws {
        let go = Atomic64()
        let origin = Origin { connection, number in
            while !Loopback.message(connection).isEmpty {
                let (asked, unasked) = (Self.answer("connection \(number)"), Self.answer("more"))
                if number == 0, isAtOnce {
                    Loopback.send(connection, asked + unasked)
                    continue
                }
                Loopback.send(connection, asked)
                if number > 0 { continue }
                _ = go.waits(milliseconds: 10_000)
                Loopback.send(connection, unasked)
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        #expect(gateway.get().hasSuffix("connection 0"))
        if !isAtOnce {
            #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"idle\"} 1"))
            go.finish()
        }
        #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"active\"} 0"))
        #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"idle\"} 0"))
        for _ in 0..<3 { #expect(gateway.get().hasSuffix("connection 1")) }
    }

    @Test func `a client that ends its sending after the request gets the whole answer`() throws {
        let go = Atomic64()
        let origin = Origin { connection, _ in
            let request = Loopback.message(connection)
            _ = go.waits(milliseconds: 10_000)
            Loopback.send(connection, Self.answer(request.hasSuffix("hello") ? "whole" : "cut"))
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        shutdown(client, Int32(SHUT_WR))
        #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"active\"} 1"))
        go.finish()
        #expect(Loopback.message(client).hasSuffix("whole"))
        #expect(Loopback.receive(client).isEmpty)
    }

    @Test func `304 keeps the length of what it does not send, trailers pass`() throws {
        let origin = Origin { connection, _ in
            while true {
                let request = Loopback.message(connection)
                if request.isEmpty { return }
                Loopback.send(
                    connection,
                    request.hasPrefix("GET /same ")
                        ? "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
                        : "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n"
                            + "3\r\nabc\r\n0\r\nSum: 42\r\n\r\n")
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET /same HTTP/1.1\r\nHost: a\r\n\r\n")
        let same = String(decoding: Loopback.receive(client), as: UTF8.self)
        #expect(same.hasPrefix("HTTP/1.1 304 ") && same.contains("Content-Length: 9\r\n"))
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        var text = ""
        while !text.hasSuffix("\r\n\r\n") || !text.contains("abc") {
            let more = Loopback.receive(client)
            if more.isEmpty { break }
            text += String(decoding: more, as: UTF8.self)
        }
        #expect(text.hasPrefix("HTTP/1.1 200 "))
        #expect(text.hasSuffix("\r\n\r\n3\r\nabc\r\n0\r\nSum: 42\r\n\r\n"))
        #expect(TimeoutTests.counts(gateway, "malla_upstream_dials_total 1"))
    }
}
