import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("What streams hold is charged to somebody, and bounded (docs/operations.md)", .serialized)
struct StreamMemoryTests {
    private static let limit = 1 << 20
    private static let streams = 8
    /// More than sockets of the loopback take.
    private static let bytes = 7_000_000

    /// A pod whose first connections do not read before they may; all are told at the end how much
    /// has come.
    private static func mesh(
        _ mayRead: Results, _ readers: Results = Results(),
        _ change: @escaping (inout TunnelMesh.Options) -> Void = { _ in }
    ) throws -> TunnelMesh {
        let options = TunnelServingTests.opaque {
            $0.limits.accountBufferBytesMax = limit
            $0.limits.accountStreamBytesMax = 2 * limit
            change(&$0)
        }
        return try TunnelMesh(options) { connection, number in
            if number < streams {
                for _ in 0..<3 where mayRead.count == 0 {
                    _ = Loopback.eventually { mayRead.count > 0 }
                }
            }
            var count = 0
            while true {
                let bytes = Loopback.receive(connection, max: 1 << 20)
                if bytes.isEmpty { break }
                count += bytes.count
            }
            if number >= streams { readers.add(count == Self.bytes) }
            Loopback.send(connection, "\(count)")
        }
    }

    /// Opens streams and sends all that it may on each.
    private static func flood(
        _ mesh: TunnelMesh, _ account: String, from source: String, _ streams: Int = streams
    ) throws -> Results {
        let pair = try mesh.authority.issue("URI:spiffe://cluster.local/ns/shop/sa/\(account)")
        let done = Results()
        let authority = mesh.authorityName
        let run = try PythonPeer.prepared(
            mesh, pair,
            [
                "--authority", authority, "--source", source, "--streams", "\(streams)",
                "--bytes", "\(bytes)",
            ])
        try Thread.start {
            let said = run()
            done.add(said.contains("\"complete\": \(streams)"))
        }
        return done
    }

    private static func held(_ mesh: TunnelMesh, _ workload: String) -> Int {
        let text = mesh.server?.exposition() ?? ""
        let lines = text.split(separator: "\n").filter {
            $0.hasPrefix("malla_account_buffer_bytes{") && $0.contains("workload=\"\(workload)\"")
        }
        return lines.compactMap { $0.split(separator: " ").last.flatMap { Int($0) } }
            .reduce(0, +)
    }

    /// Whose memory it is, and where another host's request comes from meanwhile.
    private static let rows = [
        // A pod of the mesh: its own account.
        (account: "web", source: "127.0.0.1", charged: "web"),
        // A host that is no pod: the account of the pod that should read.
        (account: "edge", source: "127.0.0.3", charged: "stock"),
    ]

    @Test(arguments: rows)
    func `a peer that sends what nobody reads is slowed down at its limit, and loses nothing`(
        _ row: (account: String, source: String, charged: String)
    ) throws {
        let mayRead = Results()
        let mesh = try Self.mesh(mayRead) { $0.limits.tunnelWindowBytes = 512 << 10 }
        defer { mesh.stop() }
        let flood = try Self.flood(mesh, row.account, from: row.source)
        let isPaused = Loopback.eventually {
            mesh.server?.tallies.contains { $0.value(.paused(.downstream)) > 0 } ?? false
        }
        #expect(isPaused)
        // A block grows by doubling; one receive may come on top.
        let held = Self.held(mesh, row.charged)
        #expect(held >= Self.limit && held < 2 * Self.limit + (2 << 20), "\(held)")
        let shed = "malla_requests_shed_total{reason=\"account_buffers\"}"
        #expect(Loopback.eventually { TunnelMesh.value(mesh.server, shed) > 0 })

        // Another one is served as if nothing were.
        let pair = try mesh.authority.issue("URI:spiffe://cluster.local/ns/shop/sa/other")
        let said = try PythonPeer.client(
            mesh, pair,
            ["--authority", mesh.authorityName, "--source", "127.0.0.2", "--bytes", "500000"])
        #expect(said.contains("\"status\": 200"), "\(said)")
        #expect(said.contains("\"ended\": true"), "\(said)")

        mayRead.add(true)
        #expect(Loopback.eventually { flood.count == 1 })
        #expect(flood.all, "every byte arrives once the pod reads")
        #expect(Loopback.eventually { Self.held(mesh, row.charged) == 0 })
    }

    @Test func `streams that nobody reads do not hold up their neighbour in the same tunnel`()
        throws
    {
        let mayRead = Results()
        let readers = Results()
        // Half of what they may send ahead is all that the account may hold.
        let mesh = try Self.mesh(mayRead, readers) {
            $0.limits.accountBufferBytesMax = 512 << 10
            $0.limits.tunnelWindowBytes = 128 << 10
            $0.limits.tunnelWindowBytesMax = 128 << 10
        }
        defer { mesh.stop() }
        let flood = try Self.flood(mesh, "web", from: "127.0.0.1", Self.streams + 1)
        #expect(Loopback.eventually { readers.count == 1 })
        #expect(readers.all, "the last of them is read, and has got all its bytes")
        #expect(Loopback.eventually { Self.held(mesh, "web") > 512 << 10 }, "while others stand")
        #expect(Self.held(mesh, "web") <= Self.streams * 264 << 10)
        #expect(mesh.server?.tallies.allSatisfy { $0.value(.paused(.downstream)) == 0 } ?? false)

        mayRead.add(true)
        #expect(Loopback.eventually { flood.count == 1 })
        #expect(flood.all, "every byte arrives once the pod reads")
    }

    @Test
    func
        `where all stands still for long the streams that hold most are cut off, and others go on`()
        throws
    {
        let (mayRead, readers) = (Results(), Results())
        let mesh = try Self.mesh(mayRead, readers) {
            $0.limits.tunnelPingNanoseconds = 300_000_000
            $0.limits.tunnelWindowBytes = 512 << 10
        }
        defer {
            mayRead.add(true)
            mesh.stop()
        }
        // The last of them is read.
        let flood = try Self.flood(mesh, "web", from: "127.0.0.1", Self.streams + 1)
        #expect(Loopback.eventually { readers.count == 1 })
        #expect(readers.all, "it has got all its bytes")
        let cut = mesh.server?.tallies.reduce(0) { $0 + $1.value(.reset(.downstream, .overload)) }
        #expect((cut ?? 0) > 0 && (cut ?? 0) < Self.streams, "\(cut ?? 0)")
        #expect(Self.held(mesh, "web") <= 2 * Self.limit + Self.streams * 136 << 10)
        #expect(TunnelMesh.counts(mesh.server, "malla_tunnels{side=\"downstream\"} 1"))

        mayRead.add(true)
        #expect(Loopback.eventually { flood.count == 1 })
    }
}
