import COpenSSL
import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("A peer's certificate names one workload, in SPIFFE's grammar, of a domain that signed it")
struct TunnelPeerTests {
    /// A subjectAltName with these URIs, whatever bytes they hold: as openssl's files write it.
    private static func names(_ uris: [UInt8]...) -> String {
        func der(_ tag: UInt8, _ bytes: [UInt8]) -> [UInt8] {
            let count = bytes.count
            let length =
                count < 128 ? [UInt8(count)] : [0x82, UInt8(count >> 8), UInt8(count & 255)]
            return [tag] + length + bytes
        }
        let value = der(0x30, uris.flatMap { der(0x86, $0) })
        return "DER:" + value.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private static let good = "spiffe://cluster.local/ns/shop/sa/web"

    /// Each is signed by the root of the domain that it begins with.
    static let bad: [(String, [UInt8])] = [
        ("no scheme", "cluster.local/ns/shop/sa/web"),
        ("another scheme", "https://cluster.local/a"),
        ("a scheme in capitals", "SPIFFE://cluster.local/a"), ("no path", "spiffe://cluster.local"),
        ("an empty path", "spiffe://cluster.local/"),
        ("no trust domain", "spiffe:///ns/shop/sa/web"),
        ("a trailing slash", "\(good)/"), ("an empty segment", "spiffe://cluster.local//web"),
        ("a dot segment", "spiffe://cluster.local/./web"),
        ("the segment above", "spiffe://cluster.local/ns/../web"),
        ("ends above", "spiffe://cluster.local/ns/.."), ("a query", "\(good)?a=b"),
        ("a fragment", "\(good)#a"), ("a port", "spiffe://cluster.local:80/web"),
        ("user information", "spiffe://me@cluster.local/web"),
        ("a trust domain in capitals", "spiffe://Cluster.local/web"),
        ("an escape", "spiffe://cluster.local/%77eb"),
        ("another element", "spiffe://cluster.local/a;URI=\(good)"),
        ("another value", "spiffe://cluster.local/a,By=x"),
        ("a quote", "spiffe://cluster.local/a\""),
        ("a space", "spiffe://cluster.local/a b"), ("another letter", "spiffe://cluster.local/ä"),
        ("another request", "spiffe://cluster.local/a\r\nX-Forwarded-For: 1\r\n\r\nGET /b"),
        ("NUL", "\(good)\0"), ("too long", "\(good)" + String(repeating: "a", count: 2_012)),
        ("a long domain", "spiffe://" + String(repeating: "a", count: 256) + "/web"),
    ].map { ($0.0, Array($0.1.utf8)) }

    /// Shows a certificate and goes away.
    private static func call(_ mesh: TunnelMesh, _ issuer: TestAuthority, _ names: String) throws {
        try call(mesh, try issuer.issue(names))
    }

    private static func call(_ mesh: TunnelMesh, _ shown: TestAuthority.Pair) throws {
        let pair = try mesh.authority.write(shown, "shown")
        try Command.shell(
            """
            timeout 10 openssl s_client -connect \(mesh.tunnelAddress) -tls1_3 -alpn h2 \
              -cert \(pair.chain) -key \(pair.key) </dev/null >/dev/null 2>&1 || true
            """)
    }

    /// How many handshakes with clients have ended so.
    private static func counts(_ mesh: TunnelMesh, _ result: TLSFailure, _ count: Int) -> Bool {
        TunnelMesh.counts(
            mesh.server,
            "malla_tls_handshakes_total{side=\"downstream\",result=\"\(result.label)\"} \(count)")
    }

    /// Where nothing is known of the caller's address, so that any name may come.
    private static func open() throws -> TunnelMesh {
        let mesh = try TunnelMesh(TunnelServingTests.opaque(), TunnelServingTests.echo)
        mesh.adoptMesh { $0.workloads.removeAll { $0.name.name == "web" } }
        return mesh
    }

    @Test func `what is no SPIFFE ID of a workload is refused before anything believes it`() throws
    {
        let mesh = try Self.open()
        defer { mesh.stop() }
        for (index, row) in Self.bad.enumerated() {
            try Self.call(mesh, mesh.authority, Self.names(row.1))
            #expect(Self.counts(mesh, .noSPIFFEID, index + 1), "\(row.0)")
        }
        let others = [
            "DNS:web", Self.names(Array(Self.good.utf8), Array(Self.good.utf8)),
            "URI:\(Self.good)\nkeyUsage = critical,digitalSignature,keyCertSign",
            "URI:\(Self.good)\nkeyUsage = critical,digitalSignature,cRLSign",
        ]
        for (index, names) in others.enumerated() {
            try Self.call(mesh, mesh.authority, names)
            #expect(Self.counts(mesh, .noSPIFFEID, Self.bad.count + index + 1), "\(names)")
        }
        #expect(Self.counts(mesh, .none, 0))
        // What the grammar allows passes, however odd: 2 048 bytes are the most.
        let odd = [
            "spiffe://cluster.local/A-b_c.d/...", "spiffe://cluster.local/..a/0",
            Self.good + String(repeating: "a", count: 2_048 - Self.good.utf8.count),
        ]
        for (index, id) in odd.enumerated() {
            try Self.call(mesh, mesh.authority, Self.names(Array(id.utf8)))
            #expect(Self.counts(mesh, .none, index + 1), "\(id)")
        }
    }

    @Test func `a federated root speaks for its own trust domain, and for no other`() throws {
        let mesh = try Self.open()
        defer { mesh.stop() }
        let other = try TestAuthority("other")
        defer { other.remove() }
        let mine = try mesh.credentials([TunnelMesh.serverID])
        let domain = try TrustDomain("example.org")
        var bundles = mine.bundles
        bundles[domain] = TrustBundle(trustDomain: domain, roots: PEM.blocks(other.bundle))
        // However many there are besides.
        for number in 0..<70 {
            let name = try TrustDomain("d\(number).example.org")
            bundles[name] = TrustBundle(trustDomain: name, roots: PEM.blocks(other.bundle))
        }
        mesh.server?.adopt(Credentials(version: 2, svids: mine.svids, bundles: bundles))
        let rows: [(TestAuthority, String)] = [
            (other, Self.good), (mesh.authority, "spiffe://example.org/gateway"),
            (other, "spiffe://example.com/gateway"), (other, "spiffe://cluster.local.x/gateway"),
        ]
        for (index, row) in rows.enumerated() {
            try Self.call(mesh, row.0, "URI:\(row.1)")
            #expect(Self.counts(mesh, .untrusted, index + 1), "\(row.1)")
        }
        try Self.call(mesh, other, "URI:spiffe://example.org/gateway")
        try Self.call(mesh, other, "URI:spiffe://d69.example.org/gateway")
        try Self.call(mesh, mesh.authority, "URI:\(Self.good)")
        #expect(Self.counts(mesh, .none, 3))
    }

    @Test
    func `a list counts for whoever has signed it, whatever its dates, and a root by its key`()
        throws
    {
        let mesh = try Self.open()
        defer { mesh.stop() }
        // Another root of the same name; certificates and lists hold no key identifiers.
        let twin = try TestAuthority()
        defer { twin.remove() }
        let pair = try mesh.authority.issue("URI:\(Self.good)")
        let far = ("20690101000000Z", "20700101000000Z"),
            old = ("20200101000000Z", "20200102000000Z")
        let (own, theirs) = (mesh.authority, twin)
        let rows: [(String, [[UInt8]], Bool)] = [
            ("none", [], false), ("its authority's", [try own.list(naming: pair)], true),
            ("not valid yet", [try own.list(naming: pair, from: far.0, to: far.1)], true),
            ("run out", [try own.list(naming: pair, from: old.0, to: old.1)], true),
            ("the twin's, which names its serial", [try theirs.list(naming: pair)], false),
            ("both", [try theirs.list(naming: pair), try own.list(naming: pair)], true),
        ]
        let mine = try mesh.credentials([TunnelMesh.serverID])
        var counts = [false: 0, true: 0]
        for (index, row) in rows.enumerated() {
            let roots = [own, theirs].flatMap { PEM.blocks($0.bundle) }
            let bundle = TrustBundle(
                trustDomain: .standard, roots: index % 2 == 0 ? roots : roots.reversed(),
                revocations: row.1.flatMap { PEM.blocks($0) })
            // The agent's own judgement is the handshake's.
            let verdict = bundle.verify(PEM.blocks(pair.chain), at: Int64(time(nil)))
            #expect(verdict == (row.2 ? .revoked : .good), "\(row.0)")
            mesh.server?.adopt(
                Credentials(
                    version: UInt64(index) + 2, svids: mine.svids, bundles: [.standard: bundle]))
            #expect(Loopback.eventually { mesh.server?.hasAdopted ?? false })
            try Self.call(mesh, pair)
            counts[row.2, default: 0] += 1
            #expect(Self.counts(mesh, .none, counts[false] ?? 0), "\(row.0)")
            #expect(Self.counts(mesh, .revoked, counts[true] ?? 0), "\(row.0)")
        }
    }

    @Test func `handshakes look their methods up in a short list`() {
        #expect(tls_has_library() == 1, "OpenSSL has other methods or providers than expected")
    }

    @Test func `peers are let in with keys of every kind`() throws {
        let mesh = try Self.open()
        defer { mesh.stop() }
        for (index, key) in TestAuthority.Key.allCases.enumerated() {
            let pair = try mesh.authority.issue("URI:\(Self.good)", key: key)
            // The second time it is known.
            for call in 1...2 {
                try Self.call(mesh, pair)
                #expect(Self.counts(mesh, .none, 2 * index + call), "\(key), call \(call)")
            }
        }
    }

    @Test func `a certificate that was verified before is refused once it has run out`() throws {
        let mesh = try Self.open()
        defer { mesh.stop() }
        let pair = try mesh.authority.issue("URI:\(Self.good)", life: 8)
        for call in 1...2 {
            try Self.call(mesh, pair)
            try #require(Self.counts(mesh, .none, call))
        }
        let label = "side=\"downstream\",result=\"\(TLSFailure.expired.label)\""
        let none = "malla_tls_handshakes_total{\(label)} 0\n"
        let end = ContinuousClock.now + .seconds(60)
        while mesh.server?.exposition().contains(none) ?? false, ContinuousClock.now < end {
            try Self.call(mesh, pair)
        }
        #expect(mesh.server?.exposition().contains(none) == false)
    }

    static let elements: [(String, String)] = [
        (good, good), ("spiffe://a/b;URI=x", "\"spiffe://a/b;URI=x\""), ("a,b", "\"a,b\""),
        ("a\"b\\", "\"a\\\"b\\\\\""), ("a\r\nHost: b", "\"aHost: b\""), ("a=b", "\"a=b\""),
    ]

    @Test(arguments: elements) func `a value of x-forwarded-client-cert cannot begin another`(
        _ value: String, _ written: String
    ) {
        let bytes = Array(value.utf8)
        let room = UnsafeMutablePointer<UInt8>.allocate(capacity: 128)
        defer { unsafe room.deallocate() }
        // Safe: both live until the end of the test.
        let text = unsafe bytes.withUnsafeBufferPointer { buffer in
            var writer = unsafe ByteWriter(room, capacity: 128)
            unsafe writer.append(element: Bytes(buffer.baseAddress!, count: buffer.count))
            return unsafe String(
                decoding: UnsafeBufferPointer(start: room, count: writer.count), as: UTF8.self)
        }
        #expect(text == written)
    }
}
