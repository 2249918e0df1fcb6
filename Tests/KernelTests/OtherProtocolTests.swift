internal import CMallaABI
internal import Testing

/// Whole packets of protocols that have no ports, to a pod that policies select.
@Suite(
    "Protocols without ports under policies (docs/verdicts.md)", .enabled(if: isRoot, "needs root"))
struct OtherProtocolTests {
    private static let client: UInt32 = 300
    private static let set: UInt32 = 5

    /// A node whose server is denied what no row allows.
    private static func node() throws -> KernelNode {
        let node = try KernelNode()
        for (source, target) in [
            (RawPacket.client4, RawPacket.server4), (RawPacket.client6, RawPacket.server6),
        ] {
            try node.put(source, interface: 1, endpoint: 1, identity: client)
            try node.put(target, interface: 9, endpoint: 2, identity: client + 1, set: set)
        }
        var row = malla_set()
        row.verdicts = (UInt8(MALLA_POLICY_DENY.rawValue), UInt8(MALLA_POLICY_DENY.rawValue))
        row.policies = 1
        try node.object.put("malla_set", set, row)
        return node
    }

    /// The client may send to the server: any port of TCP and of UDP, or whatever there is.
    private static func allow(_ node: KernelNode, anyProtocol: Bool) throws {
        for number in anyProtocol ? [0] : [6, 17] as [UInt8] {
            var key = malla_policy_key()
            key.prefix_bits = UInt32(
                anyProtocol ? MALLA_POLICY_ANY_PROTOCOL_BITS : MALLA_POLICY_ANY_PORT_BITS)
            key.set_be = set.bigEndian
            key.identity_be = client.bigEndian
            key.direction = UInt8(MALLA_INGRESS.rawValue)
            key.protocol = number
            var row = malla_policy()
            row.rule = 7
            row.verdict = UInt8(MALLA_POLICY_ALLOW.rawValue)
            try node.object.put("malla_policy", key, row)
        }
    }

    /// IP in IP, GRE, ESP, PIM, and a number that nobody has.
    private static let numbers: [UInt8] = [4, 47, 50, 103, 253]

    private static func packets(_ number: UInt8) -> [[UInt8]] {
        let payload = [UInt8](repeating: 1, count: 16)
        return [RawPacket.ip4(number, payload), RawPacket.ip6(number, payload)]
    }

    @Test func `are dropped by default, and a rule without ports admits them`() throws {
        let node = try Self.node()
        func expect(_ verdict: malla_verdict, _ when: String) throws {
            for number in Self.numbers {
                for (packet, family) in zip(Self.packets(number), ["IPv4", "IPv6"]) {
                    let found = try node.sends(packet)
                    #expect(found == verdict, "\(number) by \(family) \(when)")
                }
            }
        }
        try expect(MALLA_VERDICT_DENIED_INGRESS, "by default")
        try Self.allow(node, anyProtocol: false)
        try expect(MALLA_VERDICT_DENIED_INGRESS, "where a rule names ports")
        let tcp = try node.sends(RawPacket.ip6(6, RawPacket.tcp()))
        #expect(tcp == MALLA_VERDICT_DIRECT, "that is what the rule is for")
        try Self.allow(node, anyProtocol: true)
        try expect(MALLA_VERDICT_DIRECT, "where a rule has no ports")
    }

    @Test func `SCTP has its own reason, whatever rules say`() throws {
        let node = try Self.node()
        for isAllowed in [false, true] {
            if isAllowed { try Self.allow(node, anyProtocol: true) }
            for packet in [
                RawPacket.ip4(132, RawPacket.tcp()), RawPacket.ip6(132, RawPacket.tcp()),
            ] { #expect(try node.sends(packet) == MALLA_VERDICT_SCTP, "allowed: \(isAllowed)") }
        }
    }
}
