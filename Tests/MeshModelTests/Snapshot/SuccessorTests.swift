import MeshModel
import Testing

@Suite("A change costs what changed, and comes to the same as everything made anew (DESIGN 3)")
struct SuccessorTests {
    /// Numbers that look random and are the same in every run.
    struct Dice: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state ^ state >> 29) &* 0x9e37_79b9_7f4a_7c15
        }
    }

    static func mesh(services: Int) -> Mesh {
        let list = (0..<services).map { index in
            // Of three, one is the engine's, one a route leads to, one is the kernel's alone.
            let ports = [(80, index % 3 == 0), (81, false)].map { number, isHTTP in
                ServicePort(
                    name: "p\(number)", port: UInt16(number),
                    application: isHTTP ? .http : .tcp)
            }
            return Service(
                name: ObjectName("t", "s\(index)"),
                addresses: [IPAddress(v4: 0x0a60_0000 + UInt32(index))], ports: ports)
        }
        let backends = (0..<services).filter { $0 % 3 == 1 }.map {
            RouteBackend(target: .service($0, port: 0))
        }
        let route = HTTPRoute(
            name: ObjectName("t", "r"), attachments: [.service(0, port: 0)],
            rules: [HTTPRouteRule(backends: backends)])
        return Mesh(
            nodes: [Node(name: "n1", addresses: [IPAddress(v4: 0x0a00_0001)])], services: list,
            routes: [route])
    }

    /// Some endpoint comes, goes, or is ready no more.
    static func change(_ mesh: inout Mesh, _ dice: inout Dice) {
        let service = Int.random(in: mesh.services.indices, using: &dice)
        let port = Int.random(in: mesh.services[service].ports.indices, using: &dice)
        var ends = mesh.services[service].ports[port].endpoints
        switch Int.random(in: 0..<4, using: &dice) {
        case 0 where !ends.isEmpty: ends.remove(at: Int.random(in: ends.indices, using: &dice))
        case 1 where !ends.isEmpty:
            ends[Int.random(in: ends.indices, using: &dice)].isReady.toggle()
        default:
            let address = IPAddress(v4: 0x0a80_0000 + UInt32.random(in: 0..<0xffff, using: &dice))
            ends.append(
                Endpoint(
                    address: SocketAddress(address, 8080),
                    node: Bool.random(using: &dice) ? "n1" : "n2"))
        }
        mesh.services[service].ports[port].endpoints = ends
    }

    private static func same(_ chain: Snapshot, _ fresh: Snapshot) -> Bool {
        chain.mesh == fresh.mesh && chain.captures == fresh.captures
            && chain.ports.count == fresh.ports.count
            && zip(chain.ports, fresh.ports).allSatisfy { left, right in
                left.service == right.service && left.number == right.number
                    && left.isCaptured == right.isCaptured && left.isDialled == right.isDialled
                    && Array(chain.endpoints[left.endpoints])
                        == Array(fresh.endpoints[right.endpoints])
            }
    }

    @Test(arguments: [1, 2, 3, 4, 5])
    func `after any changes of endpoints the snapshot is that of a compilation from nothing`(
        seed: UInt64
    ) throws {
        var dice = Dice(state: seed)
        var mesh = Self.mesh(services: 9)
        var chain = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        for version in 2..<300 {
            for _ in 0...Int.random(in: 0..<3, using: &dice) { Self.change(&mesh, &dice) }
            let next = SnapshotCompiler.compile(
                mesh, node: "n1", version: UInt64(version), after: chain)
            let fresh = SnapshotCompiler.compile(mesh, node: "n1", version: UInt64(version))
            try #require(Self.same(next, fresh), "seed \(seed), version \(version)")
            try #require(next.follows(chain))
            // Who is not named in the delta has not changed.
            let named = Set(next.delta?.ports ?? [])
            for (index, port) in next.ports.enumerated() where !named.contains(index) {
                let before = chain.mesh.services[port.serviceIndex].ports[port.portIndex]
                let now = mesh.services[port.serviceIndex].ports[port.portIndex]
                try #require(before == now)
            }
            #expect(next.delta?.isEngines == named.contains { next.ports[$0].isDialled })
            chain = next
        }
    }

    @Test func `what else changes is compiled as a whole, and follows nothing`() {
        let mesh = Self.mesh(services: 3)
        let first = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        var fewer = mesh
        fewer.routes = []
        var renamed = mesh
        renamed.services[1].addresses = [IPAddress(v4: 0x0a60_1111)]
        var labelled = mesh
        labelled.namespaces = ["t": ["team": "a"]]
        for changed in [fewer, renamed, labelled] {
            let next = SnapshotCompiler.compile(changed, node: "n1", version: 2, after: first)
            #expect(next.delta == nil && !next.follows(first))
        }
        let same = SnapshotCompiler.compile(mesh, node: "n1", version: 2, after: first)
        #expect(same.delta?.ports == [] && same.follows(first))
        let other = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        #expect(!same.follows(other), "a version says nothing without the shape")
    }
}
