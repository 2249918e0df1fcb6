// Every place where a packet may end tells it: each hook, run inside the kernel on one packet that
// it drops or refuses, and the ring read as the agent reads it. (connect4 and its like cannot be
// run so: FlowEventTests of the node. `leaving` drops only what the kernel fails to write.)

internal import CBPF
internal import CMallaABI
internal import Glibc
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("Every drop point tells what it dropped", .enabled(if: isRoot, "needs root"))
struct DropPointTests {
    /// A place, and how a packet comes to end there.
    struct Point: CustomTestStringConvertible, Sendable {
        let program: String
        let hook: String
        let verdict: String
        /// Of the packet, as IPv4; its direction as an event says it.
        let source: [UInt8]
        let target: [UInt8]
        let direction: PolicyDirection
        var testDescription: String { "\(program): \(verdict)" }
    }

    private static let client: [UInt8] = [198, 51, 100, 1]
    private static let pod: [UInt8] = [10, 1, 0, 10]
    private static let node: [UInt8] = [10, 0, 0, 1]
    /// Of this node, too, and needs the engine, which is not there.
    private static let closed: [UInt8] = [10, 1, 0, 11]

    static let points = [
        Point(
            program: "malla_from_pod", hook: "from_pod", verdict: "not_ready", source: client,
            target: pod, direction: .egress),
        Point(
            program: "malla_to_pod", hook: "to_pod", verdict: "not_ready", source: client,
            target: node, direction: .ingress),
        Point(
            program: "malla_to_pod", hook: "to_pod", verdict: "engine_refused", source: client,
            target: closed, direction: .ingress),
        Point(
            program: "malla_uplink", hook: "uplink", verdict: "engine_refused", source: client,
            target: closed, direction: .ingress),
        Point(
            program: "malla_from_eng", hook: "from_engine", verdict: "foreign", source: client,
            target: node, direction: .egress),
        Point(
            program: "malla_outside", hook: "outside", verdict: "no_endpoint", source: client,
            target: node, direction: .ingress),
        Point(
            program: "malla_back", hook: "back", verdict: "no_way", source: pod, target: client,
            direction: .egress),
        Point(
            program: "malla_back", hook: "from_pod", verdict: "unguarded", source: pod,
            target: client, direction: .egress),
        Point(
            program: "malla_guard", hook: "to_pod", verdict: "unguarded", source: client,
            target: pod, direction: .ingress),
        Point(
            program: "malla_guard_eng", hook: "from_engine", verdict: "unguarded", source: pod,
            target: client, direction: .egress),
        Point(
            program: "malla_outside", hook: "uplink", verdict: "unguarded", source: closed,
            target: closed, direction: .ingress),
        Point(
            program: "malla_hold_out", hook: "from_socket", verdict: "not_ready", source: client,
            target: pod, direction: .egress),
        Point(
            program: "malla_hold_in", hook: "to_socket", verdict: "not_ready", source: pod,
            target: client, direction: .ingress),
    ]

    enum Family: CaseIterable, Sendable {
        case ipv4, ipv6

        /// The same machine's address of this family.
        func address(_ ipv4: [UInt8]) -> [UInt8] {
            self == .ipv4 ? ipv4 : [0xfd, 0x10] + [UInt8](repeating: 0, count: 10) + ipv4
        }

        var any: [UInt8] { [UInt8](repeating: 0, count: self == .ipv4 ? 4 : 16) }
    }

    @Test(arguments: points, Family.allCases)
    func `once, by its name`(_ point: Point, _ family: Family) throws {
        let object = try Self.object()
        var packet = PacketBuilder(
            source: family.address(point.source), sourcePort: 5000,
            target: family.address(point.target), targetPort: 30080, flags: PacketBuilder.syn)
        var seal: UInt32 = 0
        if point.hook == "back" {
            packet.flags = PacketBuilder.ack
            try Self.translation(
                object, of: packet, to: family.address([203, 0, 113, 9]), MALLA_NAT_OUT_OF_POD)
            seal = UInt32(MALLA_SEAL) | MALLA_HOOK_FROM_POD.rawValue
        }
        for _ in 0..<3 { _ = try object.pass(point.program, packet: packet.frame, seal: seal) }

        let events = try Self.events(object)
        let event = try #require(events.first, "\(point)")
        #expect(events.count == 1, "the rest of a tuple is counted, not told")
        #expect(event.hook == point.hook && event.verdict == point.verdict, "\(event)")
        #expect(event.outcome == .denied && event.direction == point.direction)
        #expect(event.target.port == 30080 && event.source.port == 5000)
        let ends = [event.source.address, event.target.address].map { malla_address($0) }
        #expect(ends == [packet.source, packet.target].map { malla_address(bytes: $0) })
    }

