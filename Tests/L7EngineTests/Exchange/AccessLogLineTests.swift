import Glibc
import MeshModel
import Testing

@testable import L7Engine

extension Engine {
    /// What the log has now, by line.
    func takeAccessLog() -> [String] {
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = takeAccessLog(into: &bytes)
        return String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
            .map(String.init)
    }
}

extension AccessLog {
    /// The lines of one worker, at most 64 KiB.
    func taken() -> String {
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
            // Safe: the writer does not outlive the closure; the array is not empty.
            var out = unsafe ByteWriter(buffer.baseAddress!, capacity: buffer.count)
            take(&out)
            return out.count
        }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}

@Suite("A line of the access log is JSON (docs/metrics.md), and none is lost in silence")
struct AccessLogLineTests {
    /// The line of a request whose method, path and authority are these.
    private func line(
        _ method: String, _ path: [UInt8], _ change: (inout LogRecord) -> Void = { _ in }
    )
        -> String
    {
        let authority = Array("a.example".utf8)
        var record = LogRecord(
            time: 1_709_210_096_007_000_000, duration: 12_345_678, receivedBytes: 0,
            sentBytes: 18_446_744, peer: SocketAddress(IPAddress(v4: 0x0a00_0001), 40_000),
            upstream: SocketAddress(.anyV6, 0), status: 200, flag: .none,
            methodLength: UInt8(method.utf8.count), authorityLength: UInt8(authority.count),
            routeLength: 0, pathLength: UInt16(path.count), failure: 0, requestIDLength: 4,
            isOpaque: false,
            target: SocketAddress(IPAddress(v4: 0x7f00_0001), 80))
        change(&record)
        var text = Array(method.utf8) + path + authority
        text += [UInt8](repeating: 0, count: Connection.logTextBytes - text.count)
        text += Array("id-1".utf8)
        let log = AccessLog(capacity: 1)
        let route = Array("xshop/all/0".utf8)
        #expect(unsafe log.append(record, text: text, route: route, ByteRange(1, route.count)))
        var bytes = [UInt8](repeating: 0, count: AccessLog.lineBytesMax)
        let count = unsafe bytes.withUnsafeMutableBufferPointer {
            var out = unsafe ByteWriter($0.baseAddress!, capacity: $0.count)
            log.take(&out)
            return out.count
        }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    @Test func `it has these fields in this order`() {
        #expect(
            line("GET", Array("/a?b=c".utf8)) { $0.failure = Failure.noRoute.code }
                == "{\"time\":\"2024-02-29T12:34:56.007Z\",\"method\":\"GET\",\"path\":\"/a?b=c\","
                + "\"authority\":\"a.example\",\"status\":200,\"flags\":\"-\","
                + "\"bytes_received\":0,\"bytes_sent\":18446744,\"duration_ms\":12.345,"
                + "\"source\":\"10.0.0.1:40000\",\"upstream\":null,\"route\":\"shop/all/0\","
                + "\"reason\":\"no_route\",\"request_id\":\"id-1\",\"protocol\":\"http\","
                + "\"destination\":\"127.0.0.1:80\"}\n")
        #expect(
            line("GET", Array("/".utf8)) { $0.claimsIdentity = true }
                .hasSuffix("\"destination\":\"127.0.0.1:80\",\"forged_client_cert\":true}\n"))
    }

    @Test(arguments: [
        (Array("/\"\\\u{1}\u{1f}\u{7f}".utf8), "/\\\"\\\\\\u0001\\u001f\u{7f}"),
        (Array("/ä€\"".utf8), "/ä€\\\""), ([0x2f, 0xc3], "/\u{fffd}"),
        ([0x2f, 0xff, 0x22], "/\u{fffd}\\\""), ([], ""),
    ])
    func `text is escaped, and is UTF-8`(path: [UInt8], text: String) {
        #expect(line("GET", path).contains("\"path\":\"\(text)\",\"authority\":\"a.example\","))
    }

    @Test func `addresses of IPv6 are in brackets`() {
        let address = SocketAddress(IPAddress(high: 0x2001_0db8_0000_0000, low: 1), 443)
        let text = line("GET", [0x2f]) {
            $0.peer = address
            $0.upstream = address
        }

        #expect(
            text.contains(
                "\"source\":\"[2001:db8::1]:443\",\"upstream\":\"[2001:db8::1]:443\","), "\(text)")
    }

    @Test func `the longest line fits`() {
        let text = line("GET", [UInt8](repeating: 1, count: Connection.logTextBytes - 12))

        #expect(text.hasSuffix("}\n"))
        #expect(text.utf8.count < AccessLog.lineBytesMax)
    }

    private static let requests = 3000

    @Test(arguments: [(records: 8192, kept: requests), (records: 100, kept: 100)])
    func `what nobody takes waits, and is counted beyond the limit`(records: Int, kept: Int)
        throws
    {
        var limits = Limits()
        #expect(limits.accessLogRecordsMax == 8192)
        limits.accessLogRecordsMax = records
        let rule = HTTPRouteRule(
            filters: [.redirect(.init(path: .replaceFullPath("/x"), status: 302))], backends: [])
        let gateway = try Gateway(origins: [], rules: [rule], limits: limits)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        for number in 0..<Self.requests {
            Loopback.send(client, "GET /\(number) HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(Loopback.message(client).hasPrefix("HTTP/1.1 302 "))
        }

        let dropped = UInt64(Self.requests - kept)
        let tally = gateway.engine.tallies[0]
        #expect(
            Loopback.eventually {
                tally.value(.requests) == Self.requests && tally.value(.accessLogDropped) == dropped
            })
        var lines: [String] = []
        #expect(
            Loopback.eventually {
                lines += gateway.engine.takeAccessLog()
                return lines.count >= kept
            })
        #expect(lines.count == kept)
        for (number, line) in lines.enumerated() {
            #expect(line.contains("\"path\":\"/\(number)\","))
        }
    }
}
