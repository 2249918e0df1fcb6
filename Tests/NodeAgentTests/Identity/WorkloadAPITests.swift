import Foundation
import L7Engine
import MeshModel
import TestSupport
import Testing

@testable import NodeAgent

@Suite("The Workload API gives certificates, and takes them away", .serialized)
struct WorkloadAPITests {
    @Test func `what the server pushes is in force, whatever changes`() throws {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.makeCertificates()
        try bed.say(svids: ["cart": "cart", "web": "web"])
        try bed.startServer()

        try bed.turn(until: "both have certificates") { $0.credentials.svids.count == 2 }
        let id = try AuthorityDirectory.id()
        let first = try #require(bed.identities.credentials.svids[id])
        #expect(Array(bed.identities.credentials.bundles.keys) == [.standard])
        #expect(bed.identities.title.contains(bed.path))

        // Renewed, revoked, federated: one message.
        try bed.say(
            svids: ["cart": "next", "web": "web"],
            more: #""crl": ["list.pem"], "federated": {"spiffe://example.org": "other.crt"}"#)
        try bed.turn(until: "the new one is in force") {
            let now = $0.credentials.svids[id]
            return now != nil && now?.chain != first.chain
        }
        let domain = try TrustDomain("example.org")
        #expect(Set(bed.identities.credentials.bundles.keys) == [.standard, domain])
        let web = try AuthorityDirectory.id("web")
        #expect(bed.identities.credentials.svids[web] == nil)
        #expect(bed.identities.entries[web]?.failure?.reason == .revoked)

        // Somebody else's key: the whole message is refused, the last good one stays.
        try bed.say(svids: ["cart": "next"], key: "cart")
        try bed.turn(until: "the message is refused") { $0.warnings.joined().contains("key for") }
        #expect(bed.identities.credentials.svids[id] != nil)
        _ = bed.identities.turn(.now)
        #expect(bed.identities.bundleFailure != nil, "`malla certs` and the metrics tell")

        // Without the server nothing changes; with it again, everything.
        bed.stopServer()
        try bed.turn(until: "the loss is told") { $0.warnings.joined().contains("closed") }
        #expect(bed.identities.credentials.svids[id] != nil)
        try bed.say(svids: ["cart": "cart"])
        try bed.startServer()
        try bed.turn(until: "it is connected again") {
            $0.credentials.svids[id]?.chain == first.chain
        }

        try bed.say(deny: true)
        bed.stopServer()
        try bed.startServer()
        try bed.turn(until: "the identities are taken away") { $0.credentials.svids.isEmpty }
        #expect(bed.identities.entries[id]?.failure?.message.contains("no identity issued") == true)
    }

    @Test func `a key that came over the socket stays nowhere in ordinary memory`() throws {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.makeCertificates()
        try bed.say(svids: ["cart": "cart"])
        let hidden = try bed.hiddenKey("cart")
        try bed.startServer()
        try bed.turn(until: "the certificate is there") { $0.credentials.svids.count == 1 }
        #expect(OwnMemory.count(of: hidden) == 0)
        // What is looked for is found where it is.
        var plain = hidden.map { ~$0 }
        #expect(OwnMemory.count(of: hidden) > 0)
        Secret.wipe(&plain)
    }

    @Test func `no server, and a server that is none, are told of`() throws {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.turn(until: "it is said") { $0.bundleFailure?.message.contains("reached") == true }
        #expect(bed.identities.bundleFailure?.reason == .unreadable)
    }

    @Test func `a server that takes the call and says nothing is called again`() throws {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.startSilence()
        try bed.turn(until: "it is told") {
            $0.bundleFailure?.message.contains("has said nothing for 10 s") == true
        }
    }

    @Test func `who hears that it has answered finds what it said`() throws {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.makeCertificates()
        // Reading as many takes its time.
        try bed.say(svids: ["cart": "cart"], times: 800)
        try bed.startServer()
        var source = WorkloadAPI(endpoint: bed.path + "/api.sock", trustDomain: .standard)
        let end = ContinuousClock.now + .seconds(40)
        while !source.hasAnswered(), .now < end {}
        #expect(try source.bundles(at: AuthorityDirectory.now).count == 1)
    }

    @Test func `a push in the midst of a turn is taken whole by the next one`() throws {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.makeCertificates()
        try bed.say(svids: ["cart": "cart"])
        try bed.startServer()
        var source = WorkloadAPI(endpoint: bed.path + "/api.sock", trustDomain: .standard)
        let id = try AuthorityDirectory.id()
        try eventually("it has answered", within: 40) { source.hasAnswered() }
        let bundles = try source.bundles(at: AuthorityDirectory.now)
        // Another root, and what it has signed.
        try bed.makeCertificates()
        try bed.say(svids: ["cart": "cart", "web": "web"])
        try eventually("it has come", within: 40) {
            source.connection.state.message?.svids.count == 2
        }
        let now = AuthorityDirectory.now
        let svid = try #require(try source.certificate(for: id, after: nil, at: now))
        #expect(bundles.first?.verify(svid.chain, at: now) == .good)
        let next = try source.bundles(at: now)
        let other = try #require(try source.certificate(for: id, after: svid, at: now))
        #expect(next.first?.verify(other.chain, at: now) == .good)
    }

    @Test func `a connection that breaks off in the midst of HTTP/2 is made again`() throws {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.startNonsense()
        try bed.turn(until: "it is called again") { _ in bed.said.contains("call 2") }
    }

    /// SPIFFE Workload Endpoint, appendix A.
    @Test(arguments: ["INVALID_ARGUMENT", "UNIMPLEMENTED"])
    func `a server that refuses the call is told of, and called again when it is another`(
        _ status: String
    ) throws {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.makeCertificates()
        try bed.say(svids: ["cart": "cart"])
        try bed.startServer()
        try bed.turn(until: "it has answered") { $0.credentials.svids.count == 1 }
        try bed.say(more: "\"abort\": \"\(status)\"")
        try bed.turn(until: "it is told") { $0.bundleFailure?.reason == .refused }
        #expect(bed.identities.bundleFailure?.message.contains("not this call") == true)
        #expect(bed.identities.credentials.svids.count == 1, "what came before stays")
        #expect(bed.identities.counts.failures[.refused] == 1)
        let wait = bed.connection.state.retryAt - .now
        #expect(wait > .seconds(WorkloadAPIConnection.refusedSeconds - 60))
        #expect(!bed.connection.state.isOpen)
        let calls = bed.said.split(separator: "\n").count { $0 == "call" }
        #expect(calls == 1)

        bed.stopServer()
        try bed.turn(until: "it is found gone") { _ in
            bed.connection.state.failure?.reason == .unreadable
        }
        _ = bed.identities.turn(.now)
        #expect(bed.identities.bundleFailure?.reason == .refused, "nothing is well again")
        try bed.say(svids: ["web": "web"])
        try bed.startServer()
        let web = try AuthorityDirectory.id("web")
        try bed.turn(until: "the one in its place is called") {
            $0.credentials.svids[web] != nil && $0.bundleFailure == nil
        }
    }

    @Test func `what was withdrawn before the stream broke, or the agent looked, is not kept`()
        throws
    {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.makeCertificates()
        let (cart, web) = (try AuthorityDirectory.id(), try AuthorityDirectory.id("web"))
        try bed.say(svids: ["cart": "cart", "web": "web"])
        try bed.startServer()
        try bed.turn(until: "both are there") { $0.credentials.svids.count == 2 }
        try bed.say(svids: ["cart": "cart"])
        try eventually("it has come", within: 40) {
            bed.connection.state.message?.svids.count == 1
        }
        bed.stopServer()
        try eventually("the stream is broken", within: 40) { bed.connection.state.failure != nil }
        try bed.turn(until: "one is taken away") { $0.credentials.svids[web] == nil }
        #expect(bed.identities.credentials.svids[cart] != nil)
    }

    /// A key that is another's spoils the message; that it names `web` no more is plain.
    @Test func `what a message that is refused does not name is not kept either`() throws {
        let bed = try WorkloadAPIBed()
        defer { bed.close() }
        try bed.makeCertificates()
        let (cart, web) = (try AuthorityDirectory.id(), try AuthorityDirectory.id("web"))
        try bed.say(svids: ["cart": "cart", "web": "web"])
        try bed.startServer()
        try bed.turn(until: "both are there") { $0.credentials.svids.count == 2 }
        try bed.say(svids: ["cart": "next"], key: "cart")
        try bed.turn(until: "one is taken away") { $0.credentials.svids[web] == nil }
        #expect(bed.identities.credentials.svids[cart] != nil)
        // None at all is an answer, too.
        try bed.say()
        try bed.turn(until: "nothing is left") { $0.credentials.svids.isEmpty }
        bed.stopServer()
        #expect(bed.identities.entries[cart]?.failure?.reason == .missing)
    }

    @Test(arguments: [
        ("/run/spire/api.sock", "/run/spire/api.sock"), ("unix:/a/b", "/a/b"),
        ("unix:///a/b", "/a/b"),
    ])
    func `the endpoint is a path, or as SPIFFE_ENDPOINT_SOCKET has it`(
        _ endpoint: String, _ path: String
    ) {
        #expect(WorkloadAPI.path(endpoint) == path)
    }

    static let malformed: [(String, [UInt8])] = [
        ("nothing at all", []), ("a tag without an end", [0x80]), ("field 0", [0x02, 0]),
        ("a length beyond the end", [0x0a, 5, 1]), ("a group", [0x0b]),
        ("an endless number", [UInt8](repeating: 0xff, count: 12)),
        ("an SVID without anything", [0x0a, 0]), ("an SVID of nonsense", [0x0a, 2, 0x12, 0]),
        ("a federated bundle without a name", [0x1a, 0]),
    ]

    @Test(arguments: malformed) func `a message that is none is refused`(
        _ rule: String, _ bytes: [UInt8]
    ) {
        #expect(throws: SVIDFailure.self) { try WorkloadAPIMessage(bytes) }
    }

    @Test func `messages are taken out of frames however they are cut`() throws {
        let wire: [UInt8] = [0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9]
        for size in 1...wire.count {
            var frames = GRPCFrames()
            var messages: [[UInt8]] = []
            for start in stride(from: 0, to: wire.count, by: size) {
                frames.add(wire[start..<min(start + size, wire.count)])
                while let message = try frames.next() { messages.append(message) }
            }
            #expect(messages == [[7, 8], [], [9]])
        }
        var compressed = GRPCFrames()
        compressed.add([1, 0, 0, 0, 0])
        #expect(throws: SVIDFailure.self) { try compressed.next() }
        var large = GRPCFrames()
        large.add([0, 0xff, 0, 0, 0])
        #expect(throws: SVIDFailure.self) { try large.next() }
    }

    @Test func `certificates that stand one behind another are told apart`() throws {
        let long = [0x30, 0x82, 0x01, 0x00] + [UInt8](repeating: 1, count: 256)
        #expect(try WorkloadAPIMessage.split([0x30, 1, 5] + long, "x") == [[0x30, 1, 5], long])
        for wrong in [[], [0x31, 0], [0x30, 2, 1], [0x30, 0x85, 0, 0, 0, 0, 1], [0x30]] as [[UInt8]]
        {
            #expect(throws: SVIDFailure.self) { try WorkloadAPIMessage.split(wrong, "x") }
        }
    }
}

/// A server of gRPC's own in Python, and identities that ask it.
private final class WorkloadAPIBed {
    let directory: AuthorityDirectory
    /// Of the source that `identities` have.
    let connection: WorkloadAPIConnection
    var identities: Identities
    private var server: TestProcess?