    @Test(arguments: HookTests.Lookup.families)
    func `sk_lookup too`(_ tuple: HookTests.Lookup) throws {
        let object = try Self.object()
        for _ in 0..<2 { _ = try object.run("malla_listener", context: tuple.context) }
        let events = try Self.events(object)
        #expect(events.map(\.hook) == ["to_listener"])
        #expect(events.first?.verdict == "no_flow" && events.first?.outcome == .denied)
        #expect(events.first?.target.port == 80 && events.first?.source.port == 40000)
        let source = events.first.map { malla_address($0.source.address) }
        #expect(source == malla_address(bytes: tuple.source))
    }

    /// The kernel gives nobody who dials by IPv4 to a socket that takes IPv6 alone, and nobody who
    /// dials by IPv6 to one of IPv4 (EAFNOSUPPORT).
    @Test(arguments: HookTests.Lookup.families)
    func `and so does what fails because the kernel refuses a call`(
        _ tuple: HookTests.Lookup
    ) throws {
        let object = try Self.object()
        var flow = malla_flow()
        flow.kind = MALLA_FLOW_CAPTURED.rawValue
        flow.timeout_ticks = UInt32(Int32.max)
        try object.put("malla_flow", tuple.key, flow)
        var setting = malla_setting()
        (setting.listeners, setting.node_cookie) = (1, .max)
        try object.put("malla_setting", UInt32(0), setting)
        let listener = socket(
            tuple.isIPv4 ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        if tuple.isIPv4 {
            // One number, which outlives the call.
            var isOnly: Int32 = 1
            let size = socklen_t(MemoryLayout<Int32>.size)
            #expect(
                unsafe setsockopt(listener, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &isOnly, size) == 0)
        }
        #expect(listen(listener, 8) == 0)
        try object.put("malla_listen", UInt32(0), UInt64(listener))

        for _ in 0..<2 {
            let found = try object.run("malla_listener", context: tuple.context)
            #expect(found.answer == 0, "dropped, which is a reset")
        }

        #expect(try HookTests.count(object, MALLA_HOOK_TO_LISTENER, MALLA_VERDICT_FAILED) == 2)
        let events = try Self.events(object)
        #expect(events.map(\.hook) == ["to_listener"], "told once")
        #expect(events.first?.verdict == "failed" && events.first?.outcome == .denied)
        #expect(events.first?.target.port == 80 && events.first?.source.port == 40000)
    }

    /// A node that serves a node port without endpoints, has a pod that needs the engine, and holds
    /// all that it does not know.
    private static func object() throws -> KernelObject {
        let object = try KernelObject("malla")
        var setting = malla_setting()
        // Of nobody: the test's own namespace stands for a pod's.
        setting.node_cookie = .max
        try object.put("malla_setting", UInt32(0), setting)
        var row = malla_node()
        row.flags = UInt32(MALLA_NODE_SERVES)
        try object.put("malla_node", UInt32(0), row)
        let group = malla_group(id: 1, endpoints: 0, positions: 0)
        let port = malla_service(inside: group, outside: group, flags: 0, affinity_seconds: 0)
        var pod = malla_pod()
        pod.interface = 9
        pod.endpoint = 1
        pod.flags = UInt32(MALLA_POD_INBOUND | MALLA_POD_FAILS_CLOSED)
        for family in Family.allCases {
            func address(_ ipv4: [UInt8]) -> malla_address {
                malla_address(bytes: family.address(ipv4))
            }
            try object.put("malla_near", address(node), UInt32(MALLA_NEAR_OWN))
            try object.put(
                "malla_service",
                malla_end(
                    address: malla_address(bytes: family.any), port_be: UInt16(30080).bigEndian,
                    protocol: 6, pad: 0), port)
            try object.put("malla_pod", address(closed), pod)
        }
        try object.put(
            "malla_held", malla_prefix(prefix_bits: 0, address: malla_address()), UInt32(1))
        return object
    }

    /// The packet's tuple is to become another, of somebody whom no route leads to.
    private static func translation(
        _ object: KernelObject, of packet: PacketBuilder, to source: [UInt8],
        _ kind: malla_nat_kind
    ) throws {
        func key(_ source: [UInt8], _ target: [UInt8]) -> malla_flow_key {
            malla_flow_key(
                source: malla_address(bytes: source), target: malla_address(bytes: target),
                source_port_be: packet.sourcePort.bigEndian,
                target_port_be: packet.targetPort.bigEndian, protocol: 6, pad: (0, 0, 0))
        }
        var row = malla_snat()
        row.becomes = key(source, packet.target)
        row.kind = kind.rawValue
        try object.put("malla_snat", key(packet.source, packet.target), row)
    }

    private static func events(_ object: KernelObject) throws -> [FlowEvent] {
        let copy = fcntl(try object.map("malla_event"), F_DUPFD_CLOEXEC, 0)
        return try EventRing(EventSource(descriptor: copy, directory: KernelObject.root)).take()
    }
}
