// Which tickets resume a session. The worker's clock for its keys is the test's.

import MeshModel
import Synchronization
import TestSupport
import Testing

@testable import L7Engine

@Suite("A ticket opens as long as its key does (RFC 5077 section 5.5)", .serialized)
struct TicketTests {
    /// One listener for all hosts, with a certificate for a.example.
    private static func stepped(_ authority: TestAuthority, _ origin: Origin) throws
        -> SteppedWorker
    {
        let stepped = try SteppedWorker([origin.port])
        var mesh = SteppedWorker.mesh([origin.port], stepped.port, nil)
        mesh.certificates = [try authority.issue("DNS:a.example").certificate()]
        mesh.listeners[0].tls = ListenerTLS(certificates: [0])
        stepped.adopt(mesh, version: 2)
        return stepped
    }

    /// What `openssl s_client` prints, while the worker takes turns. It is ended after 20 s.
    private static func client(_ stepped: SteppedWorker, _ options: [String]) throws -> String {
        let words =
            [
                "openssl", "s_client", "-connect", "127.0.0.1:\(stepped.port)", "-ign_eof",
                "-servername", "a.example",
            ] + options
        let answer = Mutex<String?>(nil)
        try Thread.start {
            let output = Program.run(words, input: SecureGateway.request).output
            answer.withLock { $0 = output }
        }
        while !stepped.take(until: { answer.withLock { $0 != nil } }) {}
        return answer.withLock { $0 } ?? ""
    }

    /// The key's time is over: the worker makes another one.
    private static func rotate(_ stepped: SteppedWorker) {
        let worker = stepped.worker
        let long = worker.now &- worker.limits.ticketKeyNanosecondsMax &- 1
        worker.ticketKeysAt = long
        // It looks once a second.
        worker.wallCheckedAt = 0
        #expect(stepped.take { worker.ticketKeysAt != long })
    }

    @Test(arguments: ["-tls1_3", "-tls1_2"])
    func `the key that seals and the two before it open a ticket, older ones do not`(
        _ version: String
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let stepped = try Self.stepped(authority, origin)
        let session = authority.file + ".session"

        let first = try Self.client(stepped, [version, "-sess_out", session])
        #expect(first.contains("\nNew, "), "\(first)")
        for rotations in 0...4 {
            let again = try Self.client(stepped, [version, "-sess_in", session])
            let expected = rotations <= 2 ? "\nReused, " : "\nNew, "
            #expect(again.contains(expected), "after \(rotations): \(again)")
            #expect(again.contains("HTTP/1.1 200 OK"), "after \(rotations): \(again)")
            Self.rotate(stepped)
        }
        #expect(stepped.worker.tally.value(.downstream, .resumed) == 3)
        #expect(stepped.worker.tally.value(.downstream, .none) == 3)
    }

    @Test func `who resumes gets a ticket of the newest key`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let stepped = try Self.stepped(authority, origin)
        let session = authority.file + ".session"

        _ = try Self.client(stepped, ["-tls1_3", "-sess_out", session])
        for rotations in 1...5 {
            Self.rotate(stepped)
            let again = try Self.client(
                stepped, ["-tls1_3", "-sess_in", session, "-sess_out", session])
            #expect(again.contains("\nReused, "), "after \(rotations): \(again)")
        }
    }

    @Test func `a key seals for as long as it may`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let stepped = try Self.stepped(authority, Origin.echo())
        let worker = stepped.worker
        let begun = worker.now &- worker.limits.ticketKeyNanosecondsMax

        worker.ticketKeysAt = begun
        worker.rotateTicketKeys()
        #expect(worker.ticketKeysAt == begun)
        worker.now += 1
        worker.rotateTicketKeys()
        #expect(worker.ticketKeysAt == worker.now)
    }
}
