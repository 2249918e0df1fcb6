internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("Which endpoints' connections end")
struct StaleEndpointsTests {
    private static let (pod, other) = ("10.1.0.1", "10.1.0.2")
    private static let (machine, node) = ("192.0.2.1", "10.0.0.1")

    private static func address(_ text: String) -> malla_address { malla_address(IPAddress(text)!) }

    private static func end(
        _ text: String, _ transport: TransportProtocol = .tcp
    ) -> malla_end {
        malla_end(SocketAddress(IPAddress(text)!, 8080), transport)
    }

    /// A service port with these endpoints.
    private static func plan(
        alive: [String] = [], resting: [String] = [], _ transport: TransportProtocol = .tcp
    ) -> ServicePlan {
        func ends(_ list: [String]) -> [PlannedEnd] {
            list.map { PlannedEnd(address: SocketAddress(IPAddress($0)!, 8080), weight: 1) }
        }
        var plan = ServicePlan(transport: transport)
        (plan.alive, plan.resting) = (ends(alive), ends(resting))
        return plan
    }

    /// Two pods, one node, and a service of all that there is.
    private struct Bed {
        private typealias Outer = StaleEndpointsTests
        var ends = ListedEnds()
        var stale: StaleEndpoints
        var pods = Set([Outer.pod, Outer.other].map { Outer.address($0) })
        var nodes = Set([Outer.address(Outer.node)])
        private var plan: ServicePlan?

        init() {
            stale = StaleEndpoints(pods: pods)
            change(Outer.plan(alive: [Outer.pod, Outer.other, Outer.machine, Outer.node]))
        }

        @discardableResult
        mutating func change(_ next: ServicePlan?) -> Set<malla_end> {
            let gone = ends.count(plan, next)
            plan = next
            let nodes = nodes
            return stale.take(
                gone: gone.filter { [ends] in !ends.isAlive($0) }, ends: ends, pods: pods,
                isNodes: { nodes.contains($0) })
        }
    }

    @Test func `TCP to a pod that went while no agent ran is over at the first look`() {
        let pods = Set([Self.pod, Self.other].map { Self.address($0) })
        var stale = StaleEndpoints(pods: pods)
        let gone = [
            Self.end(Self.pod), Self.end(Self.other), Self.end(Self.other, .udp),
            Self.end(Self.machine), Self.end(Self.node),
        ]
        var ends = ListedEnds()
        _ = ends.count(nil, Self.plan(resting: [Self.pod, Self.other, Self.node]))
        let ended = stale.take(
            gone: gone, ends: ends, pods: [Self.address(Self.other)],
            isNodes: { $0 == Self.address(Self.node) })
        // The second pod is there, if out of use, and so may be one of the node's own network.
        #expect(ended == [gone[0], gone[2], gone[3]])
    }

    static let all = [pod, other, machine, node]

    @Test(arguments: all)
    func `TCP is over once no service lists its end, though it lives, and not before`(
        _ end: String
    ) {
        var bed = Bed()
        let others = Self.all.filter { $0 != end }
        #expect(bed.change(Self.plan(alive: others, resting: [end])).isEmpty, "it drains")
        #expect(bed.change(Self.plan(alive: others, resting: [end])).isEmpty, "it drains yet")
        #expect(bed.change(Self.plan(alive: others)) == [Self.end(end)])
        #expect(bed.change(nil) == Set(others.map { Self.end($0) }))
    }

    @Test func `an end that is listed again in the same change goes on`() {
        var bed = Bed()
        #expect(bed.change(Self.plan(resting: Self.all)).isEmpty)
        #expect(bed.change(Self.plan(alive: Self.all)).isEmpty)
    }

    /// What leads to the ends of a service.
    private static let key = malla_end(SocketAddress(IPAddress("10.96.0.1")!, 80), .tcp)

    @Test func `TCP leaves a service that does not list its end, UDP one that does not use it`() {
        for (transport, resting) in [(TransportProtocol.tcp, false), (.udp, true)] {
            let old = Self.plan(alive: Self.all, transport)
            let next = Self.plan(alive: [Self.other], resting: [Self.pod], transport)
            let none = Self.plan(alive: [Self.other], transport)
            let key = malla_end(Self.key.socket, transport)
            func has(_ left: LeftEnds, _ text: String) -> Bool {
                left.contains(Self.end(text, transport), of: key)
            }
            var left = LeftEnds()
            left.note(old, next, keys: [key])
            #expect(has(left, Self.pod) == resting && !has(left, Self.other))
            #expect(has(left, Self.machine), "it is listed no more")
            left = LeftEnds()
            left.note(next, none, keys: [key])
            #expect(has(left, Self.pod) == (transport == .tcp), "of UDP it had left before")
            left = LeftEnds()
            left.note(old, nil, keys: [key])
            #expect(has(left, Self.pod) && has(left, Self.other), "the service is gone")
            #expect(left.contains(transport))
        }
    }

    @Test func `another service's endpoint goes on`() {
        var bed = Bed()
        let gone = bed.ends.count(nil, Self.plan(resting: [Self.machine]))
        #expect(gone.isEmpty)
        let others = [Self.pod, Self.other, Self.node].map { Self.end($0) }
        #expect(bed.change(nil) == Set(others), "all but the machine")
        let left = bed.ends.count(Self.plan(resting: [Self.machine]), nil)
        #expect(left == [Self.end(Self.machine)])
        let ended = bed.stale.take(
            gone: left, ends: bed.ends, pods: bed.pods, isNodes: { _ in false })
        #expect(ended.contains(Self.end(Self.machine)))
    }

    @Test func `what is at a node's address goes with the node, a pod's with the pod`() {
        var bed = Bed()
        let next = Self.plan(alive: [Self.machine], resting: [Self.pod, Self.other, Self.node])
        #expect(bed.change(next).isEmpty)
        bed.nodes = []
        #expect(bed.change(next) == [Self.end(Self.node)])
        bed.pods = [Self.address(Self.other)]
        #expect(bed.change(next) == [Self.end(Self.pod)])
    }
}
