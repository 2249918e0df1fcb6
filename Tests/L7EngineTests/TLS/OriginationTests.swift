import CLinux
import Foundation
import Glibc
import MeshModel
import Synchronization
import TestSupport
import Testing

@testable import L7Engine

@Suite("TLS to endpoints is verified, or there is no request", .serialized)
struct OriginationTests {
    /// Who the policy trusts and what names it wants; what the endpoint's certificate says; how
    /// the handshake ends.
    struct Row: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var names: [BackendTLS.Name] = [.host("back.example")]
        var certificate = "DNS:back.example"
        var isExpired = false
        var trustsOther = false
        var result: TLSFailure
    }

    static let rows = [
        Row(testDescription: "the right name", result: .none),
        Row(
            testDescription: "a wildcard", names: [.host("b.back.example")],
            certificate: "DNS:*.back.example", result: .none),
        Row(
            testDescription: "another SAN", names: [.host("x.example"), .host("alt.example")],
            certificate: "DNS:alt.example", result: .none),
        Row(
            testDescription: "a URI", names: [.uri("spiffe://cluster.local/ns/a/sa/b")],
            certificate: "DNS:x.example,URI:spiffe://cluster.local/ns/a/sa/b", result: .none),
        Row(
            testDescription: "another URI", names: [.uri("spiffe://cluster.local/ns/a/sa/b")],
            certificate: "URI:spiffe://cluster.local/ns/a/sa/bb", result: .nameMismatch),
        Row(
            testDescription: "the hostname where SANs are wanted", names: [.host("alt.example")],
            result: .nameMismatch),
        Row(
            testDescription: "another name", certificate: "DNS:front.example",
            result: .nameMismatch),
        Row(
            testDescription: "a wildcard of two labels", certificate: "DNS:*.com",
            result: .nameMismatch),
        Row(
            testDescription: "its subject, where no SAN is a host's", names: [.host("leaf")],
            certificate: "URI:spiffe://cluster.local/ns/a/sa/b", result: .nameMismatch),
        Row(testDescription: "an expired certificate", isExpired: true, result: .expired),
        Row(testDescription: "another authority", trustsOther: true, result: .untrusted),
    ]

    @Test(arguments: rows) func `an endpoint is believed by its certificate only`(_ row: Row) throws
    {
        let (authority, other) = (try TestAuthority(), try TestAuthority("other-ca"))
        defer {
            authority.remove()
            other.remove()
        }
        let origin = try SecureOrigin(
            authority, try authority.issue(row.certificate, isExpired: row.isExpired))
        defer { origin.stop() }
        let gateway = try Self.gateway(
            authority, origin.port,
            Self.policy(row.names, .bundle(row.trustsOther ? other.bundle : authority.bundle)))
        defer { gateway.stop() }

        let answer = gateway.curl("a.example", authority)

        if row.result == .none {
            #expect(answer == "tls TLSv1.3 sni back.example\n\n200", "\(answer)")
        } else {
            #expect(answer.hasSuffix("\n503"), "\(answer)")
        }
        #expect(gateway.handshakes(.upstream, row.result) > 0)
    }

    @Test func `an endpoint's connection is used again, for bodies too`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = try SecureOrigin(authority, try authority.issue("DNS:back.example"))
        defer { origin.stop() }
        let gateway = try Self.gateway(
            authority, origin.port, Self.policy([.host("back.example")], .bundle(authority.bundle)))
        defer { gateway.stop() }

        for _ in 0..<3 { #expect(gateway.curl("a.example", authority).hasSuffix("\n200")) }
        let file = authority.directory.appendingPathComponent("body")
        try Data(repeating: 0x61, count: 300_000).write(to: file)
        let sent = gateway.curl("a.example", authority, ["--data-binary", "@\(file.path)"])

        #expect(sent.hasSuffix("\n200"), "\(sent)")
        #expect(gateway.handshakes(.upstream, .none) == 1)
    }

    /// TLS 1.2 and 1.3 offer sessions at different moments.
    @Test(arguments: ["TLSv1.2", "TLSv1.3"])
    func `a second connection to an endpoint resumes the first one's session`(
        _ version: String
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = try SecureOrigin(
            authority, try authority.issue("DNS:back.example"), keepsAlive: false,
            versions: version)
        defer { origin.stop() }
        let policy = Self.policy([.host("back.example")], .bundle(authority.bundle))
        let gateway = try Self.gateway(authority, origin.port, policy)
        defer { gateway.stop() }

        for _ in 0..<4 { #expect(gateway.curl("a.example", authority).hasSuffix("\n200")) }
        #expect(gateway.handshakes(.upstream, .none) == 1)
        #expect(gateway.handshakes(.upstream, .resumed) == 3)

        var other = policy
        other.names = [.host("other.example")]
        let site = try SecureGateway.Site.anyHost(authority)
        gateway.adopt([site], version: 2, backend: other)
        #expect(gateway.curl("a.example", authority).hasSuffix("\n503"), "no session vouches there")
        #expect(gateway.handshakes(.upstream, .resumed) == 3)
    }

    @Test func `an endpoint that speaks plain HTTP gets no request`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let seen = Seen()
        let origin = Origin { connection, _ in
            seen.add(Loopback.receive(connection))
            Loopback.send(connection, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        }
        let gateway = try Self.gateway(
            authority, origin.port, Self.policy([.host("back.example")], .bundle(authority.bundle)))
        defer { gateway.stop() }

        let answer = gateway.curl("a.example", authority)

        #expect(answer.hasSuffix("\n503"), "\(answer)")
        #expect(gateway.handshakes(.upstream, .notTLS) > 0)
        #expect(!seen.text.contains("HTTP/1.1"))
    }

    /// Whether the end of a body without a length is said (close_notify): the client must see the
    /// same. (curl takes both for an end; s_client does not.)
    @Test(arguments: [true, false])
    func `a body until the end is whole only if the endpoint says so`(_ isSaid: Bool) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let server = try PythonServer(authority) { files, port in
            """
            import os, socket, ssl
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain("\(files.chain)", "\(files.key)")
            listener = socket.create_server(("127.0.0.1", \(port)))
            while True:
                plain, _ = listener.accept()
                try:
                    session = context.wrap_socket(plain, server_side=True)
                    session.recv(65536)
                    session.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\nhalf")
                    \(isSaid ? "session.unwrap()" : "os.close(session.detach())")
                except OSError:
                    pass
            """
        }
        defer { server.stop() }
        let gateway = try Self.gateway(
            authority, server.port,
            Self.policy([.host("back.example")], .bundle(authority.bundle)))
        defer { gateway.stop() }

        let answer = gateway.client("-servername", "a.example")

        #expect(answer.contains("half"), "\(answer)")
        #expect(answer.contains("4\r\nhalf\r\n0\r\n\r\n") == isSaid, "\(answer)")
        #expect(answer.contains("unexpected eof while reading") == !isSaid, "\(answer)")
    }

    /// Answers with the body that came; says Z on all it has when somebody connects to `control`.
    private static func speaker(_ chain: String, _ key: String, _ port: UInt16, _ control: UInt16)
        -> String
    {
        """
        import socket, ssl, threading
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("\(chain)", "\(key)")
        sessions = []
        def serve(session):
            got = b""
            while True:
                more = session.recv(65536)
                if not more: return
                got += more
                head, end, body = got.partition(b"\\r\\n\\r\\n")
                if end and len(body) == 40:
                    head = b"HTTP/1.1 200 OK\\r\\nContent-Length: 40\\r\\n\\r\\n"
                    session.sendall(head + body)
                    got = b""
        def accept():
            while True:
                plain, _ = listener.accept()
                try: sessions.append(context.wrap_socket(plain, server_side=True))
                except OSError: continue
                threading.Thread(target=serve, args=(sessions[-1],), daemon=True).start()
        listener = socket.create_server(("127.0.0.1", \(port)))
        second = socket.create_server(("127.0.0.1", \(control)))
        threading.Thread(target=accept, daemon=True).start()
        while True:
            caller, _ = second.accept()
            for session in sessions: session.sendall(b"Z" * 400)
            caller.sendall(b"done")
        """
    }

    /// A server that speaks, and a worker's one connection to it, which waits in the pool: it has
    /// carried the client's first body there and back.
    private final class PooledSpeaker {
        let server: PythonServer
        let control: UInt16
        let stepped: SteppedWorker
        let client: Int32

        init(_ authority: TestAuthority) throws {
            let (other, control) = Loopback.listen()
            Loopback.end(other)
            self.control = control
            let server = try PythonServer(authority) { files, port in
                OriginationTests.speaker(files.chain, files.key, port, control)
            }
            do {
                stepped = try SteppedWorker(
                    [server.port],
                    backend: OriginationTests.policy(
                        [.host("back.example")], .bundle(authority.bundle)))
            } catch {
                server.stop()
                throw error
            }
            self.server = server
            client = Loopback.connect(stepped.port)
            post("b")
            #expect(stepped.message(client).hasSuffix("bbbb"))
            try #require(stepped.take { stepped.pooled.count == 1 })
            for _ in 0..<5 { stepped.turn() }
        }

        deinit {
            Loopback.end(client)
            server.stop()
        }

        func post(_ letter: String) {
            let body = String(repeating: letter, count: 40)
            Loopback.send(
                client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n\(body)")
        }
    }

    @Test func `a body is not overwritten by what a pooled endpoint says unasked`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let speaker = try PooledSpeaker(authority)
        defer { withExtendedLifetime(speaker) {} }
        let (stepped, client) = (speaker.stepped, speaker.client)

        // Between two turns, the request first.
        speaker.post("a")
        let caller = Loopback.connect(speaker.control)
        defer { Loopback.end(caller) }
        #expect(!Loopback.receive(caller).isEmpty)
        #expect(stepped.pooled.allSatisfy { Loopback.isReadable($0, milliseconds: 5000) })

        let answer = stepped.message(client)
        #expect(answer.hasSuffix("\r\n\r\n" + String(repeating: "a", count: 40)), "\(answer)")
    }

    /// The kernel may learn of the endpoint's end between the look and the send.
    @Test func `a POST that a pooled endpoint's connection takes nothing of is sent again`() throws
    {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let speaker = try PooledSpeaker(authority)
        defer { withExtendedLifetime(speaker) {} }
        let (stepped, client) = (speaker.stepped, speaker.client)

        // Nothing is to be seen of that by whoever looks: send(2) says EPIPE, and its peer does
        // not answer the end.
        try speaker.server.pause()
        try #require(shutdown(stepped.pooled[0], Int32(SHUT_WR)) == 0)
        speaker.post("a")
        #expect(stepped.take { stepped.worker.tally.value(.dials) == 2 })
        speaker.server.resume()
        let answer = stepped.message(client)

        #expect(answer.hasSuffix("\r\n\r\n" + String(repeating: "a", count: 40)), "\(answer)")
        #expect(stepped.worker.tally.value(.retries) == 1)
        #expect(stepped.worker.tally.value(.dials) == 2)
    }

    @Test func `an endpoint that hangs costs a quarter of a second, with TLS too`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = try SecureOrigin(authority, try authority.issue("DNS:back.example"))
        defer { origin.stop() }
        let hole = BlackHole()
        let stepped = try SteppedWorker(
            [hole.port, origin.port],
            backend: Self.policy([.host("back.example")], .bundle(authority.bundle)))
        for _ in 0..<30 where stepped.worker.tally.value(.races) == 0 {
            let client = Loopback.connect(stepped.port)
            defer { Loopback.end(client) }
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            let answer = stepped.message(client)
            #expect(answer.contains("sni back.example"), "\(answer)")
        }
        #expect(stepped.worker.tally.value(.races) > 0)
    }

    @Test func `a policy without authorities makes no connection at all`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try Self.gateway(
            authority, origin.port, Self.policy([.host("back.example")], .unresolved("no such CA")))
        defer { gateway.stop() }

        let answer = gateway.curl("a.example", authority)

        #expect(answer.hasSuffix("\n503"), "\(answer)")
        #expect(gateway.engine.tallies[0].value(.dials) == 0)
    }

    @Test func `a changed policy does not use connections of the old one`() throws {
        let (authority, other) = (try TestAuthority(), try TestAuthority("other-ca"))
        defer {
            authority.remove()
            other.remove()
        }
        let origin = try SecureOrigin(authority, try authority.issue("DNS:back.example"))
        defer { origin.stop() }
        let site = try SecureGateway.Site.anyHost(authority)
        let gateway = try SecureGateway(
            [site], origin: origin.port,
            backend: Self.policy([.host("back.example")], .bundle(authority.bundle)))
        defer { gateway.stop() }
        #expect(gateway.curl("a.example", authority).hasSuffix("\n200"))

        gateway.adopt(
            [site], version: 2,
            backend: Self.policy([.host("back.example")], .bundle(other.bundle)))

        #expect(gateway.curl("a.example", authority).hasSuffix("\n503"))
    }

    @Test func `the machine's own authorities do not vouch for strangers`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = try SecureOrigin(authority, try authority.issue("DNS:back.example"))
        defer { origin.stop() }
        let gateway = try Self.gateway(
            authority, origin.port, Self.policy([.host("back.example")], .system))
        defer { gateway.stop() }

        #expect(gateway.curl("a.example", authority).hasSuffix("\n503"))
        #expect(gateway.handshakes(.upstream, .untrusted) > 0)
    }

    /// What an origin received, from its threads.
    final class Seen: Sendable {
        private let bytes = Mutex<[UInt8]>([])
        func add(_ more: [UInt8]) { bytes.withLock { $0 += more } }
        var text: String { bytes.withLock { String(decoding: $0, as: UTF8.self) } }
    }

    static func policy(
        _ names: [BackendTLS.Name], _ authorities: BackendTLS.Authorities
    ) -> BackendTLS {
        BackendTLS(
            policy: ObjectName("shop", "web"), hostname: "back.example", names: names,
            authorities: authorities)
    }

    static func gateway(
        _ authority: TestAuthority, _ port: UInt16, _ backend: BackendTLS
    ) throws -> SecureGateway {
        try SecureGateway([.anyHost(authority)], origin: port, backend: backend)
    }
}
