import AllocationCount
import CLinux
import Glibc
import MeshModel
import Synchronization
import Testing

@testable import L7Engine

@Suite("TCP as it comes", .serialized)
struct OpaqueTests {
    private static let pattern: [UInt8] = (0..<(8 << 20)).map {
        UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 7)
    }

    private func captured(
        _ origin: UInt16?, _ change: (inout Limits) -> Void = { _ in }
    ) throws -> CapturedPort {
        var limits = Limits()
        change(&limits)
        return try CapturedPort(
            origin: origin, application: .tcp, limits: limits,
            workloads: [.client("shop", "web", "127.0.0.1")])
    }

    @Test func `either side may end first, and the other goes on`() throws {
        let heard = Mutex(false)
        let origin = Origin { connection, number in
            if number == 0 {
                // All of the client's, then an answer.
                let bytes = Loopback.rest(connection)
                Loopback.send(connection, "\(bytes.count) bytes")
            } else {
                Loopback.send(connection, "first")
                shutdown(connection, Int32(SHUT_WR))
                let bytes = Loopback.rest(connection)
                heard.withLock { $0 = bytes == Self.pattern }
            }
        }
        let captured = try captured(origin.port)
        defer { captured.stop() }

        let one = Loopback.connect(captured.port)
        defer { close(one) }
        Loopback.send(one, Self.pattern)
        shutdown(one, Int32(SHUT_WR))
        #expect(String(decoding: Loopback.rest(one), as: UTF8.self) == "8388608 bytes")

        let two = Loopback.connect(captured.port)
        defer { close(two) }
        #expect(Loopback.rest(two) == Array("first".utf8))
        Loopback.send(two, Self.pattern)
        shutdown(two, Int32(SHUT_WR))
        #expect(Loopback.eventually { heard.withLock { $0 } })
        #expect(captured.counts("malla_connections_active 0"))
    }

    @Test(arguments: [true, false])
    func `a reset of either side resets the other`(isOfClient: Bool) throws {
        let seen = Mutex<Int32>(-1)
        let origin = Origin { connection, _ in
            _ = Loopback.receive(connection)
            Loopback.send(connection, "word")
            if isOfClient {
                let end = Loopback.ending(connection)
                seen.withLock { $0 = end }
            } else {
                Loopback.willReset(connection)
            }
        }
        let captured = try captured(origin.port)
        defer { captured.stop() }
        let client = Loopback.connect(captured.port)
        Loopback.send(client, "hello")
        #expect(!Loopback.receive(client, max: 4).isEmpty)
        if isOfClient {
            Loopback.willReset(client)
            close(client)
            #expect(Loopback.eventually { seen.withLock { $0 } == ECONNRESET })
        } else {
            #expect(Loopback.ending(client) == ECONNRESET)
            close(client)
        }
        let flag = isOfClient ? "DC" : "UC"
        #expect(
            Loopback.eventually {
                captured.engine.exposition().contains("response_flags=\"\(flag)\"")
            })
    }

    @Test func `the last words of a server that takes no more still come`() throws {
        let origin = Origin { connection, _ in
            _ = Loopback.receive(connection, max: 1000)
            Loopback.send(connection, "too much")
            // Unread bytes make this a reset.
        }
        let captured = try captured(origin.port)
        defer { captured.stop() }
        let client = Loopback.connect(captured.port)
        defer { close(client) }
        Loopback.send(client, Array(Self.pattern.prefix(300_000)))
        #expect(String(decoding: Loopback.receive(client), as: UTF8.self) == "too much")
        #expect(Loopback.ending(client) == ECONNRESET)
    }

    @Test func `for a slow reader the sender waits, and little is held`() throws {
        let written = Mutex(0)
        let total = 96 << 20
        let origin = Origin { connection, _ in
            while written.withLock({ $0 }) < total {
                Loopback.send(connection, Array(Self.pattern.prefix(1 << 20)))
                written.withLock { $0 += 1 << 20 }
            }
        }
        let captured = try captured(origin.port)
        defer { captured.stop() }
        let client = Loopback.connect(captured.port)
        defer { close(client) }
        var before = -1
        // Until the sender stands still.
        #expect(
            Loopback.eventually {
                poll(nil, 0, 100)
                let now = written.withLock { $0 }
                defer { before = now }
                return now == before && now > 0
            })
        #expect(written.withLock { $0 } < total / 2)
        let held = captured.engine.accounts().first { $0.workload == "web" }?.bufferBytes
        // What a move left in its pipe, and a block.
        #expect((held ?? .max) <= Limits().tunnelSpliceBytesMax + 136 * 1024)
        var bytes = 0
        var isSame = true
        while bytes < total {
            let more = Loopback.receive(client)
            if more.isEmpty { break }
            for (index, byte) in more.enumerated()
            where byte != Self.pattern[(bytes + index) % (1 << 20)] {
                isSame = false
            }
            bytes += more.count
        }
        #expect(bytes == total && isSame)
    }

    @Test func `is counted exactly and logged`() throws {
        let origin = Origin { connection, _ in
            let bytes = Loopback.rest(connection)
            Loopback.send(connection, Array(bytes.prefix(700_000)))
        }
        let captured = try captured(origin.port)
        defer { captured.stop() }
        let client = Loopback.connect(captured.port)
        defer { close(client) }
        Loopback.send(client, Array(Self.pattern.prefix(1_000_001)))
        shutdown(client, Int32(SHUT_WR))
        #expect(Loopback.rest(client).count == 700_000)

        #expect(captured.counts("malla_connections_active 0"))
        let page = captured.engine.exposition()
        let labels = [
            "reporter=\"source\",source_workload=\"web\",source_workload_namespace=\"shop\",",
            ",destination_workload=\"web\",destination_workload_namespace=\"shop\",",
            ",destination_service=\"catalog.shop.svc.cluster.local\"",
            ",destination_service_name=\"catalog\",destination_service_namespace=\"shop\"",
            ",destination_port=\"\(captured.port)\",request_protocol=\"tcp\""
                + ",response_flags=\"-\",connection_security_policy=\"none\"}",
        ]
        for (name, value) in [
            ("connections_opened", 1), ("connections_closed", 1), ("sent_bytes", 700_000),
            ("received_bytes", 1_000_001),
        ] {
            let lines = page.split(separator: "\n").filter {
                $0.hasPrefix("istio_tcp_\(name)_total{")
            }
            #expect(lines.count == 1, "\(page)")
            #expect(
                lines.allSatisfy { line in labels.allSatisfy { line.contains($0) } }, "\(lines)")
            #expect(lines.first?.hasSuffix("} \(value)") == true, "\(lines)")
        }
        #expect(
            page.contains(
                "malla_account_sent_bytes_total{workload=\"web\",namespace=\"shop\"} 700000\n"))
        let line = try #require(captured.engine.takeAccessLog().first)
        for part in [
            "\"method\":\"\",", "\"status\":0,",
            "\"bytes_received\":1000001,\"bytes_sent\":700000,",
            "\"flags\":\"-\",",
            "\"protocol\":\"tcp\",\"destination\":\"127.0.0.1:\(captured.port)\"}",
            "\"upstream\":\"127.0.0.1:\(origin.port)\"", "\"reason\":null",
        ] {
            #expect(line.contains(part), "\(line)")
        }
    }

    @Test func `an endpoint that refuses, or none, is a reset with its reason`() throws {
        let (closed, port) = Loopback.listen()
        close(closed)
        for (origin, reason) in [(port, "connect_failed"), (nil, "no_endpoint")] {
            let captured = try captured(origin)
            defer { captured.stop() }
            let client = Loopback.connect(captured.port)
            defer { close(client) }
            #expect(Loopback.ending(client) == ECONNRESET)
            #expect(captured.counts("malla_requests_failed_total{reason=\"\(reason)\"} 1"))
            let line = captured.engine.takeAccessLog().first ?? ""
            #expect(line.contains("\"reason\":\"\(reason)\""), "\(line)")
        }
    }

    @Test func `one connection too many is reset, not answered in HTTP`() throws {
        let origin = Origin(DetectionTests.mirror)
        let captured = try captured(origin.port) { $0.accountConnectionsMax = 1 }
        defer { captured.stop() }
        let (first, second) = (Loopback.connect(captured.port), Loopback.connect(captured.port))
        defer {
            close(first)
            close(second)
        }
        Loopback.send(first, "one")
        #expect(Loopback.receive(first) == Array("one".utf8))
        #expect(Loopback.ending(second) == ECONNRESET)
        #expect(captured.counts("malla_requests_shed_total{reason=\"account_connections\"} 1"))
    }

    @Test func `silence of both for long ends it by a reset`() throws {
        let origin = Origin(DetectionTests.mirror)
        let captured = try captured(origin.port) {
            $0.silenceNanosecondsMax = 100_000_000
            $0.checkNanoseconds = 50_000_000
        }
        defer { captured.stop() }
        let client = Loopback.connect(captured.port)
        defer { close(client) }
        Loopback.send(client, "one")
        #expect(Loopback.receive(client) == Array("one".utf8))
        #expect(Loopback.ending(client) == ECONNRESET)
        #expect(captured.counts("malla_requests_failed_total{reason=\"idle_timeout\"} 1"))
    }

    @Test func `a drain lets it go on until its time is over, and then does not feign an end`()
        throws
    {
        let origin = Origin(DetectionTests.mirror)
        let captured = try captured(origin.port)
        let client = Loopback.connect(captured.port)
        defer { close(client) }
        Loopback.send(client, "one")
        #expect(Loopback.receive(client) == Array("one".utf8))
        let engine = captured.engine
        try Thread.start { engine.drain(seconds: 1) }
        poll(nil, 0, 100)
        Loopback.send(client, "two")
        #expect(Loopback.receive(client) == Array("two".utf8))
        #expect(Loopback.ending(client) == ECONNRESET)
        #expect(captured.counts("malla_requests_failed_total{reason=\"drained\"} 1"))
    }

    @Test func `bytes that stand behind an upgrade pass too, and so do megabytes after them`()
        throws
    {
        let origin = Origin { connection, _ in
            var bytes: [UInt8] = []
            while Loopback.headEnd(bytes) == nil {
                let more = Loopback.receive(connection)
                if more.isEmpty { return }
                bytes += more
            }
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n"
            Loopback.send(connection, Array(head.utf8) + Array("early".utf8))
            Loopback.send(connection, Array(bytes[(Loopback.headEnd(bytes) ?? 0)...]))
            DetectionTests.mirror(connection, 0)
        }
        let captured = try CapturedPort(origin: origin.port)
        defer { captured.stop() }
        let client = Loopback.connect(captured.port)
        defer { close(client) }
        Loopback.send(
            client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\nbytes")
        let sender = dup(client)
        try Thread.start {
            Loopback.send(sender, Self.pattern)
            shutdown(sender, Int32(SHUT_WR))
            close(sender)
        }
        let bytes = Loopback.rest(client)
        let start = try #require(Loopback.headEnd(bytes))
        #expect(bytes[start..<start + 10].elementsEqual("earlybytes".utf8))
        #expect(bytes[(start + 10)...].elementsEqual(Self.pattern))
    }

    @Test func `after warm-up a tunnel allocates nothing, whether bytes are copied or moved`()
        throws
    {
        let origin = Origin(DetectionTests.mirror)
        let captured = try captured(origin.port)
        defer { captured.stop() }
        // Safe: a constant string.
        let worker = unsafe allocation_thread("malla-worker-0")
        let client = Loopback.connect(captured.port)
        defer { close(client) }
        var before: UInt64 = 0
        for number in 0..<300 {
            if number == 100 { before = allocation_count(worker) }
            let piece = Array(Self.pattern.prefix(number % 2 == 0 ? 100 : 120_000))
            Loopback.send(client, piece)
            var count = 0
            while count < piece.count {
                let more = Loopback.receive(client)
                if more.isEmpty { break }
                count += more.count
            }
            #expect(count == piece.count)
        }
        #expect(worker > 0 && before > 0)
        #expect(allocation_count(worker) - before == 0)
    }
}
