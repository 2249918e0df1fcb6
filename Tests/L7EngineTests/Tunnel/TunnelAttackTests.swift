import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("A peer of a tunnel that means ill is ended, counted, and costs no more than its limits")
struct TunnelAttackTests {
    private static func ended(_ side: String, _ reason: L7Engine.TunnelEnd) -> String {
        "malla_tunnels_ended_total{side=\"\(side)\",reason=\"\(reason.label)\"}"
    }

    @Test func `who asks for what no tunnel leads to again and again is a flood`() throws {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        let pair = try mesh.authority.issue("URI:\(TunnelMesh.clientID)")
        _ = try PythonPeer.client(mesh, pair, ["--authority", "10.1.1.1:80", "--flood", "4"])
        #expect(TunnelMesh.counts(mesh.server, Self.ended("downstream", .flood) + " 1"))
    }

    /// What many CONNECTs on one tunnel ask for, what they are answered, and whether none should.
    struct Knocks: CustomTestStringConvertible, Sendable {
        var testDescription: String
        /// POD is the pod's.
        var authority: String
        var status: Int
        var isFlood: Bool
    }

    static let knocks = [
        Knocks(
            testDescription: "the pod's port of tunnels, which a pod itself may dial",
            authority: "POD:15008", status: 403, isFlood: false),
        Knocks(
            testDescription: "a port of the pod that nobody listens on", authority: "POD:1",
            status: 503, isFlood: false),
        Knocks(
            testDescription: "another address", authority: "10.1.1.1:80", status: 403,
            isFlood: true),
        Knocks(
            testDescription: "another address's port of tunnels", authority: "10.1.1.1:15008",
            status: 403, isFlood: true),
    ]

    @Test(arguments: knocks)
    func `many CONNECTs end the tunnel, and what is open on it, if nobody should ask for them`(
        _ row: Knocks
    ) throws {
        // Of 300 more than so many come within one second, wherever that begins.
        let options = TunnelServingTests.opaque { $0.limits.tunnelResetsMax = 50 }
        let mesh = try TunnelMesh(options, TunnelServingTests.echo)
        defer { mesh.stop() }
        let pair = try mesh.authority.issue("URI:\(TunnelMesh.clientID)")
        let knock = row.authority.replacing("POD", with: "\(mesh.pod)")
        let said = try PythonPeer.client(
            mesh, pair,
            [
                "--authority", mesh.authorityName, "--bytes", "1000", "--knock", knock, "--knocks",
                "300",
            ])
        if row.isFlood {
            #expect(TunnelMesh.counts(mesh.server, Self.ended("downstream", .flood) + " 1"))
            #expect(!said.contains("\"ended\": true"), "\(said)")
            return
        }
        #expect(said.contains("\"knocks\": 300, \"statuses\": [\(row.status)]"), "\(said)")
        #expect(said.contains("\"ended\": true") && said.contains("\"bytes\": 1000,"), "\(said)")
        #expect(
            TunnelMesh.counts(
                mesh.server, "malla_tunnel_refused_total{status=\"\(row.status)\"} 300"))
        #expect(TunnelMesh.counts(mesh.server, Self.ended("downstream", .flood) + " 0"))
    }

    @Test func `of who reads no answers nothing is read, and the tunnel ends`() throws {
        let options = TunnelServingTests.opaque {
            $0.limits.tunnelResetsMax = 1 << 30
            $0.limits.tunnelOutgoingBytesMax = 16 * 1024
            $0.limits.tunnelAnswersBytesMax = 16 * 1024
            $0.limits.tunnelPingNanoseconds = 500_000_000
            $0.limits.tunnelStallNanosecondsMax = 500_000_000
        }
        let mesh = try TunnelMesh(options, TunnelServingTests.echo)
        defer { mesh.stop() }
        let pair = try mesh.authority.issue("URI:\(TunnelMesh.clientID)")
        // The sockets of both ends hold some MiB of answers at most.
        let said = try PythonPeer.client(
            mesh, pair, ["--authority", "10.1.1.1:80", "--flood", "64"])
        #expect(said.contains("\"whole\": false"), "\(said)")
        #expect(TunnelMesh.counts(mesh.server, Self.ended("downstream", .slowReader) + " 1"))
    }

    @Test func `a stream with trailers is reset and counted, and its neighbour goes on`() throws {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        let pair = try mesh.authority.issue("URI:\(TunnelMesh.clientID)")
        let said = try PythonPeer.client(
            mesh, pair, ["--authority", mesh.authorityName, "--trailers", "--bytes", "1000"])
        #expect(said.contains("\"other\": 1}"), "PROTOCOL_ERROR: \(said)")
        #expect(said.contains("\"ended\": true") && said.contains("\"bytes\": 1000,"), "\(said)")
        #expect(
            TunnelMesh.counts(
                mesh.server,
                "malla_tunnel_streams_reset_total{side=\"downstream\",reason=\"protocol\"} 1"))
    }

    /// What was counted of handshakes, and of tunnels' ends.
    private static func handshakes(_ engine: Engine?) -> [Substring] {
        (engine?.exposition() ?? "").split(separator: "\n").filter {
            $0.hasPrefix("malla_tls_handshakes_total{side=\"downstream")
                || $0.hasPrefix("malla_tunnels_ended_total{side=\"downstream")
        }.filter { !$0.hasSuffix(" 0") }
    }

    /// A server's roots when a handshake begins are not those when it ends.
    @Test func `a handshake that began before a root was taken away is judged by what is left`()
        throws
    {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        let relay = try HeldRelay(to: mesh.pod, 15_008, holding: .fromClient)
        defer { relay.stop() }
        let pair = try mesh.authority.issue("URI:\(TunnelMesh.clientID)")
        let said = Results()
        let authority = mesh.authorityName
        let address = "127.0.0.1:\(relay.port)"
        let files = try mesh.authority.write(pair, "late")
        let line = PythonPeer.clientLine(
            address, mesh.authority, files, ["--authority", authority])
        try Thread.start { said.add(Program.run(line).output.contains("\"status\": 200")) }
        #expect(relay.holds())

        let other = try TestAuthority()
        defer { other.remove() }
        let mine = try mesh.credentials([TunnelMesh.serverID])
        let roots = PEM.blocks(other.bundle)
        mesh.server?.adopt(
            Credentials(
                version: 2, svids: mine.svids,
                bundles: [
                    .standard: TrustBundle(trustDomain: .standard, roots: roots)
                ]))
        #expect(Loopback.eventually { mesh.server?.hasAdopted ?? false })
        relay.release()
        #expect(
            TunnelMesh.counts(
                mesh.server,
                "malla_tls_handshakes_total{side=\"downstream\",result=\"untrusted\"} 1"),
            "\(Self.handshakes(mesh.server))")
        #expect(TunnelMesh.counts(mesh.server, Self.ended("downstream", .revoked) + " 1"))
        #expect(Loopback.eventually { said.count == 1 })
        #expect(!said.all)
    }

    @Test func `a server's certificate is judged when its handshake ends, too`() throws {
        var options = TunnelServingTests.opaque()
        options.hasServer = false
        let mesh = try TunnelMesh(options, TunnelServingTests.echo)
        defer { mesh.stop() }
        let (spare, port) = Loopback.listen()
        close(spare)
        let peer = try PythonPeer(mesh, id: TunnelMesh.serverID, at: "127.0.0.1:\(port)")
        defer { peer.stop() }
        let relay = try HeldRelay(
            to: .loopbackV4, port, holding: .fromServer, at: mesh.pod, 15_008)
        defer { relay.stop() }
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        Loopback.send(client, "a")
        #expect(relay.holds())

        let other = try TestAuthority()
        defer { other.remove() }
        let mine = try mesh.credentials([TunnelMesh.clientID])
        let roots = PEM.blocks(other.bundle)
        mesh.client.adopt(
            Credentials(
                version: 2, svids: mine.svids,
                bundles: [
                    .standard: TrustBundle(trustDomain: .standard, roots: roots)
                ]))
        #expect(Loopback.eventually { mesh.client.hasAdopted })
        relay.release()
        #expect(TunnelMesh.counts(mesh.client, Self.ended("upstream", .revoked) + " 1"))
        #expect(Loopback.receive(client).isEmpty)
    }
}