    var path: String { directory.path }

    init() throws {
        directory = try AuthorityDirectory()
        let source = WorkloadAPI(
            endpoint: "unix://\(directory.path)/api.sock", trustDomain: .standard)
        connection = source.connection
        identities = Identities(source)
        identities.follow([ObjectName("shop", "cart"), ObjectName("shop", "web")])
    }

    func close() { stopServer() }

    /// `cart`, `next` (for cart too) and `web`, which `list.pem` revokes; `other` is a root.
    func makeCertificates() throws {
        try directory.shell(
            """
            pair() {
              openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key \
                -out r -subj /CN=x
              printf 'subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/%s\\n%s\\n' $2 \
                'keyUsage=digitalSignature' > e
              openssl x509 -req -in r -CA ca.crt -CAkey ca.key -days 1 -extfile e -out $1.crt
            }
            for n in ca other; do
              openssl req -x509 -newkey ed25519 -nodes -keyout $n.key -out $n.crt -subj /CN=$n \
                -days 3 -addext keyUsage=critical,keyCertSign,cRLSign
            done
            pair cart cart; pair web web; pair next cart
            : > db; echo 01 > number
            printf '[ca]\\ndefault_ca=o\\n[o]\\ndatabase=db\\ncrlnumber=number\\n%s\\n' \
              'default_md=default' > conf
            openssl ca -config conf -cert ca.crt -keyfile ca.key -revoke web.crt
            openssl ca -config conf -cert ca.crt -keyfile ca.key -gencrl -crldays 1 -out list.pem
            """)
    }

