internal import CMallaABI
internal import Testing

/// What a TCX program answers.
private let next: Int32 = -1
private let drop: Int32 = 2
private let redirect: Int32 = 7

/// An ICMP error that quotes a TCP packet, every checksum right.
private struct ICMPError {
    /// Of the error itself.
    var source: [UInt8]
    var target: [UInt8]
    /// Of the packet that it is about.
    var quoted: PacketBuilder

    /// "Fragmentation needed" or "packet too big", 1 280 bytes.
    var frame: [UInt8] {
        let isIPv4 = source.count == 4
        // Its IP header and eight bytes of TCP.
        let inner = Array(quoted.frame.dropFirst(14).prefix((isIPv4 ? 20 : 40) + 8))
        var icmp: [UInt8] = (isIPv4 ? [3, 4] : [2, 0]) + [0, 0, 0, 0, 5, 0] + inner
        let pseudo = isIPv4 ? [] : source + target + [0, 0, 0, UInt8(icmp.count), 0, 0, 0, 58]
        icmp.replaceSubrange(
            2..<4, with: PacketBuilder.bytes(PacketBuilder.checksum(pseudo + icmp)))
        guard isIPv4 else {
            return RawPacket.ip6(58, icmp, source: source, target: target)
        }
        var frame = RawPacket.ip4(1, icmp, source: source, target: target)
        let sum = PacketBuilder.checksum(Array(frame[14..<34]))
        frame.replaceSubrange(24..<26, with: PacketBuilder.bytes(sum))
        return frame
    }
}

@Suite("ICMP errors about flows that were translated", .enabled(if: isRoot, "needs root"))
struct ICMPErrorTests {
    /// A pod outside of the mesh has opened a connection to a service, whose endpoint is `server`.
    private static func open(_ family: HookTests.Family) throws -> KernelObject {
        let object = try HookTests.node(family, meshed: false)
        var server = malla_pod()
        // The one interface that packets of tests come from.
        server.interface = 1
        server.endpoint = 2
        try object.put("malla_pod", malla_address(bytes: family.server), server)
        let sent = try object.run("malla_from_pod", packet: packet(family).frame)
        #expect(sent.answer == redirect, "straight into the server")
        return object
    }

    private static func packet(_ family: HookTests.Family) -> PacketBuilder {
        PacketBuilder(
            source: family.pod, sourcePort: 40000, target: family.service, targetPort: 80,
            flags: PacketBuilder.syn)
    }

    private static func router(_ family: HookTests.Family) -> [UInt8] {
        family.pod.count == 4 ? [10, 3, 3, 3] : HookTests.address6(0x33)
    }

    /// What the pod sent, as its endpoint would see it.
    private static func translated(_ family: HookTests.Family) -> PacketBuilder {
        var packet = packet(family)
        packet.target = family.server
        packet.targetPort = 8080
        return packet
    }

    @Test(arguments: HookTests.families)
    func `a router's error about what the pod sent names the service that it dialled`(
        _ family: HookTests.Family
    ) throws {
        let object = try Self.open(family)
        var error = ICMPError(
            source: Self.router(family), target: family.pod, quoted: Self.translated(family))
        let received = try object.run("malla_to_pod", packet: error.frame)

        error.quoted = Self.packet(family)
        #expect(received.answer == next)
        #expect(received.packet == error.frame, "checksums included")
    }

    @Test(arguments: HookTests.families)
    func `an endpoint's own error comes from the service that the pod dialled`(
        _ family: HookTests.Family
    ) throws {
        let object = try Self.open(family)
        var error = ICMPError(
            source: family.server, target: family.pod, quoted: Self.translated(family))
        let sent = try object.run("malla_from_pod", packet: error.frame)

        error.source = family.service
        error.quoted = Self.packet(family)
        #expect(sent.answer == redirect, "straight into the pod")
        #expect(sent.packet == error.frame, "checksums included")
    }

