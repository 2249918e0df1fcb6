internal import CMallaABI
internal import Testing

@testable internal import BPFLoader

/// What a TCX program answers.
private let next: Int32 = -1
private let drop: Int32 = 2
private let redirect: Int32 = 7

/// Two pods of one node, the client at `lo`, and an open connection from it to port 80 of the
/// server, which policies allow. It was met in its middle, and so goes by the node's stack.
private struct OpenConnection {
    static let client: UInt32 = 300
    static let server: UInt32 = 301

    let object: KernelObject
    let packet: PacketBuilder

    init(v6: Bool) throws {
        object = try KernelObject("malla")
        packet = PacketBuilder(
            source: v6 ? RawPacket.client6 : RawPacket.client4, sourcePort: 40000,
            target: v6 ? RawPacket.server6 : RawPacket.server4, targetPort: 80,
            flags: PacketBuilder.ack)
        try put(packet.source, interface: 1, endpoint: 1, identity: Self.client, set: 0)
        try put(packet.target, interface: 9, endpoint: 2, identity: Self.server, set: 2)
        var set = malla_set()
        set.verdicts = (UInt8(MALLA_POLICY_DENY.rawValue), UInt8(MALLA_POLICY_DENY.rawValue))
        set.policies = 1
        try object.put("malla_set", UInt32(2), set)
        try rule(MALLA_POLICY_ALLOW, generation: 1)
        #expect(try object.run("malla_from_pod", packet: packet.frame).answer == next)
    }

    private func put(
        _ address: [UInt8], interface: UInt32, endpoint: UInt32, identity: UInt32, set: UInt32
    ) throws {
        var pod = malla_pod()
        (pod.interface, pod.endpoint, pod.identity, pod.set) = (interface, endpoint, identity, set)
        try object.put("malla_pod", malla_address(bytes: address), pod)
        try object.put("malla_place", interface, endpoint)
        var quota = malla_quota()
        quota.flows = 64
        try object.put("malla_quota", endpoint, quota)
    }

    func rule(_ verdict: malla_policy_verdict, generation: UInt32) throws {
        var key = malla_policy_key()
        key.prefix_bits = UInt32(MALLA_POLICY_EXACT_BITS)
        key.set_be = UInt32(2).bigEndian
        key.identity_be = Self.client.bigEndian
        key.direction = UInt8(MALLA_INGRESS.rawValue)
        key.protocol = 6
        key.port_be = UInt16(80).bigEndian
        var row = malla_policy()
        row.rule = 7
        row.verdict = UInt8(verdict.rawValue)
        try object.put("malla_policy", key, row)
        var setting = malla_setting()
        setting.generation = generation
        try object.put("malla_setting", UInt32(0), setting)
    }

    private var key: malla_flow_key {
        malla_flow_key(
            source: malla_address(bytes: packet.target),
            target: malla_address(bytes: packet.source),
            source_port_be: packet.targetPort.bigEndian,
            target_port_be: packet.sourcePort.bigEndian, protocol: 6, pad: (0, 0, 0))
    }

    func row() throws -> malla_flow {
        try #require(try object.value("malla_flow", key, placeholder: malla_flow()))
    }

    func change(_ body: (inout malla_flow) -> Void) throws {
        var flow = try row()
        body(&flow)
        try object.put("malla_flow", key, flow)
    }

    /// As if its last packet had come so many ticks ago.
    func age(_ ticks: UInt32) throws {
        try change { $0.seen_ticks = FlowClock.now() &- ticks }
    }

    /// How many ticks ago it came.
    func silence() throws -> Int32 {
        let seen = try row().seen_ticks
        return Int32(bitPattern: FlowClock.now() &- seen)
    }

    /// How many ends were asked for their numbers. The server's interface is not there.
    ///
    /// - Parameter keeps: also if it may go on.
    func nudge(keeps: Bool = false) throws -> Int32 {
        let isIPv4 = packet.source.count == 4
        var bytes = [UInt8](repeating: 0, count: 14 + 40 + 20)
        bytes.replaceSubrange(12..<14, with: isIPv4 ? [0x08, 0x00] : [0x86, 0xdd])
        func long(_ address: [UInt8]) -> [UInt8] {
            isIPv4 ? [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] + address : address
        }
        let key =
            long(packet.target) + long(packet.source) + PacketBuilder.bytes(packet.targetPort)
            + PacketBuilder.bytes(packet.sourcePort) + [6, 0, 0, 0]
        bytes.replaceSubrange(14..<54, with: key)
        return try object.pass("malla_nudge", packet: bytes, seal: 0, next: keeps ? 1 : 0).answer
    }
}

