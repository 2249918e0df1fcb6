internal import CMallaABI
internal import Testing

/// What a TCX program answers.
private let next: Int32 = -1
private let drop: Int32 = 2
private let redirect: Int32 = 7

@Suite("Services for those outside, on whole packets", .enabled(if: isRoot, "needs root"))
struct OutsideTests {
    struct Family: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let client: [UInt8]
        let node: [UInt8]
        let pod: [UInt8]
        let any: [UInt8]
    }

    static let families = [
        Family(
            testDescription: "IPv4", client: [198, 51, 100, 1], node: [10, 0, 0, 1],
            pod: [10, 1, 0, 11], any: [0, 0, 0, 0]),
        Family(
            testDescription: "IPv6", client: address6(0x51), node: address6(0x01),
            pod: address6(0x11), any: [UInt8](repeating: 0, count: 16)),
    ]

    static func address6(_ last: UInt8) -> [UInt8] {
        [0xfd, 0x10, 0, 1] + [UInt8](repeating: 0, count: 11) + [last]
    }

    @Test(arguments: families)
    func `a node port's packet gets the pod's address, checksums included`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, endpoints: 1)
        var packet = PacketBuilder(
            source: family.client, sourcePort: 5000, target: family.node, targetPort: 30080,
            flags: PacketBuilder.syn)
        let sent = try object.run("malla_outside", packet: packet.frame)
        packet.target = family.pod
        packet.targetPort = 8080

        #expect(sent.answer == redirect)
        #expect(sent.packet == packet.frame)
    }

    @Test(arguments: families)
    func `without endpoints a SYN is answered by a reset`(_ family: Family) throws {
        let object = try Self.node(family, endpoints: 0)
        let packet = PacketBuilder(
            source: family.client, sourcePort: 5000, target: family.node, targetPort: 30080,
            flags: PacketBuilder.syn)
        let answer = try object.run("malla_outside", packet: packet.frame)

        #expect(answer.answer == redirect)
        let header = family.node.count == 4 ? 20 : 40
        let reset = Array(answer.packet.dropFirst(14 + header))
        #expect(answer.packet.count == 14 + header + 20)
        #expect(Array(reset.prefix(4)) == [0x75, 0x80, 0x13, 0x88], "ports, the other way round")
        #expect(reset[13] == 0x14, "RST and ACK")
        #expect(Array(reset[8..<12]) == [0, 0, 0, 2], "of the SYN's number and one")
        #expect(Self.sum(answer.packet, header: header, family) == 0xffff, "its checksum is right")
    }

    @Test func `the answer of the node's own server leaves with the service's address`() throws {
        let family = Self.families[0]
        let object = try Self.node(family, endpoints: 1, own: true)
        let packet = PacketBuilder(
            source: family.client, sourcePort: 5000, target: family.node, targetPort: 30080,
            flags: PacketBuilder.syn)
        #expect(try object.run("malla_outside", packet: packet.frame).answer == next)

        var back = PacketBuilder(
            source: family.pod, sourcePort: 8080, target: family.client, targetPort: 5000,
            flags: PacketBuilder.syn | PacketBuilder.ack)
        let sent = try object.run("malla_leaving", packet: back.frame)
        back.source = family.node
        back.sourcePort = 30080
        #expect(sent.answer == next)
        #expect(sent.packet == back.frame)
    }

    @Test func `a flood from outside ends no flow that lives, and is refused by name`() throws {
        let family = Self.families[0]
        // 1 024 rows: 512 flows.
        let object = try Self.node(family, endpoints: 1)
        var packet = PacketBuilder(
            source: family.client, sourcePort: 5000, target: family.node, targetPort: 30080,
            flags: PacketBuilder.syn)
        for port in UInt16(5000)..<6000 {
            packet.sourcePort = port
            let isRefused = try object.run("malla_outside", packet: packet.frame).answer == drop
            #expect(isRefused == (port >= 5512), "from \(port)")
        }
        let full = try HookTests.count(object, MALLA_HOOK_OUTSIDE, MALLA_VERDICT_SNAT_FULL)
        #expect(full == 488)
        packet.sourcePort = 5000
        packet.flags = PacketBuilder.ack
        #expect(try object.run("malla_outside", packet: packet.frame).answer == redirect)
    }

    /// A blind RST has the right ports and any number: its receiver does not believe it.
    @Test(arguments: families)
    func `a flow that goes on after somebody's reset is not taken for one that has ended`(
        _ family: Family
    ) throws {
        let object = try Self.node(family, endpoints: 1)
        let keys = [
            (family.client, 5000, family.node, 30080), (family.pod, 8080, family.client, 5000),
        ].map { source, from, target, to in
            malla_flow_key(
                source: malla_address(bytes: source), target: malla_address(bytes: target),
                source_port_be: UInt16(from).bigEndian, target_port_be: UInt16(to).bigEndian,
                protocol: 6, pad: (0, 0, 0))
        }
        let reset: UInt32 = 4
        func areReset() throws -> [Bool] {
            try keys.map { key in
                let row = try object.value("malla_snat", key, placeholder: malla_snat())
                return try #require(row).state & reset != 0
            }
        }
        var packet = PacketBuilder(
            source: family.client, sourcePort: 5000, target: family.node, targetPort: 30080,
            flags: PacketBuilder.syn)
        func send(_ flags: UInt8) throws {
            packet.flags = flags
            #expect(try object.run("malla_outside", packet: packet.frame).answer == redirect)
        }
        let answer = PacketBuilder(
            source: family.pod, sourcePort: 8080, target: family.client, targetPort: 5000,
            flags: PacketBuilder.ack)
        for flags in [PacketBuilder.syn, PacketBuilder.ack] { try send(flags) }
        #expect(try areReset() == [false, false])

        try send(PacketBuilder.rst)
        #expect(try areReset() == [true, true])
        try send(PacketBuilder.ack)
        // It may have been the pod's own reset, which is still on its way to the client.
        #expect(try areReset() == [false, true], "the client goes on")
        let seal = UInt32(MALLA_SEAL) | MALLA_HOOK_FROM_POD.rawValue
        _ = try object.pass("malla_back", packet: answer.frame, seal: seal)
        #expect(try areReset() == [false, false], "the pod goes on, too")
        // What was on its way when the client reset it says nothing of the client.
        try send(PacketBuilder.rst | PacketBuilder.ack)
        _ = try object.pass("malla_back", packet: answer.frame, seal: seal)
        #expect(try areReset() == [true, false])
        // A true one is the last word.
        try send(PacketBuilder.rst)
        #expect(try areReset() == [true, true])
    }

    @Test func `where nothing is served to anybody outside, nothing is looked at`() throws {
        let family = Self.families[0]
        let object = try Self.node(family, endpoints: 1, serves: false)
        let packet = PacketBuilder(
            source: family.client, sourcePort: 5000, target: family.node, targetPort: 30080,
            flags: PacketBuilder.syn)
        #expect(try object.run("malla_outside", packet: packet.frame).packet == packet.frame)
    }

    /// The one's complement sum over TCP and its pseudo header: all ones if the checksum is right.
    private static func sum(_ frame: [UInt8], header: Int, _ family: Family) -> UInt32 {
        let tcp = Array(frame.dropFirst(14 + header))
        let bytes = family.node + family.client + [0, 0, 0, UInt8(tcp.count), 0, 0, 0, 6] + tcp
        var sum: UInt32 = 0
        for at in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[at]) << 8 | UInt32(bytes[at + 1])
        }
        while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
        return sum
    }

    /// A node port 30080 with a pod (or, `own`, a server of the node) at `family.pod`:8080.
    private static func node(
        _ family: Family, endpoints: UInt32, own: Bool = false, serves: Bool = true
    ) throws -> KernelObject {
        let object = try KernelObject("malla")
        var node = malla_node()
        node.flags = serves ? UInt32(MALLA_NODE_SERVES) : 0
        try object.put("malla_node", UInt32(0), node)
        try object.put(
            "malla_near", malla_address(bytes: family.node), UInt32(MALLA_NEAR_OWN))
        let group = malla_group(id: 1, endpoints: endpoints, positions: 0)
        try object.put(
            "malla_service",
            malla_end(
                address: malla_address(bytes: family.any), port_be: UInt16(30080).bigEndian,
                protocol: 6, pad: 0),
            malla_service(inside: group, outside: group, flags: 0, affinity_seconds: 0))
        try object.put(
            "malla_endpoint", malla_endpoint_key(group: 1, slot: 0),
            malla_end(
                address: malla_address(bytes: family.pod), port_be: UInt16(8080).bigEndian,
                protocol: 6, pad: 0))
        if own {
            try object.put(
                "malla_near", malla_address(bytes: family.pod), UInt32(MALLA_NEAR_OWN))
        } else {
            var pod = malla_pod()
            pod.interface = 9
            pod.endpoint = 1
            try object.put("malla_pod", malla_address(bytes: family.pod), pod)
        }
        return object
    }
}
