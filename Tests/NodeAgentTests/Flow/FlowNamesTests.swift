import AdminAPI
import BPFLoader
import MeshModel
import Testing

@testable import NodeAgent

@Suite("Flow events have the names of the configuration")
struct FlowNamesTests {
    private static let web = IPAddress(v4: 0x0a01_0002)
    private static let db = IPAddress(v4: 0x0a01_0001)
    private static let service = IPAddress(v4: 0x0a60_0001)

    private static func pod(_ name: String, _ address: IPAddress) -> Workload {
        Workload(
            name: ObjectName("shop", name), serviceAccount: "", node: "n1", labels: ["app": name],
            addresses: [address], interface: nil, isMeshed: true, workloadName: name)
    }

    private static let snapshot = SnapshotCompiler.compile(
        Mesh(
            workloads: [pod("db", db), pod("web", web)],
            services: [
                Service(
                    name: ObjectName("shop", "api"), addresses: [service],
                    ports: [ServicePort(name: "", port: 80)])
            ],
            policies: [
                NetworkPolicy(
                    name: ObjectName("shop", "db"),
                    subject: PodSelection(.named("shop"), LabelSelector(["app": "db"])),
                    ingress: [
                        PolicyRule(peers: [
                            .pods(PodSelection(.named("shop"), LabelSelector(["app": "api"])))
                        ])
                    ]),
                NetworkPolicy(
                    name: ObjectName("", "wall"), tier: .admin, priority: 1,
                    subject: PodSelection(.selected(.everything)),
                    egress: [PolicyRule(name: "no-mail", action: .deny)]),
            ]), node: "n1", version: 1)

    private static func event(
        to target: IPAddress = db, _ direction: PolicyDirection, _ outcome: FlowEvent.Outcome,
        _ verdict: String, isPolicys: Bool = true, rule: UInt32 = 0
    ) -> FlowEvent {
        FlowEvent(
            nanoseconds: 1_000, protocolNumber: 6, source: SocketAddress(web, 40000),
            target: SocketAddress(target, 5432), sourceIdentity: 9, direction: direction,
            outcome: outcome, hook: "from_pod", verdict: verdict, isPolicys: isPolicys, rule: rule,
            packets: 3)
    }

    private static func item(_ event: FlowEvent) -> FlowEventItem {
        FlowNames(snapshot).item(event, before: nil)
    }

    @Test func `default deny says how many policies select the pod and which came nearest`() {
        let item = Self.item(Self.event(.ingress, .denied, "denied_ingress"))
        #expect(item.verdict == "denied" && item.rule == "default deny (ingress)")
        #expect(item.sourcePod == "shop/web" && item.targetPod == "shop/db")
        #expect(item.policies == ["NetworkPolicy shop/db"] && item.policy == "")
        #expect(item.nearest == "NetworkPolicy shop/db ingress[0]")
        #expect(item.why == "shop/web is not app=api")
        #expect(item.packets == 3 && item.sourceLabels == ["world"])
    }

    @Test func `a socket that was refused before it had a source has its pod's name`() {
        var event = Self.event(to: Self.service, .egress, .denied, "no_endpoint", isPolicys: false)
        event.source = SocketAddress(IPAddress(v4: 0), 0)
        event.interface = 7
        let names = FlowNames(Self.snapshot)
        #expect(names.item(event, before: nil, pods: [7: "shop/web"]).sourcePod == "shop/web")
        #expect(names.item(event, before: nil, pods: [8: "shop/web"]).sourcePod == "")
        event.interface = 0
        #expect(names.item(event, before: nil, pods: [0: "shop/web"]).sourcePod == "")
    }

    @Test func `a rule has its policy's name`() throws {
        let number = try #require(
            Self.snapshot.policy.references.first { $0.value.policy.contains("wall") }?.key)
        let item = Self.item(Self.event(.egress, .denied, "denied_egress", rule: number))
        #expect(item.rule == "ClusterNetworkPolicy wall egress[0] (no-mail)")
        #expect(item.policy == "ClusterNetworkPolicy wall" && item.nearest == "")
        #expect(item.ruleNumber == Int(number))
    }

    @Test func `a rule of the generation before is still known, an older one is not`() throws {
        let without = SnapshotCompiler.compile(
            Mesh(workloads: [Self.pod("web", Self.web)]), node: "n1", version: 2,
            after: Self.snapshot)
        let number = try #require(Self.snapshot.policy.references.keys.first)
        let event = Self.event(.egress, .denied, "denied_egress", rule: number)
        let known = FlowNames(without).item(event, before: Self.snapshot.policy)
        #expect(known.policy != "")
        #expect(FlowNames(without).item(event, before: nil).rule == "rule \(number), which is gone")
    }

    @Test func `what is no policy's doing has no rule, and a service has its name`() {
        let item = Self.item(
            Self.event(to: Self.service, .egress, .denied, "no_endpoint", isPolicys: false))
        #expect(item.targetService == "shop/api" && item.rule == "" && item.policies == [])
    }

    @Test func `an address of the nodes' blocks without a Pod is unmanaged, whatever its number`() {
        let block = IPPrefix("10.1.0.0/16")!
        let mesh = Mesh(
            nodes: [
                Node(
                    name: "n2", addresses: [IPAddress("10.0.0.2")!],
                    podBlocks: [block, IPPrefix("fd00:1::/64")!])
            ], workloads: [Self.pod("web", Self.web)])
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        for (address, isUnmanaged) in [
            ("10.1.7.7", true), ("fd00:1::7", true), ("10.1.0.2", false), ("10.2.0.1", false),
            ("fd00:2::7", false), ("10.0.0.2", false), ("::7", false),
        ] {
            #expect(snapshot.isUnmanaged(IPAddress(address)!) == isUnmanaged, "\(address)")
        }
        let names = FlowNames(snapshot)
        var event = Self.event(
            to: IPAddress("10.1.7.7")!, .egress, .allowed, "pass", isPolicys: false)
        for (number, labels) in [(UInt32(9), ["unmanaged"]), (0, ["reserved:unmanaged"])] {
            event.targetIdentity = number
            #expect(names.item(event, before: nil).targetLabels == labels)
        }
        // It was a pod's, or the node's own, when the packet passed.
        event.targetIdentity = 1
        #expect(names.item(event, before: nil).targetLabels == ["reserved:host"])
    }

    @Test func `an admitted flow that no policy concerns says so`() {
        let item = Self.item(Self.event(to: Self.web, .ingress, .allowed, "pass"))
        #expect(item.rule == "no policy (ingress)")
    }
}