    /// The secret number of a key of P-256, each bit the other way round: it must not lie here.
    func hiddenKey(_ name: String) throws -> [UInt8] {
        let text = try directory.shell(
            """
            openssl pkey -in \(name).key -outform DER | /usr/bin/python3 -c 'import sys
            key = sys.stdin.buffer.read()
            at = key.index(bytes([0x02, 0x01, 0x01, 0x04, 0x20])) + 5
            print(*[255 - byte for byte in key[at:at + 32]])'
            """)
        let bytes = text.split(whereSeparator: \.isWhitespace).compactMap { UInt8($0) }
        guard bytes.count == 32 else { throw CommandFailure(description: text) }
        return bytes
    }

    func startServer() throws {
        let script = Binaries.repository + "/Tests/NodeAgentTests/Fixtures/workload_api.py"
        server = try Command.background(
            ["sh", "-c", "cd \(path) && exec /usr/bin/python3 \(script) api.sock said.json"],
            log: path + "/server.log")
        // A client that comes too early waits longer each time.
        let path = self.path
        try eventually("the server listens", within: 30) {
            FileManager.default.fileExists(atPath: path + "/api.sock")
        }
    }

    /// What the server has printed.
    var said: String { server?.text ?? "" }

    /// Takes connections, and reads and says nothing.
    func startSilence() throws {
        try start(
            """
            import socket, time
            listener = socket.socket(socket.AF_UNIX)
            listener.bind("api.sock")
            listener.listen()
            time.sleep(100)
            """)
    }