/// Between a client and a server: what one of them says behind its first words waits for `release`.
final class HeldRelay: Sendable {
    enum Side: Sendable { case fromClient, fromServer }

    let port: UInt16
    private let listener: Int32
    private let isHeld = Results()
    private let mayGo = Results()
    private let isOver = Results()

    init(
        to host: IPAddress, _ target: UInt16, holding side: Side,
        at address: IPAddress = .loopbackV4, _ port: UInt16 = 0
    ) throws {
        let (listener, port) = Loopback.listen(port: port, host: address.v4)
        (self.listener, self.port) = (listener, port)
        let (isHeld, mayGo, isOver) = (isHeld, mayGo, isOver)
        try Thread.start {
            // Of a hello the first piece passes: without it nobody answers.
            var passes = side == .fromClient ? 1 : 0
            while isOver.count == 0 {
                guard Loopback.isReadable(listener, milliseconds: 50) else { continue }
                let client = accept(listener, nil, nil)
                let server = Loopback.connect(to: host.v4, target)
                var held: [UInt8] = []
                var isOpen = true
                while isOpen, isOver.count == 0 {
                    if mayGo.count > 0, !held.isEmpty {
                        Loopback.send(side == .fromClient ? server : client, held)
                        held = []
                    }
                    for (one, other, from) in [
                        (client, server, Side.fromClient), (server, client, .fromServer),
                    ] where Loopback.isReadable(one, milliseconds: 5) {
                        let bytes = Loopback.receive(one)
                        isOpen = isOpen && !bytes.isEmpty
                        // What comes after what is held goes after it, too.
                        if from == side, passes == 0, mayGo.count == 0 || !held.isEmpty {
                            held += bytes
                            isHeld.add(true)
                        } else {
                            if from == side { passes = max(0, passes - 1) }
                            Loopback.send(other, bytes)
                        }
                    }
                }
                close(client)
                close(server)
            }
        }
    }

    func holds() -> Bool { Loopback.eventually { self.isHeld.count > 0 } }
    func release() { mayGo.add(true) }

    func stop() {
        isOver.add(true)
        close(listener)
    }
}
