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
    private static func plan(alive: [String] = [], resting: [String] = []) -> ServicePlan {
        func ends(_ list: [String]) -> [PlannedEnd] {
            list.map { PlannedEnd(address: SocketAddress(IPAddress($0)!, 8080), weight: 1) }
        }
        var plan = ServicePlan(transport: .tcp)
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
        let ended = stale.take(
            gone: gone, ends: ListedEnds(), pods: [Self.address(Self.other)],
            isNodes: { $0 == Self.address(Self.node) })
        // The second pod is there, if out of use, and so may be one of the node's own network.
        #expect(ended == [gone[0], gone[2], gone[3]])
    }

    @Test func `TCP to what is no pod's is over once no service lists it, and not before`() {
        var bed = Bed()
        let ready = [Self.pod, Self.other, Self.node]
        #expect(bed.change(Self.plan(alive: ready, resting: [Self.machine])).isEmpty, "it drains")
        #expect(bed.change(Self.plan(alive: ready)) == [Self.end(Self.machine)])
        #expect(bed.change(nil).isEmpty, "pods and the node live")
    }

    @Test func `another service's endpoint goes on`() {
        var bed = Bed()
        let gone = bed.ends.count(nil, Self.plan(resting: [Self.machine]))
        #expect(gone.isEmpty)
        #expect(bed.change(nil).isEmpty)
        let left = bed.ends.count(Self.plan(resting: [Self.machine]), nil)
        #expect(left == [Self.end(Self.machine)])
        let ended = bed.stale.take(
            gone: left, ends: bed.ends, pods: bed.pods, isNodes: { _ in false })
        #expect(ended.contains(Self.end(Self.machine)))
    }

    @Test func `what is at a node's address goes with the node, a pod's with the pod`() {
        var bed = Bed()
        #expect(bed.change(Self.plan(alive: [Self.machine])).isEmpty)
        bed.nodes = []
        #expect(bed.change(Self.plan(alive: [Self.machine])) == [Self.end(Self.node)])
        bed.pods = [Self.address(Self.other)]
        #expect(bed.change(Self.plan(alive: [Self.machine])) == [Self.end(Self.pod)])
    }
}
