import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("What a server answers is its own doing (docs/operations.md)", .serialized)
struct BlameTests {
    private static let (bad, good) = (UInt32(0x7f00_0002), UInt32(0x7f00_0003))

    /// Two pods, and a service whose endpoints these are.
    private func mesh(
        _ stepped: SteppedWorker, _ endpoints: [(host: UInt32, port: UInt16)],
        affinitySeconds: UInt32? = nil
    ) -> Mesh {
        var mesh = SteppedWorker.mesh([], stepped.port, nil)
        mesh.workloads = [
            .client("shop", "bad", "127.0.0.2"), .client("shop", "good", "127.0.0.3"),
        ]
        mesh.services[0].traffic.affinitySeconds = affinitySeconds
        mesh.services[0].ports[0].endpoints = endpoints.map {
            Endpoint(address: SocketAddress(IPAddress(v4: $0.host), $0.port))
        }
        return mesh
    }

    /// A Gateway's worker that has adopted it; both pods have accounts.
    private func stepped(
        _ endpoints: [(host: UInt32, port: UInt16)], affinitySeconds: UInt32? = nil
    ) throws -> SteppedWorker {
        let stepped = try SteppedWorker([])
        stepped.hasAccounts = true
        stepped.adopt(mesh(stepped, endpoints, affinitySeconds: affinitySeconds), version: 2)
        return stepped
    }

    /// A pod that answers every request with its name.
    private func pod(_ host: UInt32, _ name: String) -> Origin {
        Origin(host: host) { connection, _ in
            while !Loopback.message(connection).isEmpty {
                let length = "Content-Length: \(name.utf8.count)"
                Loopback.send(connection, "HTTP/1.1 200 OK\r\n\(length)\r\n\r\n\(name)")
            }
        }
    }

    private func quarantine(_ host: UInt32, at worker: Worker) {
        worker.accounts[worker.account(of: IPAddress(v4: host))].isQuarantined = true
        worker.hasQuarantine = true
    }

    @Test func `while an answer is read the black box names its server, and not who asked`() throws
    {
        let (listener, port) = Loopback.listen(host: Self.bad)
        let stepped = try stepped([(Self.bad, port)])
        let worker = stepped.worker
        let (client, server, link) = try stepped.dialled(
            for: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", at: listener)
        defer { for end in [listener, client, server] { close(end) } }
        #expect(stepped.message(server).hasPrefix("GET / "))
        let upstream = link.it.partner
        let account = worker.account(of: IPAddress(v4: Self.bad))
        #expect(account >= AccountNumbers.outsideCount && link.it.account != account)
        let place = UnsafeMutablePointer<UInt64>.allocate(capacity: 2)
        // Safe: the worker's slot is another before this ends.
        unsafe place.initialize(repeating: 0, count: 2)
        unsafe worker.slot = BlackBoxSlot(place, server: place + 1)
        defer {
            worker.slot = .blank()
            unsafe place.deallocate()
        }

        // Its head, then the rest of its body.
        for piece in ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha", "lf"] {
            Loopback.send(server, piece)
            #expect(Loopback.isReadable(upstream.it.descriptor, milliseconds: 5000))
            worker.slot.serve(link.it.account)
            worker.dispatchStream(upstream, EPOLLIN.rawValue)
            let (asker, named) = unsafe (place[0], place[1])
            #expect(asker == UInt64(link.it.account) + 1)
            #expect(named == UInt64(account) + 1)
        }
        #expect(Loopback.message(client).hasSuffix("\r\n\r\nhalf"))
        // Time and memory are those of who asked.
        #expect(upstream.it.account == link.it.account)

        // What the client sends is its own doing, on a connection that the server has served: the
        // look at it, which a request that may not be sent again asks for, is over.
        Loopback.send(client, "POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        #expect(Loopback.isReadable(link.it.descriptor, milliseconds: 5000))
        worker.slot.serve(link.it.account)
        worker.dispatchStream(link, EPOLLIN.rawValue)
        #expect(link.it.partner == upstream)
        let (asker, named) = unsafe (place[0], place[1])
        #expect(asker == UInt64(link.it.account) + 1)
        #expect(named == 0)
    }

    @Test func `a configuration that gives a server another account is heard of while it answers`()
        throws
    {
        let (listener, port) = Loopback.listen(host: Self.bad)
        let stepped = try stepped([(Self.bad, port)])
        let worker = stepped.worker
        let (client, server, link) = try stepped.dialled(
            for: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", at: listener)
        defer { for end in [listener, client, server] { close(end) } }
        let upstream = link.it.partner
        let first = AccountNumbers.outsideCount
        #expect(upstream.it.server == first)

        var next = mesh(stepped, [(Self.bad, port)])
        next.workloads.reverse()
        stepped.adopt(next, version: 3)

        #expect(upstream.it.server == first + 1)
        #expect(worker.account(of: IPAddress(v4: Self.bad)) == first + 1)
    }

    @Test(arguments: [nil, 600] as [UInt32?])
    func `a quarantined server is not asked, and the service's other endpoint serves`(
        affinitySeconds: UInt32?
    ) throws {
        let (bad, good) = (pod(Self.bad, "bad"), pod(Self.good, "good"))
        let stepped = try stepped(
            [(Self.bad, bad.port), (Self.good, good.port)], affinitySeconds: affinitySeconds)
        quarantine(Self.bad, at: stepped.worker)
        defer { withExtendedLifetime((bad, good)) {} }

        // Each draws an endpoint of its own where there is affinity.
        for last in 11...40 as ClosedRange<UInt32> {
            let client = Loopback.connect(stepped.port, from: 0x7f00_0000 | last)
            defer { close(client) }
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(stepped.message(client).hasSuffix("\r\n\r\ngood"))
        }
        #expect(stepped.worker.tally.value(Failure.upstreamQuarantined) == 0)
        #expect(stepped.worker.tally.value(.retries) == 0)
    }

    @Test(arguments: [1, 2])
    func `where all of them are quarantined the caller is told, and nobody is dialled`(
        count: Int
    ) throws {
        let (bad, good) = (pod(Self.bad, "bad"), pod(Self.good, "good"))
        defer { withExtendedLifetime((bad, good)) {} }
        let endpoints: [(host: UInt32, port: UInt16)] = [
            (Self.bad, bad.port), (Self.good, good.port),
        ]
        let stepped = try stepped(Array(endpoints.prefix(count)))
        let worker = stepped.worker
        for host in [Self.bad, Self.good] { quarantine(host, at: worker) }
        let client = Loopback.connect(stepped.port)
        defer { close(client) }

        // Its connection goes on.
        for number in 1...2 as ClosedRange<UInt64> {
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = stepped.message(client)
            #expect(answer.hasPrefix("HTTP/1.1 503 "), "\(answer)")
            #expect(answer.contains("reason: upstream_quarantined\n"), "\(answer)")
            #expect(worker.tally.value(Failure.upstreamQuarantined) == number)
        }
        #expect(worker.tally.value(.dials) == 0)
        let line = worker.accessLog.taken()
        #expect(line.contains("\"reason\":\"upstream_quarantined\""), "\(line)")
        #expect(line.contains("\"flags\":\"OM\""), "\(line)")
    }
}