    /// Answers each call with a message that is none, then with a frame that is none (DATA on
    /// stream 0), and holds the connection.
    func startNonsense() throws {
        try start(
            """
            import socket
            def frame(kind, flags, stream, body):
                head = len(body).to_bytes(3, "big") + bytes([kind, flags])
                return head + stream.to_bytes(4, "big") + body
            listener = socket.socket(socket.AF_UNIX)
            listener.bind("api.sock")
            listener.listen()
            listener.settimeout(100)
            held = []
            for number in range(1, 9):
                link = listener.accept()[0]
                held.append(link)
                link.sendall(frame(4, 0, 0, b""))
                file = link.makefile("rb")
                file.read(24)
                kind = None
                while kind != 0:
                    head = file.read(9)
                    kind = head[3]
                    file.read(int.from_bytes(head[:3], "big"))
                message = bytes([0, 0, 0, 0, 1, 255])
                link.sendall(
                    frame(1, 4, 1, bytes([0x88])) + frame(0, 0, 1, message) + frame(0, 0, 0, b"x"))
                print("call", number, flush=True)
            """)
    }

    private func start(_ script: String) throws {
        try script.write(toFile: path + "/server.py", atomically: true, encoding: .utf8)
        server = try Command.background(
            ["sh", "-c", "cd \(path) && exec /usr/bin/python3 server.py"],
            log: path + "/server.log")
        let path = self.path
        try eventually("the server listens", within: 30) {
            FileManager.default.fileExists(atPath: path + "/api.sock")
        }
    }

    func stopServer() {
        server?.stop()
        server = nil
        Command.remove(path + "/api.sock")
    }

    /// - Parameters:
    ///   - svids: files by account.
    ///   - key: file of the key, if not the certificate's.
    ///   - times: how often each is said.
    func say(
        svids: [String: String] = [:], key: String? = nil, times: Int = 1, more: String = "",
        deny: Bool = false
    ) throws {
        let list = svids.sorted { $0.key < $1.key }.map { account, file in
            """
            {"id": "spiffe://cluster.local/ns/shop/sa/\(account)", "chain": "\(file).crt",
             "key": "\(key ?? file).key", "bundle": "ca.crt"}
            """
        }
        let extra = more.isEmpty ? "" : more + ", "
        let all = [[String]](repeating: list, count: times).flatMap(\.self)
        try "{\(extra)\"deny\": \(deny), \"svids\": [\(all.joined(separator: ","))]}"
            .write(toFile: path + "/said.json", atomically: true, encoding: .utf8)
    }

    func turn(until what: String, _ condition: (Identities) -> Bool) throws {
        do {
            try eventually(what, within: 40) {
                _ = identities.turn(.now)
                return condition(identities)
            }
        } catch {
            let failures = identities.entries.values.compactMap(\.failure)
            throw CommandFailure(
                description: "\(error)\n\(server?.text ?? "") \(failures) \(identities.warnings) "
                    + "\(identities.bundleFailure?.message ?? "")")
        }
    }
}
