// What the kernel tells of flows: hooks run inside it on whole packets, and the ring read as the
// agent reads it.

internal import CBPF
internal import CMallaABI
internal import Glibc
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

/// A node of two local pods whose events are read.
private final class Watched {
    static let client: UInt32 = 300
    static let server: UInt32 = 301

    let node: KernelNode
    private let source: EventSource

    init(
        clientSet: UInt32 = 0, serverSet: UInt32 = 0, sample: UInt32 = 0,
        ringBytes: UInt32 = 1 << 20
    ) throws {
        node = try KernelNode(ringBytes: ringBytes)
        for (address, isClient) in [
            (RawPacket.client4, true), (RawPacket.client6, true), (RawPacket.server4, false),
            (RawPacket.server6, false),
        ] {
            try node.put(
                address, interface: isClient ? 1 : 9, endpoint: isClient ? 1 : 2,
                identity: isClient ? Self.client : Self.server,
                set: isClient ? clientSet : serverSet)
        }
        let copy = fcntl(try node.object.map("malla_event"), F_DUPFD_CLOEXEC, 0)
        source = EventSource(descriptor: copy, directory: KernelObject.root)
        try setting(sample: sample, generation: 1)
        var quota = malla_quota()
        quota.flows = 1024
        try node.object.put("malla_quota", UInt32(1), quota)
    }

    func setting(sample: UInt32, generation: UInt32) throws {
        var setting = malla_setting()
        setting.flow_sample = sample
        setting.generation = generation
        try node.object.put("malla_setting", UInt32(0), setting)
    }

    /// A set whose pods are denied what no row allows.
    func isolate(_ set: UInt32, isAudited: Bool = false) throws {
        var row = malla_set()
        row.verdicts = (UInt8(MALLA_POLICY_DENY.rawValue), UInt8(MALLA_POLICY_DENY.rawValue))
        row.flags = isAudited ? UInt8(MALLA_SET_AUDIT) : 0
        row.policies = 1
        try node.object.put("malla_set", set, row)
    }

    func rule(
        _ number: UInt32, set: UInt32, peer: UInt32, _ direction: malla_direction,
        _ verdict: malla_policy_verdict
    ) throws {
        var key = malla_policy_key()
        key.prefix_bits = UInt32(MALLA_POLICY_EXACT_BITS)
        key.set_be = set.bigEndian
        key.identity_be = peer.bigEndian
        key.direction = UInt8(direction.rawValue)
        key.protocol = 6
        key.port_be = UInt16(80).bigEndian
        var row = malla_policy()
        row.rule = number
        row.verdict = UInt8(verdict.rawValue)
        try node.object.put("malla_policy", key, row)
    }

    /// The client's packet to port 80 of the server.
    static func packet(
        v6: Bool = false, port: UInt16 = 40000, flags: UInt8 = PacketBuilder.syn
    ) -> PacketBuilder {
        PacketBuilder(
            source: v6 ? RawPacket.client6 : RawPacket.client4, sourcePort: port,
            target: v6 ? RawPacket.server6 : RawPacket.server4, targetPort: 80, flags: flags)
    }

    @discardableResult
    func sends(_ packet: PacketBuilder) throws -> String {
        try node.sends(packet.frame).map(node.name) ?? "?"
    }

    /// What the ring holds, with a time of 0.
    func events() throws -> [FlowEvent] {
        let ring = try EventRing(
            EventSource(
                descriptor: fcntl(source.descriptor, F_DUPFD_CLOEXEC, 0),
                directory: source.directory))
        return ring.take().map { event in
            var event = event
            event.nanoseconds = 0
            return event
        }
    }

    func meter(_ row: malla_meter) throws -> UInt64 {
        let descriptor = fcntl(try node.object.map("malla_meter"), F_DUPFD_CLOEXEC, 0)
        return try PerCPUArray(adopting: Descriptor(adopting: descriptor), name: "malla_meter")
            .sum(row.rawValue)
    }
}

