internal import CBPF
internal import CMallaABI
internal import Glibc
internal import Testing

/// What a TCX program answers.
private let next: Int32 = -1
private let drop: Int32 = 2
private let redirect: Int32 = 7
/// BPF_PROG_TEST_RUN gives packets the interface `lo`.
private let testInterface: UInt32 = 1

@Suite("The datapath's hooks on whole packets", .enabled(if: isRoot, "needs root"))
struct HookTests {
    struct Family: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let pod: [UInt8]
        let service: [UInt8]
        let server: [UInt8]
    }

    static let families = [
        Family(
            testDescription: "IPv4", pod: [10, 1, 0, 10], service: [10, 96, 0, 1],
            server: [10, 1, 0, 11]),
        Family(
            testDescription: "IPv6", pod: address6(0x10), service: address6(0x96),
            server: address6(0x11)),
    ]

    static func address6(_ last: UInt8) -> [UInt8] {
        [0xfd, 0x10, 0, 1] + [UInt8](repeating: 0, count: 11) + [last]
    }

    @Test(arguments: families)
    func `a captured connection is redirected into the engine, its answers into the pod`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, meshed: true)
        let syn = PacketBuilder(
            source: family.pod, sourcePort: 40000, target: family.service, targetPort: 80,
            flags: PacketBuilder.syn)
        let answer = PacketBuilder(
            source: family.service, sourcePort: 80, target: family.pod, targetPort: 40000,
            flags: PacketBuilder.syn | PacketBuilder.ack)

        #expect(try object.run("malla_from_pod", packet: syn.frame).answer == redirect)
        #expect(try object.run("malla_from_eng", packet: answer.frame).answer == redirect)
        #expect(try Self.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_CAPTURED) == 1)
        #expect(try Self.count(object, MALLA_HOOK_FROM_ENGINE, MALLA_VERDICT_TO_LOCAL_POD) == 1)
    }

    @Test(arguments: families)
    func `what a pod sends or is sent before its rows are there is not ready, then told apart`(
        _ family: Family
    ) throws {
        let object = try KernelObject("malla")
        let out = PacketBuilder(
            source: family.pod, sourcePort: 40000, target: family.server, targetPort: 80,
            flags: PacketBuilder.syn)
        var into = out
        swap(&into.source, &into.target)
        #expect(try object.run("malla_from_pod", packet: out.frame).answer == drop)
        #expect(try object.run("malla_to_pod", packet: into.frame).answer == drop)
        #expect(try Self.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_NOT_READY) == 1)
        #expect(try Self.count(object, MALLA_HOOK_TO_POD, MALLA_VERDICT_NOT_READY) == 1)

        // Another pod's rows are there, and this interface is its.
        try object.put("malla_place", testInterface, UInt32(1))
        #expect(try object.run("malla_from_pod", packet: out.frame).answer == drop)
        #expect(try object.run("malla_to_pod", packet: into.frame).answer == next)
        #expect(try Self.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_NOT_READY) == 1)
        #expect(try Self.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_SPOOFED) == 1)
        #expect(try Self.count(object, MALLA_HOOK_TO_POD, MALLA_VERDICT_PASS) == 1)
    }

    @Test(arguments: families)
    func `what the engine sends about no local pod is dropped`(_ family: Family) throws {
        let object = try Self.node(family, meshed: true)
        let foreign = PacketBuilder(
            source: family.service, sourcePort: 80, target: family.server, targetPort: 4,
            flags: PacketBuilder.syn)

        #expect(try object.run("malla_from_eng", packet: foreign.frame).answer == drop)
        #expect(try Self.count(object, MALLA_HOOK_FROM_ENGINE, MALLA_VERDICT_FOREIGN) == 1)
    }

    @Test(arguments: families)
    func `an unmeshed pod's packet gets the endpoint's address, the answer the service's`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, meshed: false)
        var packet = PacketBuilder(
            source: family.pod, sourcePort: 40000, target: family.service, targetPort: 80,
            flags: PacketBuilder.syn)
        let sent = try object.run("malla_from_pod", packet: packet.frame)
        packet.target = family.server
        packet.targetPort = 8080

        #expect(sent.answer == next)
        #expect(sent.packet == packet.frame, "checksums included")

        var answer = PacketBuilder(
            source: family.server, sourcePort: 8080, target: family.pod, targetPort: 40000,
            flags: PacketBuilder.syn | PacketBuilder.ack)
        let received = try object.run("malla_to_pod", packet: answer.frame)
        answer.source = family.service
        answer.sourcePort = 80
        #expect(received.answer == next)
        #expect(received.packet == answer.frame, "checksums included")
    }

    @Test(arguments: families)
    func `a pod that calls a service of its own gets the packet back, from the service`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, meshed: false, server: family.pod)
        var packet = PacketBuilder(
            source: family.pod, sourcePort: 40000, target: family.service, targetPort: 80,
            flags: PacketBuilder.syn)
        let sent = try object.run("malla_from_pod", packet: packet.frame)
        (packet.source, packet.target, packet.targetPort) = (family.service, family.pod, 8080)
        #expect(sent.answer == redirect)
        #expect(sent.packet == packet.frame, "checksums included")
        #expect(try Self.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_BROUGHT_HOME) == 1)
    }

    @Test(arguments: families)
    func `a pod's packets to itself by its service are counted, each way by its own row`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, meshed: false, server: family.pod)
        let (pod, service) = (
            malla_address(bytes: family.pod), malla_address(bytes: family.service)
        )
        func counts(_ from: UInt16, _ to: UInt16) throws -> [UInt64] {
            let key = malla_flow_key(
                source: pod, target: service, source_port_be: from.bigEndian,
                target_port_be: to.bigEndian, protocol: 6, pad: (0, 0, 0))
            let row = try object.value("malla_snat", key, placeholder: malla_snat())
            return [row?.packets ?? 0, row?.bytes ?? 0]
        }
        var packet = PacketBuilder(
            source: family.pod, sourcePort: 40000, target: family.service, targetPort: 80,
            flags: PacketBuilder.syn)
        func send(_ from: UInt16, _ to: UInt16, _ flags: UInt8) throws {
            (packet.sourcePort, packet.targetPort, packet.flags) = (from, to, flags)
            #expect(try object.run("malla_from_pod", packet: packet.frame).answer == redirect)
        }
        let bytes = UInt64(packet.frame.count - 14)
        // The SYN comes again.
        for _ in 1...2 { try send(40000, 80, PacketBuilder.syn) }
        #expect(try counts(40000, 80) == [2, 2 * bytes])
        #expect(try counts(8080, 40000) == [0, 0])
        try send(8080, 40000, PacketBuilder.syn | PacketBuilder.ack)
        for _ in 1...3 { try send(40000, 80, PacketBuilder.ack) }
        #expect(try counts(40000, 80) == [5, 5 * bytes])
        #expect(try counts(8080, 40000) == [1, bytes])
    }

    @Test(arguments: families)
    func `what a pod sends itself by a service that has lost it is answered with a reset`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, meshed: false, server: family.pod)
        var packet = PacketBuilder(
            source: family.pod, sourcePort: 40000, target: family.service, targetPort: 80,
            flags: PacketBuilder.syn)
        #expect(try object.run("malla_from_pod", packet: packet.frame).answer == redirect)
        // NAT_CUT, both ways
        for (from, to) in [(40000, 80), (8080, 40000)] as [(UInt16, UInt16)] {
            let key = malla_flow_key(
                source: malla_address(bytes: family.pod),
                target: malla_address(bytes: family.service), source_port_be: from.bigEndian,
                target_port_be: to.bigEndian, protocol: 6, pad: (0, 0, 0))
            var row = try #require(
                try object.value("malla_snat", key, placeholder: malla_snat()))
            row.state |= 8
            try object.put("malla_snat", key, row)
            (packet.sourcePort, packet.targetPort, packet.flags) = (from, to, PacketBuilder.ack)
            let sent = try object.run("malla_from_pod", packet: packet.frame)
            #expect(sent.answer == redirect, "back into the pod")
            let header = family.pod.count == 4 ? 20 : 40
            #expect(sent.packet[14 + header + 13] & PacketBuilder.rst != 0)
        }
        #expect(try Self.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_NO_ENDPOINT) == 2)
    }

    @Test(arguments: families)
    func `a pod's flood of calls to itself leaves the table to others, and evicts only its own`(
        _ family: Family
    ) throws {
        let object = try Self.node(
            family, meshed: false, server: family.pod, rows: ["malla_snat": 8192])
        var packet = PacketBuilder(
            source: family.pod, sourcePort: 0, target: family.service, targetPort: 80,
            flags: PacketBuilder.syn)
        for port in UInt16(1)...3000 {
            packet.sourcePort = port
            #expect(try object.run("malla_from_pod", packet: packet.frame).answer == redirect)
        }
        let (pod, service) = (
            malla_address(bytes: family.pod), malla_address(bytes: family.service)
        )
        let kept = try (UInt16(1)...3000).filter { port in
            let key = malla_flow_key(
                source: pod, target: service, source_port_be: port.bigEndian,
                target_port_be: UInt16(80).bigEndian, protocol: 6, pad: (0, 0, 0))
            return try object.value("malla_snat", key, placeholder: malla_snat()) != nil
        }
        #expect(kept.count > 900 && kept.count <= 1024, "256 sets of 4 flows")
        #expect(kept.last == 3000, "the newest is there")
        let share = try #require(
            try object.value("malla_share", UInt32(1), placeholder: malla_share()))
        #expect(share.evicted == UInt64(3000 - kept.count))
    }

    @Test(arguments: families)
    func `on its way to the engine through an egress hook a packet bears the engine's MAC`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, meshed: true)
        let dial = PacketBuilder(
            source: family.pod, sourcePort: 61000, target: family.server, targetPort: 8080,
            flags: PacketBuilder.syn)
        let answer = PacketBuilder(
            source: family.server, sourcePort: 8080, target: family.pod, targetPort: 61000,
            flags: PacketBuilder.syn | PacketBuilder.ack)

        _ = try object.run("malla_from_eng", packet: dial.frame)
        let received = try object.run("malla_to_pod", packet: answer.frame)
        #expect(received.answer == redirect)
        #expect(Array(received.packet.prefix(6)) == [2, 0, 0, 0, 0, 1])
    }

    @Test(arguments: families)
    func `what the engine dials against a policy on trial is counted as audited, and passes`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, meshed: true)
        let deny = UInt8(MALLA_POLICY_DENY.rawValue)
        let trial = malla_set(
            verdicts: (deny, deny), flags: UInt8(MALLA_SET_AUDIT), pad: 0, policies: 1)
        try object.put("malla_set", UInt32(7), trial)
        let key = malla_address(bytes: family.pod)
        var pod = try #require(try object.value("malla_pod", key, placeholder: malla_pod()))
        pod.set = 7
        try object.put("malla_pod", key, pod)
        let dial = PacketBuilder(
            source: family.pod, sourcePort: 61000, target: family.server, targetPort: 8080,
            flags: PacketBuilder.syn)
        _ = try object.run("malla_from_eng", packet: dial.frame)
        #expect(try Self.count(object, MALLA_HOOK_FROM_ENGINE, MALLA_VERDICT_AUDITED) == 1)
        #expect(
            try Self.count(object, MALLA_HOOK_FROM_ENGINE, MALLA_VERDICT_DENIED_EGRESS) == 0)
    }

    @Test(arguments: families)
    func `what the engine dials from a port that the pod holds is reset at once`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, meshed: true)
        let syn = PacketBuilder(
            source: family.pod, sourcePort: 61000, target: family.server, targetPort: 8080,
            flags: PacketBuilder.syn)
        _ = try object.run("malla_from_pod", packet: syn.frame)

        let answer = try object.run("malla_from_eng", packet: syn.frame)
        let reset = Array(answer.packet.dropFirst(14 + (family.pod.count == 4 ? 20 : 40)))
        #expect(answer.answer == redirect, "back into the engine")
        #expect(Array(reset.prefix(4)) == [0x1f, 0x90, 0xee, 0x48] && reset[13] == 0x14)
        #expect(
            try Self.count(object, MALLA_HOOK_FROM_ENGINE, MALLA_VERDICT_ENGINE_MET_POD) == 1)
    }

    @Test(arguments: families)
    func `what policies deny the engine to dial for its client is reset at once`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, meshed: true)
        // A set without a row denies.
        var pod = malla_pod()
        (pod.interface, pod.endpoint, pod.set) = (testInterface, 1, 7)
        try object.put("malla_pod", malla_address(bytes: family.pod), pod)
        let syn = PacketBuilder(
            source: family.pod, sourcePort: 61000, target: family.server, targetPort: 8080,
            flags: PacketBuilder.syn)

        let answer = try object.run("malla_from_eng", packet: syn.frame)
        let reset = Array(answer.packet.dropFirst(14 + (family.pod.count == 4 ? 20 : 40)))
        #expect(answer.answer == redirect, "back into the engine")
        #expect(Array(reset.prefix(4)) == [0x1f, 0x90, 0xee, 0x48] && reset[13] == 0x14)
        #expect(
            try Self.count(object, MALLA_HOOK_FROM_ENGINE, MALLA_VERDICT_DENIED_EGRESS) == 1)
    }

    @Test func `answers from another node are the engine's, and nothing else of the uplink is`()
        throws
    {
        let family = Self.families[0]
        let object = try Self.node(family, meshed: true)
        let stranger = PacketBuilder(
            source: family.server, sourcePort: 8080, target: family.pod, targetPort: 61000,
            flags: PacketBuilder.ack)

        #expect(try object.run("malla_uplink", packet: stranger.frame).answer == next)
        let dial = PacketBuilder(
            source: family.pod, sourcePort: 61000, target: family.server, targetPort: 8080,
            flags: PacketBuilder.syn)
        _ = try object.run("malla_from_eng", packet: dial.frame)
        #expect(try object.run("malla_uplink", packet: stranger.frame).answer == redirect)
    }

    @Test(arguments: Lookup.families)
    func `sk_lookup gives a captured connection to a listener and resets any other`(
        _ tuple: Lookup
    ) throws {
        let object = try KernelObject("malla")
        let lookup = tuple.context
        let drop: UInt32 = 0
        let pass: UInt32 = 1
        func count(_ verdict: malla_verdict) throws -> UInt64 {
            try Self.count(object, MALLA_HOOK_TO_LISTENER, verdict)
        }
        #expect(
            try object.run("malla_listener", context: lookup).answer == drop, "nothing captured it")
        #expect(try count(MALLA_VERDICT_NO_FLOW) == 1)

        var flow = malla_flow()
        flow.kind = MALLA_FLOW_CAPTURED.rawValue
        flow.timeout_ticks = UInt32(Int32.max)
        try object.put("malla_flow", tuple.key, flow)
        #expect(try object.run("malla_listener", context: lookup).answer == drop, "no listener")
        #expect(try count(MALLA_VERDICT_NO_LISTENER) == 1)

        let listener = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        #expect(listen(listener, 8) == 0)
        try object.put("malla_listen", UInt32(0), UInt64(listener))
        var setting = malla_setting()
        setting.listeners = 1
        try object.put("malla_setting", UInt32(0), setting)
        let found = try object.run("malla_listener", context: lookup)
        #expect(found.answer == pass)
        #expect(try count(MALLA_VERDICT_ASSIGNED) == 1)
        #expect(found.context.prefix(8).contains { $0 != 0 }, "the selected socket's cookie")
    }

    /// A connection of a pod's that looks for its listener.
    struct Lookup: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let source: [UInt8]
        let target: [UInt8]
        let isIPv4: Bool
        var sourcePort: UInt16 = 40000
        var targetPort: UInt16 = 80

        /// The greater end is the source, as the kernel's programs order them.
        static let families = [
            Lookup(
                testDescription: "IPv4", source: [10, 1, 0, 10], target: [10, 96, 0, 1],
                isIPv4: true),
            Lookup(
                testDescription: "IPv6", source: HookTests.address6(0x96),
                target: HookTests.address6(0x10), isIPv4: false),
        ]

        var key: malla_flow_key {
            malla_flow_key(
                source: malla_address(bytes: source), target: malla_address(bytes: target),
                source_port_be: sourcePort.bigEndian, target_port_be: targetPort.bigEndian,
                protocol: 6, pad: (0, 0, 0))
        }

        /// struct bpf_sk_lookup, byte by byte: its first field is a union with a pointer.
        var context: [UInt8] {
            var bytes = [UInt8](repeating: 0, count: 72)
            bytes[8] = UInt8(isIPv4 ? AF_INET : AF_INET6)
            bytes[12] = 6
            let remote = isIPv4 ? 16 : 20
            bytes.replaceSubrange(remote..<remote + source.count, with: source)
            bytes.replaceSubrange(36..<38, with: PacketBuilder.bytes(sourcePort))
            let local = isIPv4 ? 40 : 44
            bytes.replaceSubrange(local..<local + target.count, with: target)
            (bytes[60], bytes[61]) = (UInt8(targetPort & 0xff), UInt8(targetPort >> 8))
            return bytes
        }
    }

    /// A pod at `lo`, a captured service with one endpoint, an engine.
    ///
    /// - Parameter server: where that endpoint is, if not at the family's.
    static func node(
        _ family: Family, meshed: Bool, server: [UInt8]? = nil, rows: [String: UInt32] = [:]
    ) throws -> KernelObject {
        let object = try KernelObject("malla", rows: rows)
        var setting = malla_setting()
        // The interface must exist.
        setting.engine = 1
        setting.listeners = 1
        setting.engine_mac = (2, 0, 0, 0, 0, 1)
        try object.put("malla_setting", UInt32(0), setting)
        var pod = malla_pod()
        pod.interface = testInterface
        pod.flags = meshed ? UInt32(MALLA_POD_MESHED) : 0
        pod.endpoint = 1
        var quota = malla_quota()
        quota.flows = 64
        for endpoint in UInt32(0)...2 { try object.put("malla_quota", endpoint, quota) }
        try object.put("malla_pod", malla_address(bytes: family.pod), pod)
        try object.put("malla_place", testInterface, pod.endpoint)
        let key = malla_end(
            address: malla_address(bytes: family.service), port_be: UInt16(80).bigEndian,
            protocol: 6, pad: 0)
        let service = malla_service(
            inside: malla_group(id: 1, endpoints: 1, positions: 0), outside: malla_group(),
            flags: UInt32(MALLA_SERVICE_CAPTURED), affinity_seconds: 0)
        try object.put("malla_service", key, service)
        let endpoint = malla_end(
            address: malla_address(bytes: server ?? family.server), port_be: UInt16(8080).bigEndian,
            protocol: 6, pad: 0)
        try object.put("malla_endpoint", malla_endpoint_key(group: 1, slot: 0), endpoint)
        try object.put(
            "malla_peer", malla_address(bytes: family.server), UInt32(MALLA_PEER_POD))
        return object
    }

    static func count(
        _ object: KernelObject, _ hook: malla_hook, _ verdict: malla_verdict
    ) throws -> UInt64 {
        let index = hook.rawValue * UInt32(MALLA_VERDICTS_MAX) + verdict.rawValue
        let processors = Int(libbpf_num_possible_cpus())
        var key = index
        var values = [UInt64](repeating: 0, count: processors)
        let descriptor = try object.map("malla_count")
        _ = unsafe values.withUnsafeMutableBytes { bytes in
            unsafe bpf_map_lookup_elem(descriptor, &key, bytes.baseAddress)
        }
        return values.reduce(0, +)
    }
}