    @Test(arguments: HookTests.families)
    func `the pod's error about an answer reaches the endpoint, and names it`(
        _ family: HookTests.Family
    ) throws {
        let object = try Self.open(family)
        func answer(_ source: [UInt8], _ port: UInt16) -> PacketBuilder {
            PacketBuilder(
                source: source, sourcePort: port, target: family.pod, targetPort: 40000,
                flags: PacketBuilder.syn | PacketBuilder.ack)
        }
        var error = ICMPError(
            source: family.pod, target: family.service, quoted: answer(family.service, 80))
        let sent = try object.run("malla_from_pod", packet: error.frame)

        error.target = family.server
        error.quoted = answer(family.server, 8080)
        #expect(sent.answer == redirect, "straight into the server")
        #expect(sent.packet == error.frame, "checksums included")
    }

    @Test(arguments: HookTests.families)
    func `an error with another pod's address is dropped`(_ family: HookTests.Family) throws {
        let object = try Self.open(family)
        let error = ICMPError(
            source: Self.router(family), target: family.pod, quoted: Self.translated(family))
        #expect(try object.run("malla_from_pod", packet: error.frame).packet == error.frame)
        #expect(
            try HookTests.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_SPOOFED) == 1)
    }

    @Test(arguments: HookTests.families)
    func `an error about a translated flow that goes to somebody else is dropped`(
        _ family: HookTests.Family
    ) throws {
        let object = try Self.open(family)
        let error = ICMPError(
            source: family.server, target: Self.router(family), quoted: Self.translated(family))
        #expect(try object.run("malla_to_pod", packet: error.frame).packet == error.frame)
        #expect(try object.run("malla_from_pod", packet: error.frame).packet == error.frame)
        for hook in [MALLA_HOOK_TO_POD, MALLA_HOOK_FROM_POD] {
            #expect(try HookTests.count(object, hook, MALLA_VERDICT_UNRELATED) == 1)
        }
    }

    @Test(arguments: HookTests.families)
    func `a pod's error about a call to itself comes back to it as it sent it`(
        _ family: HookTests.Family
    ) throws {
        let object = try HookTests.node(family, meshed: false)
        // The service's endpoint is the pod.
        let own = malla_end(
            address: malla_address(bytes: family.pod), port_be: UInt16(8080).bigEndian, protocol: 6,
            pad: 0)
        try object.put("malla_endpoint", malla_endpoint_key(group: 1, slot: 0), own)
        _ = try object.run("malla_from_pod", packet: Self.packet(family).frame)
        // It was shown the service as its client.
        var error = ICMPError(
            source: family.pod, target: family.service,
            quoted: PacketBuilder(
                source: family.service, sourcePort: 40000, target: family.pod, targetPort: 8080,
                flags: PacketBuilder.syn))
        let sent = try object.run("malla_from_pod", packet: error.frame)

        error.source = family.service
        error.target = family.pod
        error.quoted = Self.packet(family)
        #expect(sent.answer == redirect)
        #expect(sent.packet == error.frame, "checksums included")
    }
}

@Suite("ICMP errors about what the engine speaks", .enabled(if: isRoot, "needs root"))
struct EngineErrorTests {
    private static func router(_ family: HookTests.Family) -> [UInt8] {
        family.pod.count == 4 ? [10, 3, 3, 3] : HookTests.address6(0x33)
    }

    /// In a frame for the loopback, or an uplink's program takes it for another host's.
    private static func run(
        _ object: KernelObject, _ hook: String, _ error: ICMPError
    ) throws -> Int32 {
        let frame = [UInt8](repeating: 0, count: 12) + Array(error.frame.dropFirst(12))
        return try object.run(hook, packet: frame).answer
    }

    private static func engines(_ object: KernelObject, _ hook: malla_hook) throws -> UInt64 {
        try HookTests.count(object, hook, MALLA_VERDICT_ICMP_TO_ENGINE)
    }

