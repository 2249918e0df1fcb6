import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("Where the path of one family is broken (RFC 8305)", .serialized)
struct BrokenFamilyTests {
    private static let v6 = IPAddress(high: 0, low: 1)

    /// Serves one service with the endpoints as a Gateway does.
    private func gateway(
        _ endpoints: [SocketAddress], backend: BackendTLS? = nil,
        _ change: (inout Limits) -> Void = { _ in }
    ) throws -> SteppedWorker {
        let stepped = try SteppedWorker([], backend: backend) {
            $0.raceNanoseconds = 20_000_000
            $0.connectNanosecondsMax = 400_000_000
            change(&$0)
        }
        var mesh = SteppedWorker.mesh([], stepped.port, backend)
        mesh.services[0].ports[0].endpoints = endpoints.map { Endpoint(address: $0) }
        stepped.adopt(mesh, version: 2)
        return stepped
    }

    /// Asks until there were races, and nobody may have waited for a third dial.
    private func expectServed(_ stepped: SteppedWorker) {
        let tally = stepped.worker.tally
        for _ in 0..<30 {
            let client = Loopback.connect(stepped.port)
            defer { close(client) }
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = stepped.message(client)
            #expect(answer.hasPrefix("HTTP/1.1 200 "), "\(answer)")
            guard answer.hasPrefix("HTTP/1.1 200 ") else { break }
        }
        #expect(tally.value(.races) > 0)
        #expect(tally.value(.retries) == 0)
    }

    @Test(arguments: [true, false])
    func `three pods that hang in one family are served by the other, not answered 503`(
        isIPv6: Bool
    ) throws {
        let holes = (0..<3).map { _ in BlackHole(isOnAll: true) }
        defer { withExtendedLifetime(holes) {} }
        let origin = Origin.echo(isOnAll: true)
        let (broken, good) =
            isIPv6 ? (Self.v6, IPAddress.loopbackV4) : (IPAddress.loopbackV4, Self.v6)
        let stepped = try gateway(
            holes.map { SocketAddress(broken, $0.port) } + [SocketAddress(good, origin.port)])

        expectServed(stepped)
    }

    @Test func `three pods with TLS that hang in IPv6 are served by IPv4`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let holes = (0..<3).map { _ in BlackHole(isOnAll: true) }
        defer { withExtendedLifetime(holes) {} }
        let origin = try SecureOrigin(authority, try authority.issue("DNS:back.example"))
        defer { origin.stop() }
        let stepped = try gateway(
            holes.map { SocketAddress(Self.v6, $0.port) }
                + [SocketAddress(.loopbackV4, origin.port)],
            backend: OriginationTests.policy([.host("back.example")], .bundle(authority.bundle)))

        expectServed(stepped)
    }

    @Test func `a service with affinity leaves the family that hangs, too`() throws {
        let holes = (0..<3).map { _ in BlackHole(isOnAll: true) }
        defer { withExtendedLifetime(holes) {} }
        let origin = Origin.echo()
        let stepped = try gateway([])
        var mesh = SteppedWorker.mesh([], stepped.port, nil)
        mesh.services[0].traffic.affinitySeconds = 60
        mesh.services[0].ports[0].endpoints =
            holes.map { Endpoint(address: SocketAddress(Self.v6, $0.port)) }
            + [Endpoint(address: SocketAddress(.loopbackV4, origin.port))]
        stepped.adopt(mesh, version: 3)
        // Each draws an endpoint of its own.
        for last in 1...20 as ClosedRange<UInt32> {
            let client = Loopback.connect(stepped.port, from: 0x7f00_0000 | last)
            defer { close(client) }
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(stepped.message(client).hasPrefix("HTTP/1.1 200 "))
        }
        #expect(stepped.worker.tally.value(.races) > 0)
        #expect(stepped.worker.tally.value(.retries) == 0)
    }

    /// A captured pod of 127.0.0.2 and `others`, whose service has endpoints of both families; the
    /// client's record while its first dial hangs.
    private func captured(
        _ others: [String], _ endpoints: [SocketAddress]
    ) throws -> (SteppedWorker, Int32, Link) {
        let stepped = try SteppedWorker(captured: ())
        var client = Workload.client("shop", "client", "127.0.0.2")
        client.addresses += others.compactMap { IPAddress($0) }
        let service = Service(
            name: ObjectName("shop", "catalog"), addresses: [.loopbackV4],
            ports: [
                ServicePort(
                    name: "p", port: stepped.port, application: .http,
                    endpoints: endpoints.map { Endpoint(address: $0) })
            ])
        stepped.adopt(Mesh(workloads: [client], services: [service]), version: 2)
        let descriptor = Loopback.connect(stepped.port, from: 0x7f00_0002)
        Loopback.send(descriptor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        var dial = Link.none
        stepped.take {
            dial =
                stepped.worker.timers.all().first {
                    $0.it.role == .upstream && $0.it.phase == .connecting
                } ?? .none
            return !dial.isNone
        }
        try #require(!dial.isNone)
        return (stepped, descriptor, dial.it.partner)
    }

    @Test(arguments: [["fd00::2"], []])
    func `a captured pod is dialled for from its own address of the other family, or in its own`(
        others: [String]
    ) throws {
        let holes = (0..<3).map { _ in BlackHole(isOnAll: true) }
        defer { withExtendedLifetime(holes) {} }
        let (stepped, client, link) = try captured(
            others,
            holes.map { SocketAddress(.loopbackV4, $0.port) }
                + holes.map { SocketAddress(Self.v6, $0.port) })
        defer { close(client) }
        let worker = stepped.worker
        #expect(link.it.upstreamPeer.address.isIPv4)

        worker.noteBroken(link, link.it.upstreamPeer.address)
        let second = try #require(worker.pickEndpoint(link)).address

        #expect(second.isIPv4 == others.isEmpty)
        #expect(
            worker.sourceAddress(link, isIPv4: second.isIPv4)
                == IPAddress(others.first ?? "127.0.0.2"))
    }

    @Test func `a pod that refuses was reached: the next one is of the client's family`() throws {
        let closed = (0..<2).map { _ in Loopback.listen() }
        for one in closed { close(one.descriptor) }
        let hole = BlackHole(isOnAll: true)
        let v4 = (closed.map(\.port) + [hole.port]).map { SocketAddress(.loopbackV4, $0) }
        for _ in 0..<6 {
            let (stepped, client, link) = try captured(
                ["fd00::2"], v4 + (0..<3).map { SocketAddress(Self.v6, hole.port + $0) })
            defer { close(client) }
            stepped.take { !v4[..<2].contains(link.it.upstreamPeer) }
            #expect(link.it.upstreamPeer == v4[2])
        }
    }
}