@Suite("Connections on which nobody sends (bpf/hooks/nudge.h)", .enabled(if: isRoot, "needs root"))
struct NudgeTests {
    @Test(arguments: [false, true])
    func `what is allowed is sent nothing, what no longer is has its end asked`(v6: Bool) throws {
        let open = try OpenConnection(v6: v6)
        #expect(try open.nudge() == 0)
        try open.rule(MALLA_POLICY_ALLOW, generation: 2)
        #expect(try open.nudge() == 0, "judged anew, and allowed")
        try open.rule(MALLA_POLICY_DENY, generation: 2)
        #expect(try open.nudge() == 0, "not yet in force")
        try open.rule(MALLA_POLICY_DENY, generation: 3)
        #expect(try open.nudge() == 1)
        #expect(try open.nudge() == 1, "until it is closed")
        try open.rule(MALLA_POLICY_ALLOW, generation: 4)
        #expect(try open.nudge() == 0, "allowed again")
    }

    @Test(arguments: [false, true])
    func `what bears the mark is turned back to the end that it is for`(isEngine: Bool) throws {
        let open = try OpenConnection(v6: false)
        let program = isEngine ? "malla_from_eng" : "malla_from_pod"
        func nudged() throws -> UInt64 {
            try HookTests.count(
                open.object, isEngine ? MALLA_HOOK_FROM_ENGINE : MALLA_HOOK_FROM_POD,
                MALLA_VERDICT_NUDGED)
        }
        let mark: UInt32 = 0x4d41_0003
        let turned = try open.object.pass(program, packet: open.packet.frame, seal: 0, mark: mark)
        #expect(turned.answer == redirect)
        #expect(try nudged() == 1)
        _ = try open.object.pass(program, packet: open.packet.frame, seal: 0, mark: mark ^ 1)
        #expect(try nudged() == 1, "another mark")
    }

    @Test(arguments: [false, true])
    func `the answer is reset by its own numbers, and a reset passes once and ends it`(
        v6: Bool
    ) throws {
        let open = try OpenConnection(v6: v6)
        try open.rule(MALLA_POLICY_DENY, generation: 2)
        #expect(try open.nudge() == 1)

        let answered = try open.object.run("malla_from_pod", packet: open.packet.frame)
        #expect(answered.answer == redirect)
        let segment = Array(answered.packet.dropFirst(v6 ? 54 : 34))
        #expect(segment.count == 20)
        #expect(segment[0..<2] == PacketBuilder.bytes(80)[...])
        // The frame acknowledges 2 (PacketBuilder).
        #expect(Array(segment[4..<14]) == [0, 0, 0, 2, 0, 0, 0, 0, 0x50, PacketBuilder.rst])
        let pseudo = open.packet.target + open.packet.source + [0, 0, 0, 20, 0, 0, 0, 6]
        #expect(PacketBuilder.checksum(pseudo + segment) == 0)

        var reset = open.packet
        reset.flags = PacketBuilder.rst
        #expect(try open.object.run("malla_from_pod", packet: reset.frame).answer == next)
        #expect(try open.nudge() == 0, "it is closed")
        #expect(try open.object.run("malla_from_pod", packet: reset.frame).answer == drop)
    }

    @Test(arguments: [false, true])
    func `one that may go on is asked before its row runs out, and what it answers keeps the row`(
        v6: Bool
    ) throws {
        let open = try OpenConnection(v6: v6)
        try open.age(7950)
        #expect(try open.nudge() == 0, "nobody asks")
        #expect(try open.nudge(keeps: true) == 1)
        #expect(try open.silence() >= 7950, "to be asked is no answer")
        #expect(try open.object.run("malla_from_pod", packet: open.packet.frame).answer == next)
        #expect(try open.silence() < 1000)
        #expect(try open.row().state == UInt8(MALLA_FLOW_OPEN.rawValue))

        try open.age(8002)
        #expect(try open.nudge(keeps: true) == 0, "it has run out")
        try open.age(7950)
        try open.rule(MALLA_POLICY_DENY, generation: 2)
        #expect(try open.nudge(keeps: true) == 1, "it may not go on, and is ended")
        #expect(try open.row().flags & UInt16(MALLA_FLOW_CUT) != 0)
    }

    @Test func `an end that knows no such connection any more closes the row by its reset`()
        throws
    {
        let open = try OpenConnection(v6: false)
        try open.age(7950)
        #expect(try open.nudge(keeps: true) == 1)
        var reset = open.packet
        reset.flags = PacketBuilder.rst
        #expect(try open.object.run("malla_from_pod", packet: reset.frame).answer == next)
        #expect(try open.row().state == UInt8(MALLA_FLOW_CLOSED.rawValue))
        #expect(try open.nudge(keeps: true) == 0)
    }

    @Test func `of every kind of row the ends on this node are asked whether they live`() throws {
        let open = try OpenConnection(v6: false)
        var setting = malla_setting()
        // The engine's interface is `lo`, too.
        (setting.generation, setting.engine) = (1, 1)
        try open.object.put("malla_setting", UInt32(0), setting)
        let kinds: [(malla_flow_kind, asked: Int32)] = [
            (MALLA_FLOW_OWN, 1), (MALLA_FLOW_CAPTURED, 2), (MALLA_FLOW_DIALLED, 1),
            (MALLA_FLOW_TRANSLATED, 1), (MALLA_FLOW_TRANSLATED_BACK, 1),
        ]
        for (kind, asked) in kinds {
            try open.change { $0.kind = kind.rawValue }
            #expect(try open.nudge(keeps: true) == asked, "\(kind)")
            #expect(try open.nudge() == 0, "\(kind)")
        }
        try open.change { $0.state = UInt8(MALLA_FLOW_CLOSING.rawValue) }
        #expect(try open.nudge(keeps: true) == 0, "half closed")
    }

