import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("What is in force now decides of tunnels that are open", .serialized)
struct RecheckTests {
    private static let ended =
        "malla_tunnels_ended_total{side=\"downstream\",reason=\"not_allowed_any_more\"}"
    private static let endedHere =
        "malla_tunnels_ended_total{side=\"upstream\",reason=\"not_allowed_any_more\"}"

    /// An open connection through a tunnel, which echoes.
    private static func opened() throws -> (mesh: TunnelMesh, client: Int32) {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        let client = Loopback.connect(mesh.port)
        Loopback.send(client, "a")
        #expect(Loopback.receive(client).count == 1)
        return (mesh, client)
    }

    private static func echoes(_ client: Int32) -> Bool {
        Loopback.send(client, "b")
        return Loopback.receive(client).count == 1
    }

    private static func credentials(
        _ mesh: TunnelMesh, _ id: String, roots: [TestAuthority], version: UInt64
    ) throws -> Credentials {
        let mine = try mesh.credentials([id])
        let domain = TrustDomain.standard
        return Credentials(
            version: version, svids: mine.svids,
            bundles: [
                domain: TrustBundle(
                    trustDomain: domain, roots: roots.flatMap { PEM.blocks($0.bundle) })
            ])
    }

    @Test func `a new certificate, and one root more, end nothing`() throws {
        let (mesh, client) = try Self.opened()
        defer {
            close(client)
            mesh.stop()
        }
        let other = try TestAuthority()
        defer { other.remove() }
        let server = try #require(mesh.server)
        server.adopt(
            try Self.credentials(
                mesh, TunnelMesh.serverID, roots: [mesh.authority, other], version: 2))
        #expect(Self.echoes(client))
        #expect(server.exposition().contains(Self.ended + " 0\n"))
    }

    @Test func `a peer whose root is gone is not believed any more`() throws {
        let (mesh, client) = try Self.opened()
        defer {
            close(client)
            mesh.stop()
        }
        let other = try TestAuthority()
        defer { other.remove() }
        mesh.server?.adopt(
            try Self.credentials(mesh, TunnelMesh.serverID, roots: [other], version: 2))
        #expect(TunnelMesh.counts(mesh.server, Self.ended + " 1"))
        #expect(Loopback.receive(client).isEmpty)
    }

    @Test func `an engine that drains ends the tunnels of those whom nobody believes any more`()
        throws
    {
        let (mesh, client) = try Self.opened()
        defer {
            close(client)
            mesh.stop()
        }
        let server = try #require(mesh.server)
        #expect(server.stopAccepting(seconds: 60))
        #expect(Self.echoes(client))
        let other = try TestAuthority()
        defer { other.remove() }
        server.adopt(try Self.credentials(mesh, TunnelMesh.serverID, roots: [other], version: 2))
        #expect(TunnelMesh.counts(server, Self.ended + " 1"))
        #expect(Loopback.receive(client).isEmpty)
        // What listens is the next one's: nobody is accepted here.
        let accepted = server.totals().connections
        let late = Loopback.connect(to: UInt32(truncatingIfNeeded: mesh.pod.low), 15008)
        defer { close(late) }
        #expect(!Loopback.isReadable(late, milliseconds: 200))
        #expect(server.totals().connections == accepted)
    }

    @Test func `a pod that is gone, and one of another account, lose their tunnels`() throws {
        for change in ["gone", "renamed"] {
            let (mesh, client) = try Self.opened()
            defer {
                close(client)
                mesh.stop()
            }
            mesh.adoptMesh { all in
                guard let index = all.workloads.firstIndex(where: { $0.name.name == "stock" })
                else { return }
                if change == "gone" {
                    all.workloads.remove(at: index)
                } else {
                    all.workloads[index].serviceAccount = "other"
                }
            }
            #expect(TunnelMesh.counts(mesh.client, Self.endedHere + " 1"), "\(change)")
            #expect(Loopback.receive(client).isEmpty, "\(change)")
        }
    }

    @Test func `a client's pod that is gone loses its tunnels at the server's node, too`() throws {
        let (mesh, client) = try Self.opened()
        defer {
            close(client)
            mesh.stop()
        }
        // The client's node has not heard, and comes first.
        var isServers = false
        mesh.adoptMesh { all in
            if isServers { all.workloads.removeAll { $0.name.name == "web" } }
            isServers = true
        }
        #expect(TunnelMesh.counts(mesh.server, Self.ended + " 1"))
        #expect(Loopback.receive(client).isEmpty)
        #expect(mesh.client.exposition().contains(Self.endedHere + " 0\n"))
    }