@Suite("The kernel tells of flows", .enabled(if: isRoot, "needs root"))
struct EventTests {
    private static func event(
        v6: Bool = false, _ direction: PolicyDirection, _ outcome: FlowEvent.Outcome,
        _ verdict: String, rule: UInt32 = 0, packets: UInt32 = 1, port: UInt16 = 40000
    ) throws -> FlowEvent {
        func end(_ v4: String, _ v6Text: String, _ port: UInt16) throws -> SocketAddress {
            SocketAddress(try #require(IPAddress(v6 ? v6Text : v4)), port)
        }
        return FlowEvent(
            nanoseconds: 0, protocolNumber: 6, source: try end("10.1.0.10", "fd10:1::10", port),
            target: try end("10.1.0.11", "fd10:1::11", 80), sourceIdentity: Watched.client,
            targetIdentity: Watched.server, direction: direction, outcome: outcome,
            hook: "from_pod", verdict: verdict, rule: rule, packets: packets)
    }

    @Test(arguments: [false, true])
    func `a denied flow is told with both identities and the rule that denies it`(
        v6: Bool
    ) throws {
        let watched = try Watched(clientSet: 1)
        try watched.isolate(1)
        try watched.rule(77, set: 1, peer: Watched.server, MALLA_EGRESS, MALLA_POLICY_DENY)

        #expect(try watched.sends(Watched.packet(v6: v6)) == "denied_egress")
        #expect(
            try watched.events() == [
                try Self.event(v6: v6, .egress, .denied, "denied_egress", rule: 77)
            ])
    }

