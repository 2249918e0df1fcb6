import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("Handshakes cost those who ask for them, and nobody else", .serialized)
struct HandshakeTests {
    @Test func `a name of 30000 labels is no name, whatever hosts are served`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        var wild = try SecureGateway.Site.anyHost(authority)
        wild.hostname = "*.shop.example"
        let gateway = try SecureGateway([wild, .anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }
        for (name, isAnswered) in [
            (String(repeating: "a.", count: 30_000) + "a", false),
            (String(repeating: "a.", count: 127) + "a", false),
            (String(repeating: "a.", count: 126) + "a", true),
        ] {
            let client = Loopback.connect(gateway.port)
            defer { close(client) }
            Loopback.send(client, ClientHello.bytes(name))
            // A handshake's record, or an alert.
            #expect(Loopback.receive(client).first == (isAnswered ? 22 : 21))
        }
        #expect(gateway.waitFor(.downstream, .nameUnknown, 2))
    }

    @Test func `hellos that wait already are answered in their account's turns, and charged`()
        throws
    {
        let authority = try TestAuthority()
        defer { authority.remove() }
        // A turn is one event.
        let stepped = try SteppedWorker([]) {
            $0.quantumMicroseconds = 0
            $0.turnMicroseconds = 0
        }
        var mesh = SteppedWorker.mesh([], stepped.port, nil)
        mesh.certificates = [try authority.issue("DNS:a.example").certificate()]
        mesh.listeners[0].tls = ListenerTLS(certificates: [0])
        stepped.adopt(mesh, version: 2)
        let clients = (0..<15).map { _ in Loopback.connect(stepped.port, from: 0x7f00_0002) }
        defer { for client in clients { close(client) } }
        for client in clients { Loopback.send(client, ClientHello.bytes("a.example")) }
        func answered() -> Int {
            clients.count { Loopback.isReadable($0, milliseconds: 0) }
        }
        let worker = stepped.worker
        let account = AccountNumbers.outside(try #require(IPAddress("127.0.0.2")))

        var turns = 0
        while worker.connectionsOpen < clients.count, turns < 1000 {
            stepped.turn()
            turns += 1
            #expect(answered() <= turns)
        }
        #expect(turns < clients.count, "several are accepted in a turn")
        let before = worker.accounts[account].cycles
        let waiting = clients.count - answered()
        #expect(stepped.take { answered() == clients.count })
        let each = (worker.accounts[account].cycles - before) / UInt64(max(1, waiting))
        // A signature takes longer than ten microseconds on any machine.
        #expect(each * 100_000 > worker.accounts.cyclesPerSecond)
    }

    @Test func `a connection beyond a limit is reset before its handshake, and open ones go on`()
        throws
    {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        var limits = Limits()
        // One address outside of the mesh may have half of them.
        limits.connectionsMax = 4
        let gateway = try SecureGateway(
            [.anyHost(authority)], origin: origin.port, limits: limits)
        defer { gateway.stop() }
        let open = try (0..<2).map { _ in try SecureClient(gateway, "a.example") }
        defer { for client in open { client.close() } }
        for client in open { #expect(client.get("/first").contains("200 OK")) }

        // Nothing is sent: a send would take the error that the next call is to see.
        let more = (0..<3).map { _ in Loopback.connect(gateway.port) }
        defer { for client in more { close(client) } }
        for client in more { #expect(Loopback.ending(client) == ECONNRESET) }

        let tally = gateway.engine.tallies[0]
        #expect(tally.sheds(.accountConnections) == 3)
        for result in TLSFailure.allCases {
            #expect(gateway.handshakes(.downstream, result) == (result == .none ? 2 : 0))
        }
        for client in open { #expect(client.get("/next").contains("200 OK")) }
    }

    @Test func `silent connections of two addresses keep no other from its handshake`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        var limits = Limits()
        limits.handshakesMax = 8
        limits.accountHandshakesMax = 4
        let gateway = try SecureGateway(
            [.anyHost(authority)], origin: origin.port, limits: limits)
        defer { gateway.stop() }
        let silent = (0..<8).map { Loopback.connect(gateway.port, from: 0x7f00_0014 + $0 % 2) }
        defer { for client in silent { close(client) } }

        for count in 1...3 {
            #expect(gateway.curl("a.example", authority).hasSuffix("\n200"))
            #expect(gateway.handshakes(.downstream, .overload) == UInt64(count > 1 ? 1 : count))
        }
        #expect(silent.count { Loopback.isReadable($0, milliseconds: 0) } == 1)
    }

    @Test func `of an account's handshakes the one that stands still makes room`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        var limits = Limits()
        limits.accountHandshakesMax = 2
        let gateway = try SecureGateway(
            [.anyHost(authority)], origin: origin.port, limits: limits)
        defer { gateway.stop() }
        let (first, silent) = (Loopback.connect(gateway.port), Loopback.connect(gateway.port))
        defer { for client in [first, silent] { close(client) } }
        Loopback.send(first, ClientHello.bytes("a.example"))
        #expect(Loopback.receive(first).first == 22)

        let third = Loopback.connect(gateway.port)
        defer { close(third) }
        #expect(Loopback.receive(silent).isEmpty)
        #expect(gateway.handshakes(.downstream, .overload) == 1)
        #expect(!Loopback.isReadable(first, milliseconds: 0))
    }

    @Test func `strangers at a Gateway keep no peer from opening a tunnel`() throws {
        var limits = Limits()
        limits.handshakesMax = 2
        let worker = Worker(
            number: 0, limits: limits, mailbox: try Mailbox(), tally: Tally(seriesMax: 8),
            accessLog: AccessLog(capacity: 1), accounts: Accounts(count: 300), nodeSockets: nil,
            capturedListener: -1)
        func link(_ role: Role, _ account: Int32) -> Link {
            let link = worker.makeConnection(-1, role)
            link.it.account = account
            link.it.isServer = true
            worker.makeRoomForHandshake(of: link)
            link.it.phase = .handshaking
            worker.handshakeBegins(link)
            return link
        }
        let strangers = [link(.downstream, 1), link(.downstream, 1)]
        let peers = [link(.carrier, 2), link(.carrier, 3), link(.carrier, 2)]
        #expect(strangers.allSatisfy { $0.it.phase == .handshaking })
        #expect(peers.map { $0.it.phase == .dead } == [true, false, false])
        #expect((worker.handshakesOpen, worker.greetingsOpen) == (2, 2))
    }
}
