import CLinux
import COpenSSL
import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

/// A client of OpenSSL's over a blocking socket, which sends messages that are no data.
@safe private final class Updater {
    private let context: OpaquePointer?
    private let session: OpaquePointer?

    /// The socket stays the caller's.
    init(_ descriptor: Int32) {
        engine_block_pipe_signal()
        unsafe context = SSL_CTX_new(TLS_client_method())
        unsafe session = SSL_new(context)
        unsafe _ = SSL_set_fd(session, descriptor)
        unsafe _ = SSL_connect(session)
    }

    deinit {
        unsafe SSL_free(session)
        unsafe SSL_CTX_free(context)
    }

    /// Whether all of them went out.
    func update(_ count: Int, asksForAnswer: Bool = false) -> Bool {
        let kind = asksForAnswer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED
        for _ in 0..<count {
            guard unsafe SSL_key_update(session, kind) == 1, unsafe SSL_do_handshake(session) == 1
            else { return false }
        }
        return true
    }

    func send(_ text: String) -> Bool {
        unsafe SSL_write(session, text, Int32(text.utf8.count)) > 0
    }

    /// Up to 64 KiB; empty at the end.
    func receive() -> String {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe SSL_read(session, &bytes, 65_536)
        return String(decoding: bytes.prefix(Int(max(0, count))), as: UTF8.self)
    }
}

@Suite("Messages of TLS that are no data take nobody's time or memory", .serialized)
struct KeyUpdateTests {
    private static let request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"

    private func floods(_ gateway: SecureGateway) -> UInt64 {
        gateway.engine.tallies[0].value(.floods(.downstream))
    }

    @Test(arguments: [false, true])
    func `who changes its keys again and again, and says nothing, is cut`(_ asks: Bool) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }
        let socket = Loopback.connect(gateway.port)
        defer { close(socket) }
        let client = Updater(socket)

        for _ in 0..<5 {
            #expect(client.update(32, asksForAnswer: asks))
            #expect(client.send(Self.request))
            #expect(client.receive().hasPrefix("HTTP/1.1 200 "))
        }
        #expect(floods(gateway) == 0)
        _ = client.update(33, asksForAnswer: asks)
        #expect(client.receive() == "")
        #expect(Loopback.eventually { floods(gateway) == 1 })
        #expect(
            gateway.engine.exposition().contains(
                "malla_tls_floods_total{side=\"downstream\"} 1\n"))
    }

    @Test func `who asks for answers that it does not read is cut, and they are charged to it`()
        throws
    {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }
        // Sockets that hold little: what is accepted has its listener's.
        var least: Int32 = 4096
        // Safe: the call reads one number.
        unsafe _ = setsockopt(gateway.descriptor, SOL_SOCKET, SO_SNDBUF, &least, 4)
        let socket = Loopback.connect(gateway.port)
        defer { close(socket) }
        unsafe _ = setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &least, 4)
        let client = Updater(socket)
        var held: UInt64 = 0
        // A head of 30 000 bytes, each behind eight questions.
        #expect(client.send("GET / HTTP/1.1\r\nHost: a.example\r\nX: "))
        for _ in 0..<30_000 {
            guard client.update(8, asksForAnswer: true), client.send("x") else { break }
            held = max(held, gateway.engine.accounts().map(\.bufferBytes).max() ?? 0)
        }
        #expect(Loopback.eventually { floods(gateway) == 1 })
        // The head itself takes a kilobyte.
        #expect(held > 1024)
        #expect(
            Loopback.eventually {
                gateway.engine.accounts().allSatisfy { $0.bufferBytes == 0 }
            })
    }
}