    @Test(arguments: [false, true])
    func `what the receiver denies by default has no rule, whoever lets it out`(
        v6: Bool
    ) throws {
        let watched = try Watched(clientSet: 1, serverSet: 2)
        try watched.isolate(1)
        try watched.isolate(2)
        try watched.rule(5, set: 1, peer: Watched.server, MALLA_EGRESS, MALLA_POLICY_ALLOW)

        #expect(try watched.sends(Watched.packet(v6: v6)) == "denied_ingress")
        #expect(
            try watched.events() == [try Self.event(v6: v6, .ingress, .denied, "denied_ingress")])
    }

    @Test func `a packet that is sent again is counted, not told`() throws {
        let watched = try Watched(serverSet: 2)
        try watched.isolate(2)
        for _ in 0..<5 { try watched.sends(Watched.packet()) }
        try watched.sends(Watched.packet(port: 40001))

        #expect(try watched.events().map(\.source.port) == [40000, 40001])
        #expect(try watched.meter(MALLA_METER_REPEATED) == 4)
        #expect(try watched.meter(MALLA_METER_WRITTEN) == 2)
    }

    @Test func `policies on trial are told, and who only tries to deny is named`() throws {
        let watched = try Watched(clientSet: 1, serverSet: 2)
        try watched.isolate(1, isAudited: true)
        try watched.isolate(2)
        try watched.rule(8, set: 2, peer: Watched.client, MALLA_INGRESS, MALLA_POLICY_ALLOW)

        #expect(try watched.sends(Watched.packet()) == "audited")
        #expect(try watched.events() == [try Self.event(.egress, .audited, "audited")])
    }

    @Test func `a flow that a change of policies cuts is told with the rule`() throws {
        let watched = try Watched(serverSet: 2)
        try watched.isolate(2)
        try watched.rule(8, set: 2, peer: Watched.client, MALLA_INGRESS, MALLA_POLICY_ALLOW)
        #expect(try watched.sends(Watched.packet()) == "direct")
        #expect(try watched.events().isEmpty)

        try watched.rule(9, set: 2, peer: Watched.client, MALLA_INGRESS, MALLA_POLICY_DENY)
        try watched.setting(sample: 0, generation: 2)
        let data = Watched.packet(flags: PacketBuilder.ack)
        #expect(try watched.sends(data) == "cut")
        #expect(try watched.sends(data) == "cut")
        #expect(try watched.events() == [try Self.event(.ingress, .denied, "cut", rule: 9)])
    }

    @Test func `admitted flows are told only where they open, and only if a sample is asked for`()
        throws
    {
        let watched = try Watched(serverSet: 2)
        try watched.isolate(2)
        try watched.rule(8, set: 2, peer: Watched.client, MALLA_INGRESS, MALLA_POLICY_ALLOW)
        try watched.sends(Watched.packet())
        #expect(try watched.events().isEmpty)

        try watched.setting(sample: 1, generation: 1)
        try watched.sends(Watched.packet(port: 40001))
        try watched.sends(Watched.packet(port: 40001, flags: PacketBuilder.ack))
        #expect(
            try watched.events() == [
                try Self.event(.ingress, .allowed, "pass", rule: 8, port: 40001)
            ])
    }

    @Test func `one of four flows is about a quarter of them`() throws {
        let watched = try Watched(sample: 4)
        for port in UInt16(41000)..<41400 { try watched.sends(Watched.packet(port: port)) }
        // 100 expected; outside of 50...150 once in 10^8 runs (binomial, 400 times 1/4).
        #expect((50...150).contains(try watched.events().count))
    }

    @Test func `a packet that is nobody's to send is told as it bears itself`() throws {
        let watched = try Watched()
        var packet = Watched.packet()
        swap(&packet.source, &packet.target)
        #expect(try watched.sends(packet) == "spoofed")
        let event = try #require(try watched.events().first)
        #expect(event.verdict == "spoofed" && event.outcome == .denied && !event.isPolicys)
        #expect(event.sourceIdentity == Watched.server && event.targetIdentity == Watched.client)
    }

    @Test func `an ICMP error that is related to nothing is told with who sent it`() throws {
        let watched = try Watched()
        try watched.sends(Watched.packet())
        // The client's error about an answer of the server's, to somebody else.
        let answer = PacketBuilder(
            source: RawPacket.server4, sourcePort: 80, target: RawPacket.client4, targetPort: 40000,
            flags: PacketBuilder.syn | PacketBuilder.ack)
        let quoted = answer.frame.dropFirst(14).prefix(28)
        let error = RawPacket.ip4(
            1, [3, 3, 0, 0, 0, 0, 0, 0] + quoted, target: [10, 9, 9, 9])
        #expect(try watched.node.sends(error).map(watched.node.name) == "unrelated")
        let event = try #require(try watched.events().last)
        #expect(event.verdict == "unrelated" && event.protocolNumber == 1)
        #expect(event.source.description == "10.1.0.10:0" && event.sourceIdentity == Watched.client)
        #expect(event.target.description == "10.9.9.9:0")
    }

    @Test func `events that a full ring has no room for are counted, and later ones are told`()
        throws
    {
        let watched = try Watched(serverSet: 2, ringBytes: 4096)
        try watched.isolate(2)
        for port in UInt16(42000)..<42100 { try watched.sends(Watched.packet(port: port)) }

        let written = try watched.meter(MALLA_METER_WRITTEN)
        let full = try watched.meter(MALLA_METER_RING_FULL)
        #expect(full > 0 && written + full == 100)
        #expect(try watched.events().count == Int(written))
        // Nothing was told of it: the next packet is.
        try watched.sends(Watched.packet(port: 42099))
        #expect(try watched.events().map(\.source.port) == [42099])
    }

    @Test func `a flood of refused flows is told up to a rate, the rest is counted`() throws {
        let watched = try Watched(serverSet: 2)
        try watched.isolate(2)
        let cpus = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let started = ContinuousClock.now
        // More than every processor may tell of in two ticks.
        let flood = 2 * (cpus + 1) * Int(MALLA_EVENTS_PER_TICK_MAX)
        for port in 0..<flood {
            _ = try watched.node.object.run(
                "malla_from_pod", packet: Watched.packet(port: UInt16(port % 60000 + 1000)).frame)
        }
        let ticks = Int(started.duration(to: .now) / .milliseconds(1_073)) + 2
        let written = try watched.meter(MALLA_METER_WRITTEN)
        let rate = try watched.meter(MALLA_METER_RATE)
        #expect(Int(written + rate) == flood)
        #expect(Int(written) <= cpus * ticks * Int(MALLA_EVENTS_PER_TICK_MAX))
        if ticks == 2 { #expect(rate > 0) }
    }
}
