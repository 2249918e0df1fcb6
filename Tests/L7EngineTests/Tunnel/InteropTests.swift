import Foundation
import Glibc
import MeshModel
import Synchronization
import TestSupport
import Testing

@testable import L7Engine

@Suite("HBONE with a peer that shares no code with us (Python's ssl and h2)", .serialized)
struct InteropTests {
    struct Refusal: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var id: String? = TunnelMesh.clientID
        var isExpired = false
        /// The name of the authority that has signed it, if that is not the mesh's own.
        var issuer: String?
        var words: [String] = []
        var result: TLSFailure
    }

    /// Certificates that neither side believes.
    private static let unbelieved = [
        Refusal(
            testDescription: "an authority that is not the trust domain's", issuer: "elsewhere",
            result: .untrusted),
        Refusal(
            testDescription: "another authority with the name of the trust domain's",
            issuer: TestAuthority.standardName, result: .untrusted),
        Refusal(testDescription: "an expired certificate", isExpired: true, result: .expired),
    ]

    static let refusals: [Refusal] =
        unbelieved + [
            Refusal(testDescription: "no certificate", id: nil, result: .noCertificate),
            Refusal(testDescription: "TLS 1.2", words: ["--tls12"], result: .version),
            Refusal(
                testDescription: "another account's certificate from a pod's address",
                id: "spiffe://cluster.local/ns/shop/sa/thief", result: .nameMismatch),
            Refusal(
                testDescription: "another trust domain",
                id: "spiffe://elsewhere.example/ns/shop/sa/web", result: .untrusted),
            Refusal(
                testDescription: "ALPN without h2", words: ["--alpn", "http/1.1"],
                result: .protocolUnknown),
        ]

    @Test(arguments: refusals) func `a client is refused, and counted by reason`(_ row: Refusal)
        throws
    {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        let foreign = try row.issuer.map { try TestAuthority($0) }
        defer { foreign?.remove() }
        let issuer = foreign ?? mesh.authority
        let pair = try row.id.map { try issuer.issue("URI:\($0)", isExpired: row.isExpired) }
        let said = try PythonPeer.client(
            mesh, pair, ["--authority", mesh.authorityName] + row.words)
        #expect(!said.contains("\"status\": 200"), "\(said)")
        #expect(
            TunnelMesh.counts(
                mesh.server,
                "malla_tls_handshakes_total{side=\"downstream\",result=\"\(row.result.label)\"} 1"),
            "\(said)")
        #expect(
            mesh.server?.exposition().contains(
                "malla_tunnel_streams_total{side=\"downstream\"} 0\n")
                == true)
        // And is told of by name, as far as it came to show one.
        let told = mesh.server?.takeRefused().tunnels ?? []
        #expect(told.map(\.reason) == ["\(row.result.label)"])
        #expect(told.map(\.pod) == [mesh.pod] && told.map(\.isOurs) == [false])
        let showsNone: [TLSFailure] = [.noCertificate, .version, .protocolUnknown]
        let claim = showsNone.contains(row.result) ? "" : row.id
        #expect(told.map(\.claim) == [claim])
    }

    /// What the Nodes say of where the client's node has pods; whether one may be at 127.0.0.3.
    static let blocks: [(String?, Bool)] = [
        (nil, true), ("127.0.0.0/30", true), ("127.0.0.0/31", false),
    ]

    @Test(arguments: blocks)
    func `a pod's certificate from elsewhere is refused, unless a new pod may be there`(
        _ block: String?, _ isBelieved: Bool
    ) throws {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        mesh.adoptMesh { all in
            if let block { TunnelMesh.confine(&all, to: block) }
        }
        #expect(Loopback.eventually { mesh.server?.hasAdopted ?? false })
        let said = try PythonPeer.client(
            mesh, try mesh.authority.issue("URI:\(TunnelMesh.clientID)"),
            ["--authority", mesh.authorityName, "--source", "127.0.0.3", "--bytes", "10"])
        #expect(said.contains("\"status\": 200,") == isBelieved, "\(said)")
        let result = isBelieved ? TLSFailure.none : .nameMismatch
        #expect(
            TunnelMesh.counts(
                mesh.server,
                "malla_tls_handshakes_total{side=\"downstream\",result=\"\(result.label)\"} 1"),
            "\(said)")
        let told = mesh.server?.takeRefused().tunnels ?? []
        #expect(told.map(\.reason) == (isBelieved ? [] : ["name_mismatch"]))
        #expect(told.map(\.claim) == (isBelieved ? [] : [TunnelMesh.clientID]))
    }

    static let badServers: [Refusal] =
        unbelieved + [
            Refusal(testDescription: "TLS 1.2 only", words: ["--tls12"], result: .version)
        ]

    @Test(arguments: badServers)
    func `a server is refused and is sent nothing, and the client's node says why`(_ row: Refusal)
        throws
    {
        var options = TunnelMesh.Options()
        options.hasServer = false
        let reached = Results()
        let mesh = try TunnelMesh(options) { connection, number in
            reached.add(true)
            TunnelServingTests.answer(connection, number)
        }
        defer { mesh.stop() }
        let foreign = try row.issuer.map { try TestAuthority($0) }
        defer { foreign?.remove() }
        let peer = try PythonPeer(
            mesh, id: TunnelMesh.serverID, issuer: foreign, isExpired: row.isExpired, row.words)
        defer { peer.stop() }
        let answer = mesh.get()
        #expect(answer.hasPrefix("HTTP/1.1 503 "), "\(answer)")
        for line in [
            "malla_tls_handshakes_total{side=\"upstream\",result=\"\(row.result.label)\"} 3",
            "malla_tls_handshakes_total{side=\"upstream\",result=\"ok\"} 0",
            "malla_tunnels_ended_total{side=\"upstream\",reason=\"handshake\"} 3",
            "malla_tunnels_opened_total{side=\"upstream\"} 0",
            "malla_requests_failed_total{reason=\"upstream_tls\"} 1",
        ] {
            #expect(TunnelMesh.counts(mesh.client, line), "\(line)")
        }
        var log: [String] = []
        let isLogged = Loopback.eventually {
            log += mesh.client.takeAccessLog()
            return log.contains { $0.contains("\"reason\":\"upstream_tls\"") }
        }
        #expect(isLogged, "\(log)")
        let told = mesh.client.takeRefused()
        #expect(told.tunnels.map(\.reason) == ["\(row.result.label)"])
        #expect(told.tunnels.allSatisfy { $0.isOurs && $0.peer.address == mesh.pod })
        #expect(told.others == ["\(row.result.label)": 2])
        // It listens, and has seen a failed handshake for each try: no CONNECT, no fall back.
        let said = peer.said(4)
        #expect(said.count == 4, "\(said)")
        for line in said.dropFirst() {
            #expect(line.contains("\"handshake\"") && !line.contains("\"ok\""), "\(said)")
        }
        #expect(reached.count == 0)
    }

    struct Request: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var status: Int
        /// POD and PORT are the pod's.
        var words: [String]
        init(_ name: String, _ status: Int, _ authority: String, _ words: [String] = []) {
            testDescription = name
            self.status = status
            self.words = ["--authority", authority] + words
        }
    }

    static let requests = [
        Request("the pod itself", 200, "POD:PORT"),
        Request("another address", 403, "127.0.0.1:80"),
        Request("the node", 403, "127.0.0.1:PORT"),
        Request("a tunnel in the tunnel", 403, "POD:15008"),
        Request("a name", 400, "stock.shop:PORT"),
        Request("no port", 400, "POD"),
        Request("a method that is not CONNECT", 405, "POD:PORT", ["--method", "GET"]),
        Request(
            "an extended CONNECT", 501, "POD:PORT",
            [
                "--field", ":path=/", "--field", ":scheme=https", "--field", ":protocol=websocket",
            ]),
        Request(
            "a head of more than 8 KiB", 431, "POD:PORT",
            [
                "--baggage", String(repeating: "x", count: 8_192),
            ]),
        Request("CONNECT with a path", 400, "POD:PORT", ["--field", ":path=/"]),
        Request("a pseudo-field twice", 400, "POD:PORT", ["--field", ":authority=10.1.1.1:80"]),
        Request("a pseudo-field that is none", 400, "POD:PORT", ["--field", ":port=80"]),
        Request("a pseudo-field behind others", 400, "POD:PORT", ["--field", "!:protocol=a"]),
        Request("a name in capitals", 400, "POD:PORT", ["--field", "Baggage=a"]),
        Request("a field of a connection", 400, "POD:PORT", ["--field", "connection=close"]),
        Request("a value with a line of its own", 400, "POD:PORT", ["--field", "a=b\nc"]),
        Request("a port that nobody listens on", 503, "POD:1"),
    ]

    @Test(arguments: requests)
    func `CONNECT leads to the pod that was dialled, and nowhere else`(_ row: Request) throws {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        let pair = try mesh.authority.issue("URI:\(TunnelMesh.clientID)")
        let words = row.words.map {
            $0.replacingOccurrences(of: "POD", with: "\(mesh.pod)")
                .replacingOccurrences(of: "PORT", with: "\(mesh.target)")
        }
        let said = try PythonPeer.client(mesh, pair, ["--bytes", "10"] + words)
        #expect(said.contains("\"status\": \(row.status),"), "\(row.testDescription): \(said)")
        #expect(said.contains("\"peer\": \"\(TunnelMesh.serverID)\""), "\(said)")
        if row.status != 200 {
            #expect(
                TunnelMesh.counts(
                    mesh.server, "malla_tunnel_refused_total{status=\"\(row.status)\"} 1"))
            let told = mesh.server?.takeRefused().tunnels ?? []
            let reason = TunnelRefusal(rawValue: row.status).map { "\($0.label)" }
            #expect(told.map(\.reason) == [reason])
            #expect(told.map(\.claim) == [TunnelMesh.clientID])
            #expect(told.map(\.pod) == [mesh.pod])
        }
    }

    @Test func `Istio's labels name a host outside by what it has proved`() throws {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        let id = "spiffe://cluster.local/ns/shop/sa/edge"
        _ = try PythonPeer.client(
            mesh, try mesh.authority.issue("URI:\(id)"),
            ["--authority", mesh.authorityName, "--source", "127.0.0.3", "--bytes", "10"])
        let isNamed = Loopback.eventually {
            mesh.server?.exposition().split(separator: "\n").contains {
                $0.hasPrefix("istio_tcp_connections_opened_total{reporter=\"destination\"")
                    && $0.contains("source_workload=\"edge\",source_workload_namespace=\"shop\"")
                    && $0.contains("source_principal=\"\(id)\"") && $0.hasSuffix(" 1")
            } ?? false
        }
        #expect(isNamed, "\(mesh.server?.exposition() ?? "")")
    }

    @Test func `a client's bytes come back whole`() throws {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        defer { mesh.stop() }
        let pair = try mesh.authority.issue("URI:\(TunnelMesh.clientID)")
        let said = try PythonPeer.client(
            mesh, pair, ["--authority", mesh.authorityName, "--bytes", "5000000"])
        // Of the bytes 0 to 255 again and again, five million of them, by coreutils' sha256sum.
        #expect(
            said.contains(
                "\"sha256\": \"9bca905da6d9ba5d6af0eea04211fc7dcf63eb24b9e8076d68e5486732fcbe1c\""),
            "\(said)")
        #expect(said.contains("\"version\": \"TLSv1.3\""), "\(said)")
        #expect(said.contains("\"alpn\": \"h2\""))
        #expect(said.contains("\"ended\": true"))
        // docs/hbone.md, HTTP/2: what the settings are.
        #expect(said.contains("\"4\": 262144"), "\(said)")
        #expect(said.contains("\"3\": 1024"), "\(said)")
    }

    @Test func `a certificate that runs out has its tunnel drained, and ends no stream`() throws {
        let options = TunnelServingTests.opaque { $0.limits.tunnelPingNanoseconds = 200_000_000 }
        let mesh = try TunnelMesh(options, TunnelServingTests.echo)
        defer { mesh.stop() }
        let pair = try mesh.authority.issue("URI:\(TunnelMesh.clientID)", life: 3)
        // It holds its stream until the server ends something.
        let said = try PythonPeer.client(
            mesh, pair, ["--authority", mesh.authorityName, "--bytes", "10", "--hold"])
        #expect(said.contains("\"goaway\": true"), "\(said)")
        #expect(said.contains("\"ended\": false"), "\(said)")
        #expect(said.contains("\"reset\": null"), "\(said)")
        #expect(said.contains("\"bytes\": 10,"), "\(said)")
    }

    @Test func `what comes before the answer to CONNECT waits for it`() throws {
        let mesh = try TunnelMesh(TunnelMesh.Options(), TunnelServingTests.answer)
        defer { mesh.stop() }
        let pair = try mesh.authority.issue("URI:\(TunnelMesh.clientID)")
        let said = try PythonPeer.client(
            mesh, pair,
            [
                "--authority", mesh.authorityName, "--eager",
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ])
        #expect(said.contains("\"status\": 200,"), "\(said)")
        #expect(said.contains("\"ended\": true"), "\(said)")
        #expect(!said.contains("\"bytes\": 0"), "\(said)")
        #expect(
            TunnelMesh.counts(mesh.server, "malla_requests_total 1"), "read as HTTP: \(said)")
    }

    /// A pod of the mesh, as a ztunnel dials for it, and a host outside.
    static let callers = [
        (TunnelMesh.clientID, "127.0.0.1"), ("spiffe://cluster.local/ns/shop/sa/edge", "127.0.0.3"),
    ]

    @Test(arguments: callers)
    func `who a request in a tunnel says it is from gives way to who has dialled, and is counted`(
        _ id: String, _ source: String
    ) throws {
        let heard = Mutex("")
        let mesh = try TunnelMesh(TunnelMesh.Options()) { connection, _ in
            let request = Loopback.message(connection)
            heard.withLock { $0 += request }
            Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        }
        defer { mesh.stop() }
        let forged = "URI=spiffe://cluster.local/ns/shop/sa/forged"
        let fields =
            "x-forwarded-client-cert: By=me;\(forged)\r\nX-Forwarded-Client-Cert: \(forged)\r\n"
        let said = try PythonPeer.client(
            mesh, try mesh.authority.issue("URI:\(id)"),
            [
                "--authority", mesh.authorityName, "--source", source, "--eager",
                "GET / HTTP/1.1\r\nHost: a\r\n\(fields)Connection: close\r\n\r\n",
            ])
        #expect(said.contains("\"status\": 200,"), "\(said)")
        let request = heard.withLock { $0 }
        let told = request.split(separator: "\r\n").filter {
            $0.lowercased().hasPrefix("x-forwarded-client-cert")
        }
        #expect(
            told == ["X-Forwarded-Client-Cert: By=\(TunnelMesh.serverID);URI=\(id)"], "\(request)")
        #expect(!request.contains("forged"), "\(request)")
        #expect(TunnelMesh.counts(mesh.server, "malla_requests_forged_client_cert_total 1"))
        let forgeries = mesh.server?.takeRefused().tunnels ?? []
        #expect(forgeries.map(\.reason) == [RefusedTunnel.forgedClientCert])
        #expect(forgeries.map(\.peer.address) == [IPAddress(source)])
        #expect(forgeries.map(\.asked) == [SocketAddress(mesh.pod, mesh.target)])
        #expect(forgeries.map(\.claim) == [id])
        var log: [String] = []
        let isLogged = Loopback.eventually {
            log += mesh.server?.takeAccessLog() ?? []
            return log.contains {
                $0.contains("\"source\":\"\(source):") && $0.contains("\"forged_client_cert\":true")
            }
        }
        #expect(isLogged, "\(log)")
    }

    @Test func `a server is told who asks, and for what`() throws {
        var options = TunnelMesh.Options()
        options.hasServer = false
        let mesh = try TunnelMesh(options, TunnelServingTests.answer)
        defer { mesh.stop() }
        let peer = try PythonPeer(mesh, id: TunnelMesh.serverID)
        defer { peer.stop() }
        #expect(mesh.get("/hello").contains("GET /hello HTTP/1.1\r\n"))
        let said = peer.said(3)
        #expect(said.contains { $0.contains("\"peer\": \"\(TunnelMesh.clientID)\"") })
        #expect(said.contains { $0.contains("\"alpn\": \"h2\", \"version\": \"TLSv1.3\"") })
        let connect = said.first { $0.contains("authority") } ?? ""
        #expect(connect.contains("\"authority\": \"\(mesh.authorityName)\""))
        #expect(connect.contains("\"method\": \"CONNECT\""))
        #expect(connect.contains("\"forwarded\": \"for=127.0.0.1\""))
        #expect(connect.contains("k8s.namespace.name=shop,k8s.deployment.name=web"))
    }

    @Test func `a server that says GOAWAY keeps its stream and gets no other`() throws {
        // What drains does not take another's place.
        var options = TunnelServingTests.opaque { $0.limits.carriersMax = 1 }
        options.hasServer = false
        let mesh = try TunnelMesh(options, TunnelServingTests.echo)
        defer { mesh.stop() }
        let peer = try PythonPeer(mesh, id: TunnelMesh.serverID, ["--goaway"])
        defer { peer.stop() }
        let first = Loopback.connect(mesh.port)
        defer { close(first) }
        Loopback.send(first, "a")
        #expect(Loopback.receive(first).count == 1)
        let second = Loopback.connect(mesh.port)
        defer { close(second) }
        Loopback.send(second, "b")
        #expect(Loopback.receive(second).count == 1)
        #expect(TunnelMesh.counts(mesh.client, "malla_tunnels_opened_total{side=\"upstream\"} 2"))
        Loopback.send(first, "c")
        #expect(Loopback.receive(first).count == 1)
    }

    @Test(arguments: ["refuse", "goaway", "drop"])
    func `a CONNECT that was lost before its answer is tried again, three times in all`(
        _ how: String
    ) throws {
        for (losses, isServed) in [(2, true), (3, false)] {
            var options = TunnelServingTests.opaque()
            options.hasServer = false
            let mesh = try TunnelMesh(options, TunnelServingTests.echo)
            defer { mesh.stop() }
            let peer = try PythonPeer(
                mesh, id: TunnelMesh.serverID, ["--lose", how, "--losses", "\(losses)"])
            defer { peer.stop() }
            let client = Loopback.connect(mesh.port)
            defer { close(client) }
            Loopback.send(client, "kept")
            let said = Loopback.receive(client)
            #expect(said == (isServed ? [UInt8]("kept".utf8) : []), "\(how), \(losses) times")
            #expect(TunnelMesh.counts(mesh.client, "malla_upstream_retries_total 2"))
        }
    }

    /// What a peer answers to CONNECT, and what the client is told: nothing of it was sent, so it
    /// is a failure of the upstream's, and not one of TLS.
    struct Answer: Sendable {
        var status: Int
        var told = 503
        var reason = "connect_failed"
    }
    static let answers = [
        Answer(status: 503), Answer(status: 401, told: 403, reason: "denied_by_policy"),
        Answer(status: 403), Answer(status: 404), Answer(status: 501),
    ]

    @Test(arguments: answers)
    func `a server that refuses a stream is a failed connection, with its reason and flag`(
        _ row: Answer
    ) throws {
        var options = TunnelMesh.Options()
        options.hasServer = false
        let mesh = try TunnelMesh(options, TunnelServingTests.answer)
        defer { mesh.stop() }
        let peer = try PythonPeer(mesh, id: TunnelMesh.serverID, ["--status", "\(row.status)"])
        defer { peer.stop() }
        let answer = mesh.get()
        #expect(answer.hasPrefix("HTTP/1.1 \(row.told) "), "\(answer)")
        #expect(answer.contains(row.reason), "\(answer)")
        let failed = "malla_requests_failed_total{reason=\"\(row.reason)\"} 1"
        #expect(TunnelMesh.counts(mesh.client, failed), "\(row)")
        // One other endpoint there is not: it is asked once.
        #expect(TunnelMesh.counts(mesh.client, "malla_upstream_retries_total 0"))
        var log: [String] = []
        let isLogged = Loopback.eventually {
            log += mesh.client.takeAccessLog()
            return log.contains {
                $0.contains("\"reason\":\"\(row.reason)\"") && $0.contains("\"flags\":\"UF\"")
            }
        }
        #expect(isLogged, "\(log)")
    }

    @Test(arguments: answers)
    func `what is not HTTP is reset where a server refuses its stream`(
        _ row: Answer
    ) throws {
        var options = TunnelServingTests.opaque()
        options.hasServer = false
        let mesh = try TunnelMesh(options, TunnelServingTests.echo)
        defer { mesh.stop() }
        let peer = try PythonPeer(mesh, id: TunnelMesh.serverID, ["--status", "\(row.status)"])
        defer { peer.stop() }
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        Loopback.send(client, "a")
        #expect(Loopback.ending(client) == ECONNRESET)
        let failed = "malla_requests_failed_total{reason=\"\(row.reason)\"} 1"
        #expect(TunnelMesh.counts(mesh.client, failed), "\(row)")
    }

    /// how many tunnels there may be, and how many there are in the end
    @Test(arguments: [2, 1])
    func `beside a tunnel whose window is full another one is opened, where there may be one`(
        _ most: Int
    ) throws {
        var options = TunnelServingTests.opaque { $0.limits.carriersMax = most }
        options.hasServer = false
        let mesh = try TunnelMesh(options, TunnelServingTests.echo)
        defer { mesh.stop() }
        let peer = try PythonPeer(mesh, id: TunnelMesh.serverID, ["--closed-window"])
        defer { peer.stop() }
        // As much as the peer ever takes of one tunnel, and it comes back.
        let first = Loopback.connect(mesh.port)
        defer { close(first) }
        Loopback.send(first, [UInt8](repeating: 7, count: 65_535))
        var count = 0
        while count < 65_535 {
            let bytes = Loopback.receive(first)
            try #require(!bytes.isEmpty)
            count += bytes.count
        }
        let second = Loopback.connect(mesh.port)
        defer { close(second) }
        Loopback.send(second, "b")
        let streams = "malla_tunnel_streams_total{side=\"upstream\"}"
        #expect(TunnelMesh.counts(mesh.client, "\(streams) 2"))
        #expect(
            TunnelMesh.counts(
                mesh.client, "malla_tunnels_opened_total{side=\"upstream\"} \(most)"))
        // On the only one it waits.
        if most > 1 { #expect(Loopback.receive(second).count == 1) }
    }

    @Test func `a server that chooses no protocol gets no request`() throws {
        var options = TunnelMesh.Options()
        options.hasServer = false
        let mesh = try TunnelMesh(options, TunnelServingTests.answer)
        defer { mesh.stop() }
        let peer = try PythonPeer(mesh, id: TunnelMesh.serverID, ["--alpn", ""])
        defer { peer.stop() }
        #expect(mesh.get().hasPrefix("HTTP/1.1 503 "))
        #expect(
            TunnelMesh.counts(
                mesh.client, "malla_tunnels_ended_total{side=\"upstream\",reason=\"no_h2\"} 3"))
    }

    @Test func `a server that is silent is given up`() throws {
        var options = TunnelServingTests.opaque { $0.limits.tunnelPingNanoseconds = 200_000_000 }
        options.hasServer = false
        let mesh = try TunnelMesh(options, TunnelServingTests.echo)
        defer { mesh.stop() }
        let peer = try PythonPeer(mesh, id: TunnelMesh.serverID, ["--mute"])
        defer { peer.stop() }
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        Loopback.send(client, "a")
        #expect(Loopback.ending(client) == ECONNRESET)
        #expect(
            TunnelMesh.counts(
                mesh.client, "malla_tunnels_ended_total{side=\"upstream\",reason=\"timeout\"} 1"))
    }
}