    @Test(arguments: ["web", "stock"]) func `a pod that leaves the mesh keeps what it has open`(
        _ leaving: String
    ) throws {
        let (mesh, client) = try Self.opened()
        defer {
            close(client)
            mesh.stop()
        }
        func leave() {
            mesh.adoptMesh { all in
                guard let index = all.workloads.firstIndex(where: { $0.name.name == leaving })
                else { return }
                all.workloads[index].isMeshed = false
            }
        }
        leave()
        #expect(Self.echoes(client))
        // It was the last one of its account: the agent takes its certificate away.
        let engine = try #require(leaving == "web" ? mesh.client : mesh.server)
        let bundles = try mesh.credentials([]).bundles
        engine.adopt(Credentials(version: 3, bundles: bundles))
        leave()
        #expect(Self.echoes(client))
        // What begins now is plain.
        let late = Loopback.connect(mesh.port)
        defer { close(late) }
        #expect(Self.echoes(late))
        #expect(
            mesh.client.exposition().contains("malla_tunnel_streams_total{side=\"upstream\"} 1\n"))

        // Then it is gone. Only the server's node hears of it: who ends the tunnel counts it.
        var isServers = false
        mesh.adoptMesh { all in
            guard let index = all.workloads.firstIndex(where: { $0.name.name == leaving })
            else { return }
            all.workloads[index].isMeshed = false
            if isServers { all.workloads.remove(at: index) }
            isServers = true
        }
        #expect(TunnelMesh.counts(mesh.server, Self.ended + " 1"))
        #expect(Loopback.receive(client).isEmpty)
    }

    /// A tunnel that a peer outside of the mesh holds open: one result once it has ended.
    private static func heldFromOutside(_ mesh: TunnelMesh) throws -> Results {
        let said = Results()
        let pair = try mesh.authority.issue("URI:spiffe://cluster.local/ns/shop/sa/edge")
        let run = try PythonPeer.prepared(
            mesh, pair,
            ["--authority", mesh.authorityName, "--source", "127.0.0.3", "--bytes", "10", "--hold"])
        try Thread.start { said.add(run().contains("\"bytes\": 10,")) }
        #expect(
            TunnelMesh.counts(
                mesh.server, "malla_tunnel_streams_total{side=\"downstream\"} 1"))
        return said
    }

    @Test func `a pod that gets another account ends the tunnels of peers outside, too`() throws {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        let said = try Self.heldFromOutside(mesh)
        mesh.adoptMesh { all in
            guard let index = all.workloads.firstIndex(where: { $0.name.name == "stock" })
            else { return }
            all.workloads[index].serviceAccount = "other"
        }
        #expect(TunnelMesh.counts(mesh.server, Self.ended + " 1"))
        #expect(Loopback.eventually { said.count == 1 })
    }

    @Test func `a host outside whose identity becomes a pod's loses its tunnels`() throws {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        let said = try Self.heldFromOutside(mesh)
        mesh.adoptMesh { TunnelMesh.confine(&$0, to: "127.0.0.0/31") }
        #expect(Loopback.eventually { mesh.server?.hasAdopted ?? false })
        #expect(mesh.server?.exposition().contains(Self.ended + " 0\n") == true)
        mesh.adoptMesh { all in
            TunnelMesh.confine(&all, to: "127.0.0.0/31")
            var pod = Workload.client("shop", "edge", "127.0.0.0")
            pod.node = "a"
            pod.serviceAccount = "edge"
            all.workloads.append(pod)
        }
        #expect(TunnelMesh.counts(mesh.server, Self.ended + " 1"))
        #expect(Loopback.eventually { said.count == 1 })
    }

    private static func mode(_ mode: MutualTLSMode) -> [PeerAuthentication] {
        [PeerAuthentication(name: ObjectName("shop", "all"), selector: nil, mode: mode)]
    }

    @Test(arguments: [MutualTLSMode.permissive, .strict])
    func `a plain connection that waits for a request is closed once tunnels lead to its pod`(
        _ mode: MutualTLSMode
    ) throws {
        var options = TunnelMesh.Options()
        options.modes = Self.mode(.disable)
        let mesh = try TunnelMesh(options, TunnelServingTests.answer)
        defer { mesh.stop() }
        #expect(mesh.get().hasPrefix("HTTP/1.1 200 "))
        let idle = "malla_upstream_connections{state=\"idle\"}"
        #expect(TunnelMesh.counts(mesh.client, "\(idle) 1"))
        // A change that is no business of its.
        mesh.adoptMesh { $0.namespaces["other"] = [:] }
        #expect(TunnelMesh.value(mesh.client, idle) == 1)
        mesh.adoptMesh { $0.peerAuthentications = Self.mode(mode) }
        #expect(TunnelMesh.counts(mesh.client, "\(idle) 0"))
        #expect(mesh.get().hasPrefix("HTTP/1.1 200 "))
        #expect(TunnelMesh.counts(mesh.client, "malla_tunnels_opened_total{side=\"upstream\"} 1"))
    }

    @Test func `what is open in plain text ends when its pod insists, and goes on where it may`()
        throws
    {
        var options = TunnelServingTests.opaque()
        options.modes = Self.mode(.disable)
        let mesh = try TunnelMesh(options, TunnelServingTests.echo)
        defer { mesh.stop() }
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        Loopback.send(client, "a")
        #expect(Loopback.receive(client).count == 1)
        mesh.adoptMesh { $0.peerAuthentications = Self.mode(.permissive) }
        #expect(Self.echoes(client))
        mesh.adoptMesh { $0.peerAuthentications = Self.mode(.strict) }
        #expect(Loopback.ending(client) == ECONNRESET)
        let failed = "malla_requests_failed_total{reason=\"plain_refused\"} 1"
        #expect(TunnelMesh.counts(mesh.client, failed))
        let next = Loopback.connect(mesh.port)
        defer { close(next) }
        #expect(Self.echoes(next))
        #expect(TunnelMesh.counts(mesh.client, "malla_tunnels_opened_total{side=\"upstream\"} 1"))
    }

    @Test func `a request that waits for its answer in plain text is told that its pod insists`()
        throws
    {
        var options = TunnelMesh.Options()
        options.modes = Self.mode(.disable)
        let asked = Results()
        let mesh = try TunnelMesh(options) { connection, _ in
            _ = Loopback.message(connection)
            asked.add(true)
            // Until the engine goes.
            _ = Loopback.receive(connection)
        }
        defer { mesh.stop() }
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: stock\r\n\r\n")
        #expect(Loopback.eventually { asked.count == 1 })
        mesh.adoptMesh { $0.peerAuthentications = Self.mode(.strict) }
        let answer = Loopback.message(client)
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("plain_refused"), "\(answer)")
    }

    /// Which of two ports of a pod insists; what becomes of a request that is being dialled to one.
    @Test(arguments: [true, false])
    func `a request that is only dialled goes to another endpoint when its pod insists`(
        isOtherOpen: Bool
    ) throws {
        let hole = BlackHole()
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([hole.port, port]) { $0.raceNanoseconds = 60_000_000_000 }
        var mesh = SteppedWorker.mesh([hole.port, port], stepped.port, nil)
        mesh.workloads = [.client("shop", "web", "127.0.0.1")]
        mesh.workloads[0].node = "b"
        stepped.adopt(mesh, version: 2)
        var upstreams: [Link] {
            stepped.worker.timers.all().filter {
                $0.it.role == .downstream && $0.it.exchange.isActive && !$0.it.partner.isNone
            }.map { $0.it.partner }
        }
        // The less busy of two: as often as it takes.
        var clients: [Int32] = []
        defer { for client in clients { close(client) } }
        while !upstreams.contains(where: { $0.it.pool.it.endpoint.port == hole.port }),
            clients.count < 16
        {
            clients.append(Loopback.connect(stepped.port, from: 0x7f00_0002))
            Loopback.send(
                clients[clients.count - 1],
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            try #require(stepped.take { upstreams.count == clients.count })
        }
        var servers = clients.dropFirst().map { _ in stepped.accepted(listener) }
        defer { for server in servers { close(server) } }

        var modes: [UInt16: MutualTLSMode?] = [hole.port: .strict]
        if !isOtherOpen { modes[port] = MutualTLSMode.strict }
        mesh.peerAuthentications = [
            PeerAuthentication(
                name: ObjectName("shop", "web"), selector: LabelSelector(["app": "shop-web"]),
                ports: modes)
        ]
        stepped.adopt(mesh, version: 3)

        let client = clients[clients.count - 1]
        if isOtherOpen {
            try #require(stepped.take { Loopback.isReadable(listener, milliseconds: 0) })
            servers.append(stepped.accepted(listener))
            #expect(stepped.message(servers[servers.count - 1]).hasSuffix("\r\n\r\nbody"))
            Loopback.send(
                servers[servers.count - 1], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
        let answer = stepped.message(client)
        #expect(answer.contains("plain_refused") == !isOtherOpen, "\(answer)")
        #expect(answer.hasPrefix("HTTP/1.1 \(isOtherOpen ? 200 : 503) "), "\(answer)")
    }

    @Test func `what changes nothing for it ends nothing`() throws {
        let (mesh, client) = try Self.opened()
        defer {
            close(client)
            mesh.stop()
        }
        mesh.adoptMesh { $0.namespaces["other"] = [:] }
        #expect(Self.echoes(client))
        #expect(mesh.client.exposition().contains(Self.endedHere + " 0\n"))
    }

    @Test func `what is carried to an endpoint that its service has lost is reset`() throws {
        let (mesh, client) = try Self.opened()
        defer {
            close(client)
            mesh.stop()
        }
        mesh.adoptMesh { $0.services[0].ports[0].endpoints[0].isReady = false }
        #expect(Self.echoes(client))
        // The server's node is asked for the pod, and not by way of a service.
        var isServers = false
        mesh.adoptMesh { all in
            if isServers { all.services[0].ports[0].endpoints = [] }
            isServers = true
        }
        #expect(Self.echoes(client))
        mesh.adoptMesh { $0.services[0].ports[0].endpoints = [] }
        #expect(Loopback.ending(client) == ECONNRESET)
        let failed = "malla_requests_failed_total{reason=\"endpoint_removed\"} 1"
        #expect(TunnelMesh.counts(mesh.client, failed))
        #expect(mesh.client.exposition().contains(Self.endedHere + " 0\n"))
    }

    @Test func `policies that forbid the pair end what is carried, and refuse what comes`() throws {
        let (mesh, client) = try Self.opened()
        defer {
            close(client)
            mesh.stop()
        }
        mesh.adoptMesh { all in
            all.policies = [
                NetworkPolicy(
                    name: ObjectName("shop", "none"),
                    subject: PodSelection(.named("shop"), LabelSelector(["app": "shop-web"])),
                    egress: [])
            ]
        }
        #expect(Loopback.receive(client).isEmpty)
        let late = Loopback.connect(mesh.port)
        defer { close(late) }
        Loopback.send(late, "a")
        #expect(Loopback.receive(late).isEmpty)
        #expect(
            TunnelMesh.counts(
                mesh.client, "malla_requests_failed_total{reason=\"denied_by_policy\"} 2"))
    }

    @Test func `Istio's labels say who both ends are`() throws {
        let mesh = try TunnelMesh(TunnelMesh.Options(), TunnelServingTests.answer)
        defer { mesh.stop() }
        #expect(mesh.get().hasPrefix("HTTP/1.1 200 OK\r\n"))
        for (engine, reporter) in [(mesh.client, "source"), (mesh.server, "destination")] {
            var text = ""
            _ = Loopback.eventually {
                let line = engine?.exposition().split(separator: "\n").first {
                    $0.hasPrefix("istio_requests_total{reporter=\"\(reporter)\"")
                }
                text = String(line ?? "")
                return !text.isEmpty
            }
            #expect(text.contains("source_principal=\"\(TunnelMesh.clientID)\""), "\(text)")
            #expect(text.contains("destination_principal=\"\(TunnelMesh.serverID)\""), "\(text)")
            #expect(text.contains("connection_security_policy=\"mutual_tls\""), "\(text)")
        }
    }

    @Test(arguments: ["connections_opened", "connections_closed", "sent_bytes", "received_bytes"])
    func `Istio's labels of TCP say who both ends are`(_ what: String) throws {
        let (mesh, client) = try Self.opened()
        defer { mesh.stop() }
        close(client)
        for (engine, reporter) in [(mesh.client, "source"), (mesh.server, "destination")] {
            var lines: [Substring] = []
            // One connection; one byte each way.
            let isCounted = Loopback.eventually {
                lines = (engine?.exposition() ?? "").split(separator: "\n").filter {
                    $0.hasPrefix("istio_tcp_\(what)_total{")
                }
                return lines.contains { $0.hasSuffix(" 1") }
            }
            #expect(isCounted, "\(reporter): \(lines)")
            for label in [
                "reporter=\"\(reporter)\"", "source_principal=\"\(TunnelMesh.clientID)\"",
                "destination_principal=\"\(TunnelMesh.serverID)\"",
                "connection_security_policy=\"mutual_tls\"",
            ] {
                #expect(lines.allSatisfy { $0.contains(label) }, "\(reporter): \(lines)")
            }
        }
    }

    /// Whose tunnel cannot be had has met nobody, be it for TCP, for TLS or behind both.
    @Test(arguments: ["nobody", "another", "no pod"])
    func `Istio's labels name nobody where there was no connection`(_ why: String) throws {
        var options = TunnelMesh.Options()
        options.hasServer = why != "nobody"
        if why == "another" { options.serverID = TunnelMesh.clientID }
        let mesh = try TunnelMesh(options, TunnelServingTests.answer)
        defer { mesh.stop() }
        if why == "no pod" { mesh.closePod() }
        #expect(mesh.get().hasPrefix("HTTP/1.1 503 "))
        var text = ""
        _ = Loopback.eventually {
            let line = mesh.client.exposition().split(separator: "\n").first {
                $0.hasPrefix("istio_requests_total{reporter=\"source\"")
            }
            text = String(line ?? "")
            return !text.isEmpty
        }
        #expect(text.contains("response_code=\"503\""), "\(text)")
        #expect(text.contains("destination_principal=\"unknown\""), "\(text)")
        #expect(text.contains("connection_security_policy=\"none\""), "\(text)")
    }
}
