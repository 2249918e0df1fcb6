import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("A policy change and what was dialled before it (docs/configuration.md)", .serialized)
struct PolicyChangeTests {
    private static let client = IPAddress(v4: 0x7f00_0002)
    private static let pod = IPAddress.loopbackV4
    private static let other = IPAddress(v4: 0x7f00_0004)

    /// Captured as in the engine's namespace: the engine dials from the client's own address.
    private static func mesh(_ port: UInt16, to origins: [SocketAddress], isWalled: Bool) -> Mesh {
        func workload(_ name: String, _ address: IPAddress) -> Workload {
            Workload(
                name: ObjectName("shop", name), serviceAccount: "", node: "n",
                labels: ["app": name], addresses: [address], interface: "lxc-\(name)",
                isMeshed: true, workloadName: name)
        }
        let service = Service(
            name: ObjectName("shop", "catalog"), addresses: [.loopbackV4],
            ports: [
                ServicePort(
                    name: "p", port: port, application: .http,
                    endpoints: origins.map { Endpoint(address: $0, node: "n") })
            ])
        let wall = NetworkPolicy(
            name: ObjectName("shop", "wall"),
            subject: PodSelection(.named("shop"), LabelSelector(["app": "web"])), ingress: [])
        return Mesh(
            workloads: [
                workload("client", client), workload("web", pod), workload("other", other),
            ], services: [service], policies: isWalled ? [wall] : [])
    }

    private func ask(_ stepped: SteppedWorker) -> Int32 {
        let client = Loopback.connect(stepped.port, from: 0x7f00_0002)
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return client
    }

    private func answer(_ stepped: SteppedWorker, _ upstream: Int32) {
        #expect(stepped.message(upstream).hasPrefix("GET / "))
        Loopback.send(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }

    @Test func `a kept upstream that policies deny now is not given to the next request`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker(captured: ())
        let to = [SocketAddress(Self.pod, port)]
        stepped.adopt(Self.mesh(stepped.port, to: to, isWalled: false), version: 2)
        let client = ask(stepped)
        let upstream = stepped.accepted(listener)
        defer { for one in [client, upstream] { close(one) } }
        answer(stepped, upstream)
        #expect(stepped.message(client).hasSuffix("ok"))
        #expect(stepped.pooled.count == 1)

        stepped.adopt(Self.mesh(stepped.port, to: to, isWalled: true), version: 3)

        #expect(stepped.pooled.isEmpty)
        #expect(Loopback.receive(upstream).isEmpty)
    }

    @Test func `a request in flight to a pod that policies deny now is 403 and does not hang`()
        throws
    {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker(captured: ())
        let to = [SocketAddress(Self.pod, port)]
        stepped.adopt(Self.mesh(stepped.port, to: to, isWalled: false), version: 2)
        let client = ask(stepped)
        let upstream = stepped.accepted(listener)
        defer { for one in [client, upstream] { close(one) } }
        #expect(stepped.message(upstream).hasPrefix("GET / "))

        stepped.adopt(Self.mesh(stepped.port, to: to, isWalled: true), version: 3)

        let text = stepped.message(client)
        #expect(text.hasPrefix("HTTP/1.1 403 ") && text.contains("reason: denied_by_policy\n"))
    }

    @Test func `what was dialled before the kernel had the policies is ended when it has them`()
        throws
    {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker(captured: ())
        let to = [SocketAddress(Self.pod, port)]
        stepped.adopt(Self.mesh(stepped.port, to: to, isWalled: true), version: 2)
        let client = ask(stepped)
        // Loopback has no programs: it connects, as it does before the rows are written.
        let upstream = stepped.accepted(listener)
        defer { for one in [client, upstream] { close(one) } }
        #expect(stepped.message(upstream).hasPrefix("GET / "))

        stepped.policiesAreApplied()

        #expect(stepped.message(client).hasPrefix("HTTP/1.1 403 "))
    }

    @Test func `a request on a kept connection that is denied now goes to the other endpoint`()
        throws
    {
        let (first, port) = Loopback.listen()
        let (second, otherPort) = Loopback.listen(host: 0x7f00_0004)
        defer { for one in [first, second] { close(one) } }
        let stepped = try SteppedWorker(captured: ())
        let (denied, allowed) = (
            SocketAddress(Self.pod, port), SocketAddress(Self.other, otherPort)
        )
        stepped.adopt(Self.mesh(stepped.port, to: [denied], isWalled: false), version: 2)
        let warm = ask(stepped)
        let upstream = stepped.accepted(first)
        answer(stepped, upstream)
        #expect(stepped.message(warm).hasSuffix("ok"))
        stepped.adopt(Self.mesh(stepped.port, to: [denied, allowed], isWalled: false), version: 3)
        // The less busy of two: as often as it takes, until the kept one is asked.
        var clients = [warm]
        var dialled: [Int32] = [upstream]
        defer { for one in clients + dialled { close(one) } }
        var waiting: Int32 = -1
        while waiting < 0, clients.count < 64 {
            let client = ask(stepped)
            clients.append(client)
            stepped.take {
                Loopback.isReadable(second, milliseconds: 0)
                    || Loopback.isReadable(upstream, milliseconds: 0)
            }
            if Loopback.isReadable(upstream, milliseconds: 0) {
                waiting = client
            } else {
                dialled.append(accept(second, nil, nil))
            }
        }
        try #require(waiting >= 0)

        stepped.adopt(Self.mesh(stepped.port, to: [denied, allowed], isWalled: true), version: 4)

        let next = stepped.accepted(second)
        dialled.append(next)
        answer(stepped, next)
        #expect(stepped.message(waiting).hasSuffix("ok"))
    }
}