    @Test(arguments: HookTests.families)
    func `an error about what the engine dialled is the engine's, by an uplink and by the stack`(
        _ family: HookTests.Family
    ) throws {
        let object = try HookTests.node(family, meshed: true)
        let dial = PacketBuilder(
            source: family.pod, sourcePort: 61000, target: family.server, targetPort: 8080,
            flags: PacketBuilder.syn)
        var error = ICMPError(source: Self.router(family), target: family.pod, quoted: dial)
        #expect(try Self.run(object, "malla_uplink", error) == next)
        #expect(try Self.engines(object, MALLA_HOOK_UPLINK) == 0, "nothing was dialled")

        _ = try object.run("malla_from_eng", packet: dial.frame)
        #expect(try Self.run(object, "malla_uplink", error) == redirect)
        #expect(try Self.engines(object, MALLA_HOOK_UPLINK) == 1)
        #expect(try Self.run(object, "malla_to_pod", error) == redirect)
        #expect(try Self.engines(object, MALLA_HOOK_TO_POD) == 1)

        error.target = Self.router(family)
        #expect(try Self.run(object, "malla_uplink", error) == drop, "it goes to somebody else")
        #expect(try Self.run(object, "malla_to_pod", error) == drop)
        for hook in [MALLA_HOOK_UPLINK, MALLA_HOOK_TO_POD] {
            #expect(try HookTests.count(object, hook, MALLA_VERDICT_UNRELATED) == 1)
            #expect(try Self.engines(object, hook) == 1)
        }
    }

    @Test(arguments: HookTests.families)
    func `a pod's error about what the engine answered it is the engine's, if there is one`(
        _ family: HookTests.Family
    ) throws {
        let object = try HookTests.node(family, meshed: true)
        let syn = PacketBuilder(
            source: family.pod, sourcePort: 40000, target: family.service, targetPort: 80,
            flags: PacketBuilder.syn)
        let answer = PacketBuilder(
            source: family.service, sourcePort: 80, target: family.pod, targetPort: 40000,
            flags: PacketBuilder.syn | PacketBuilder.ack)
        let error = ICMPError(source: family.pod, target: family.service, quoted: answer)
        _ = try Self.run(object, "malla_from_pod", error)
        #expect(try Self.engines(object, MALLA_HOOK_FROM_POD) == 0, "nothing was captured")

        #expect(try object.run("malla_from_pod", packet: syn.frame).answer == redirect)
        #expect(try Self.run(object, "malla_from_pod", error) == redirect)
        #expect(try Self.engines(object, MALLA_HOOK_FROM_POD) == 1)

        try object.put("malla_setting", UInt32(0), malla_setting())
        #expect(try Self.run(object, "malla_from_pod", error) == drop)
        #expect(try Self.engines(object, MALLA_HOOK_FROM_POD) == 1)
        #expect(
            try HookTests.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_NO_ENGINE) == 1)
    }
}

@Suite("A captured connection that no engine serves", .enabled(if: isRoot, "needs root"))
struct EngineAbsenceTests {
    @Test(arguments: HookTests.families)
    func `a pod that fails closed is answered by a reset, one that fails open gets an endpoint`(
        _ family: HookTests.Family
    ) throws {
        let object = try HookTests.node(family, meshed: true)
        var setting = malla_setting()
        setting.listeners = 1
        try object.put("malla_setting", UInt32(0), setting)
        var packet = PacketBuilder(
            source: family.pod, sourcePort: 40000, target: family.service, targetPort: 80,
            flags: PacketBuilder.syn)
        var pod = malla_pod()
        pod.interface = 1
        pod.endpoint = 1
        pod.flags = UInt32(MALLA_POD_MESHED | MALLA_POD_FAILS_CLOSED)
        try object.put("malla_pod", malla_address(bytes: family.pod), pod)

        let refused = try object.run("malla_from_pod", packet: packet.frame)
        let header = family.pod.count == 4 ? 20 : 40
        let reset = Array(refused.packet.dropFirst(14 + header))
        #expect(refused.answer == redirect)
        #expect(Array(reset.prefix(4)) == [0, 80, 0x9c, 0x40] && reset[13] == 0x14, "RST and ACK")
        let pseudo = family.service + family.pod + [0, 0, 0, UInt8(reset.count), 0, 0, 0, 6]
        #expect(PacketBuilder.checksum(pseudo + reset) == 0, "its checksum is right")
        #expect(
            try HookTests.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_ENGINE_REFUSED) == 1)

        pod.flags = UInt32(MALLA_POD_MESHED)
        try object.put("malla_pod", malla_address(bytes: family.pod), pod)
        let sent = try object.run("malla_from_pod", packet: packet.frame)
        packet.target = family.server
        packet.targetPort = 8080
        #expect(sent.answer == next && sent.packet == packet.frame, "checksums included")
        #expect(try HookTests.count(object, MALLA_HOOK_FROM_POD, MALLA_VERDICT_PAST_ENGINE) == 1)
    }
}