    @Test func `a connection is asked about at a few moments before its row runs out`() {
        var key = malla_flow_key()
        key.protocol = 6
        var flow = malla_flow()
        flow.state = UInt8(MALLA_FLOW_OPEN.rawValue)
        // The count of ticks begins anew meanwhile.
        (flow.seen_ticks, flow.timeout_ticks) = (UInt32.max - 4, 8000)
        var silent = SilentFlows()
        var asked: [UInt32] = []
        for ticks in stride(from: UInt32(0), through: 8000, by: 7) {
            silent.beginPass(at: flow.seen_ticks &+ ticks)
            if silent.areDue(key, flow) { asked.append(ticks) }
        }
        #expect(asked == [6951, 7252, 7553, 7854], "RFC 5382: not within 6927")

        func isDueFirst(_ ticks: UInt32, _ row: malla_flow) -> Bool {
            var silent = SilentFlows()
            silent.beginPass(at: flow.seen_ticks &+ ticks)
            return silent.areDue(key, row)
        }
        for ticks: UInt32 in [6950, 7100, 7249, 7251, 8000] {
            #expect(isDueFirst(ticks, flow), "\(ticks): there may have been no agent")
        }
        #expect(!isDueFirst(6949, flow))
        var other = flow
        other.seen_ticks = flow.seen_ticks &+ 7110
        #expect(!isDueFirst(7100, other), "seen since")
        other = flow
        other.state = UInt8(MALLA_FLOW_CLOSING.rawValue)
        #expect(!isDueFirst(7100, other))
        other = flow
        other.timeout_ticks = 180
        #expect(!isDueFirst(7100, other))
        key.protocol = 17
        #expect(!isDueFirst(7100, flow))
    }

    /// Of flows, which of them the walk has the kernel judge.
    @Test func `only open connections that were judged before are looked at`() {
        let now: UInt32 = 1000
        func isLookedAt(_ change: (inout malla_flow_key, inout malla_flow) -> Void) -> Bool {
            var key = malla_flow_key()
            key.protocol = 6
            var flow = malla_flow()
            flow.kind = MALLA_FLOW_OWN.rawValue
            flow.state = UInt8(MALLA_FLOW_OPEN.rawValue)
            (flow.generation, flow.seen_ticks, flow.timeout_ticks) = (1, now, 10)
            change(&key, &flow)
            return DeniedFlows.mayHaveToEnd(key, flow, generation: 2, at: now)
        }
        #expect(isLookedAt { _, _ in })
        #expect(isLookedAt { $1.state = UInt8(MALLA_FLOW_CLOSING.rawValue) })
        #expect(
            isLookedAt {
                $1.generation = 2
                $1.flags = UInt16(MALLA_FLOW_CUT)
            })
        #expect(!isLookedAt { $1.generation = 2 })
        #expect(!isLookedAt { key, _ in key.protocol = 17 })
        #expect(!isLookedAt { $1.state = UInt8(MALLA_FLOW_OPENING.rawValue) })
        #expect(!isLookedAt { $1.state = UInt8(MALLA_FLOW_CLOSED.rawValue) })
        #expect(!isLookedAt { $1.seen_ticks = now &- 11 })
        #expect(!isLookedAt { $1.kind = MALLA_FLOW_TRANSLATED.rawValue })
        #expect(!isLookedAt { $1.flags = UInt16(MALLA_FLOW_TUNNEL) })
    }

    @Test func `the walk comes to its end, and begins anew after a change`() throws {
        let table = try FlowTable(BPFMount().load(), quotaMax: 100)
        var flow = malla_flow()
        flow.kind = MALLA_FLOW_OWN.rawValue
        flow.state = UInt8(MALLA_FLOW_OPEN.rawValue)
        (flow.generation, flow.seen_ticks) = (1, FlowClock.now())
        flow.timeout_ticks = 100_000
        for port in UInt16(1)...3 {
            var key = malla_flow_key()
            (key.protocol, key.source_port_be) = (6, port)
            try table.flows.set(key, to: flow)
        }
        var denied = DeniedFlows()
        var asked: [[UInt32]] = []
        func turn(_ answer: Int) {
            var numbers: [UInt32] = []
            denied.turn(table.flows, generation: 2) { _, number in
                numbers.append(number)
                return answer
            }
            asked.append(numbers)
        }
        turn(1)
        #expect(asked[0].isEmpty, "nothing has changed")
        denied.begin()
        turn(1)
        turn(1)
        #expect(asked[1].count == 3 && asked[2].count == 3)
        #expect(asked[2][0] == asked[1][0] &+ 0x8000_0000, "one of them is in no window")
        turn(0)
        #expect(denied.isIdle)
        denied.begin()
        for _ in 0..<DeniedFlows.passesMax { turn(1) }
        #expect(denied.isIdle, "what never answers is left")
    }
}
