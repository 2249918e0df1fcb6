internal import CMallaABI
internal import Testing

/// One raw packet out of a pod, and what becomes of it.
struct HeaderRow: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let packets: [[UInt8]]
    let verdict: malla_verdict

    /// - Parameter before: packets that the pod sends first.
    init(_ rule: String, before: [[UInt8]] = [], _ packet: [UInt8], _ verdict: malla_verdict) {
        testDescription = rule
        packets = before + [packet]
        self.verdict = verdict
    }
}

@Suite("Every header is read or named (raw packets)", .enabled(if: isRoot, "needs root"))
struct HeaderTests {
    private typealias Raw = RawPacket
    private static let tcp = Raw.tcp()
    private static let udp = Raw.udp()
    private static let foreign: [UInt8] = [10, 9, 9, 9]

    static let ip4: [HeaderRow] = [
        HeaderRow("TCP", Raw.ip4(6, tcp), MALLA_VERDICT_DIRECT),
        HeaderRow(
            "TCP after options", Raw.ip4(6, tcp, options: [1, 1, 1, 0]), MALLA_VERDICT_DIRECT),
        HeaderRow("UDP", Raw.ip4(17, udp), MALLA_VERDICT_DIRECT),
        HeaderRow("an echo", Raw.ip4(1, Raw.icmp(8)), MALLA_VERDICT_DIRECT),
        HeaderRow(
            "an echo's reply that nobody asked for", Raw.ip4(1, Raw.icmp(0)), MALLA_VERDICT_UNASKED),
        HeaderRow(
            "a SYN-ACK that nobody asked for", Raw.ip4(6, Raw.tcp(0x12)), MALLA_VERDICT_UNASKED),
        HeaderRow("GRE, which has no ports", Raw.ip4(47, [0, 0, 0, 0]), MALLA_VERDICT_DIRECT),
        HeaderRow("SCTP", Raw.ip4(132, tcp), MALLA_VERDICT_SCTP),
        HeaderRow("another pod's address", Raw.ip4(6, tcp, source: foreign), MALLA_VERDICT_SPOOFED),
        HeaderRow("version 5", Raw.ip4(6, tcp, version: 5), MALLA_VERDICT_MALFORMED),
        HeaderRow("a header of 16 bytes", Raw.ip4(6, tcp, header: 4), MALLA_VERDICT_MALFORMED),
        HeaderRow("longer than the frame", Raw.ip4(6, tcp, length: 400), MALLA_VERDICT_MALFORMED),
        HeaderRow("shorter than its header", Raw.ip4(6, tcp, length: 12), MALLA_VERDICT_MALFORMED),
        HeaderRow("half a TCP header", Raw.ip4(6, Array(tcp.prefix(10))), MALLA_VERDICT_MALFORMED),
        HeaderRow(
            "TCP's offset below five", Raw.ip4(6, Raw.tcp(words: 4)), MALLA_VERDICT_MALFORMED),
        HeaderRow(
            "TCP's offset past the end", Raw.ip4(6, Raw.tcp(words: 15)), MALLA_VERDICT_MALFORMED),
        HeaderRow("SYN with FIN", Raw.ip4(6, Raw.tcp(0x03)), MALLA_VERDICT_MALFORMED),
        HeaderRow("SYN with RST", Raw.ip4(6, Raw.tcp(0x06)), MALLA_VERDICT_MALFORMED),
        HeaderRow("half a UDP header", Raw.ip4(17, [1, 2, 3, 4]), MALLA_VERDICT_MALFORMED),
        HeaderRow(
            "UDP shorter than its header", Raw.ip4(17, Raw.udp(length: 4)),
            MALLA_VERDICT_MALFORMED),
        HeaderRow(
            "UDP longer than the packet", Raw.ip4(17, Raw.udp(length: 90)),
            MALLA_VERDICT_MALFORMED),
        HeaderRow(
            "IPv6's neighbour discovery, which IPv4 has not", Raw.ip4(58, Raw.icmp(135), hops: 255),
            MALLA_VERDICT_DIRECT),
        HeaderRow("half an ICMP header", Raw.ip4(1, [8, 0, 0]), MALLA_VERDICT_MALFORMED),
        HeaderRow(
            "ARP", Raw.frame(0x0806, [UInt8](repeating: 0, count: 28)), MALLA_VERDICT_LINK_LOCAL),
        HeaderRow(
            "DHCP",
            Raw.ip4(
                17, Raw.udp(from: 68, to: 67), source: [0, 0, 0, 0], target: [255, 255, 255, 255]),
            MALLA_VERDICT_LINK_LOCAL),
        HeaderRow(
            "no address yet, but no DHCP", Raw.ip4(17, udp, source: [0, 0, 0, 0]),
            MALLA_VERDICT_SPOOFED),
        HeaderRow(
            "a frame of another kind", Raw.frame(0x88cc, [UInt8](repeating: 0, count: 40)),
            MALLA_VERDICT_NOT_IP),
    ]

    static let ip6: [HeaderRow] = [
        HeaderRow("TCP", Raw.ip6(6, tcp), MALLA_VERDICT_DIRECT),
        HeaderRow("an echo", Raw.ip6(58, Raw.icmp(128)), MALLA_VERDICT_DIRECT),
        HeaderRow(
            "an echo's reply that nobody asked for", Raw.ip6(58, Raw.icmp(129)),
            MALLA_VERDICT_UNASKED),
        HeaderRow(
            "a SYN-ACK that nobody asked for", Raw.ip6(6, Raw.tcp(0x12)), MALLA_VERDICT_UNASKED),
        HeaderRow(
            "hop-by-hop options", Raw.ip6(0, Raw.extension6(next: 6) + tcp), MALLA_VERDICT_DIRECT),
        HeaderRow(
            "destination options", Raw.ip6(60, Raw.extension6(next: 17) + udp), MALLA_VERDICT_DIRECT
        ),
        HeaderRow(
            "all kinds in a row",
            Raw.ip6(
                0,
                Raw.extension6(next: 60) + Raw.extension6(next: 43) + Raw.extension6(next: 51) + [
                    6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                ] + tcp), MALLA_VERDICT_DIRECT),
        HeaderRow(
            "a routing header that is not at its end",
            Raw.ip6(43, Raw.extension6(next: 6, [0, 1, 0, 0, 0, 0]) + tcp),
            MALLA_VERDICT_MALFORMED),
        HeaderRow(
            "nine extension headers",
            Raw.ip6(
                60,
                Array((0..<8).map { _ in Raw.extension6(next: 60) }.joined())
                    + Raw.extension6(next: 6) + tcp), MALLA_VERDICT_HEADERS_TOO_MANY),
        HeaderRow(
            "eight extension headers",
            Raw.ip6(
                60,
                Array((0..<7).map { _ in Raw.extension6(next: 60) }.joined())
                    + Raw.extension6(next: 6) + tcp), MALLA_VERDICT_DIRECT),
        HeaderRow(
            "an extension header cut short", Raw.ip6(60, [6, 0, 0]), MALLA_VERDICT_MALFORMED),
        HeaderRow(
            "an extension header past the end", Raw.ip6(60, [6, 9, 0, 0, 0, 0, 0, 0] + tcp),
            MALLA_VERDICT_MALFORMED),
        HeaderRow("no next header", Raw.ip6(59, []), MALLA_VERDICT_DIRECT),
        HeaderRow(
            "SCTP behind options", Raw.ip6(60, Raw.extension6(next: 132) + tcp),
            MALLA_VERDICT_SCTP),
        HeaderRow("version 4", Raw.ip6(6, tcp, version: 4), MALLA_VERDICT_MALFORMED),
        HeaderRow("longer than the frame", Raw.ip6(6, tcp, length: 400), MALLA_VERDICT_MALFORMED),
        HeaderRow(
            "a neighbour is asked for", Raw.ip6(58, Raw.icmp(135), hops: 255, source: linkLocal),
            MALLA_VERDICT_LINK_LOCAL),
        HeaderRow(
            "the same from far away", Raw.ip6(58, Raw.icmp(135), hops: 64, source: linkLocal),
            MALLA_VERDICT_SPOOFED),
        HeaderRow(
            "the same for another pod",
            Raw.ip6(58, Raw.icmp(135), hops: 255, source: Raw.address6(0x77)), MALLA_VERDICT_SPOOFED
        ),
        HeaderRow(
            "a pod plays router", Raw.ip6(58, Raw.icmp(134), hops: 255, source: linkLocal),
            MALLA_VERDICT_SPOOFED),
        HeaderRow(
            "IPv4's echo reply, which IPv6 has not", Raw.ip6(1, Raw.icmp(0)), MALLA_VERDICT_DIRECT),
        HeaderRow("link-local TCP", Raw.ip6(6, tcp, source: linkLocal), MALLA_VERDICT_SPOOFED),
        HeaderRow(
            "DHCPv6", Raw.ip6(17, Raw.udp(from: 546, to: 547), source: linkLocal),
            MALLA_VERDICT_LINK_LOCAL),
    ]
    private static let linkLocal: [UInt8] = [0xfe, 0x80] + [UInt8](repeating: 0, count: 13) + [1]

    private static let more: UInt16 = 0x2000
    private static let first4 = Raw.ip4(17, udp + [0, 0, 0, 0], fragment: more)
    private static let first6 = Raw.ip6(
        44, Raw.fragment6(next: 17, offset: 0, more: true) + Raw.udp(length: 80))
    static let fragments: [HeaderRow] = [
        HeaderRow("IPv4: a first one is judged", first4, MALLA_VERDICT_DIRECT),
        HeaderRow(
            "IPv4: a later one follows its first", before: [first4],
            Raw.ip4(17, [1, 2, 3, 4], fragment: 2), MALLA_VERDICT_DIRECT),
        HeaderRow(
            "IPv4: a later one without its first", Raw.ip4(17, [1, 2, 3, 4], fragment: 2),
            MALLA_VERDICT_FRAGMENT_LOST),
        HeaderRow(
            "IPv4: another datagram's", before: [first4],
            Raw.ip4(17, [1, 2, 3, 4], fragment: 2, id: 8), MALLA_VERDICT_FRAGMENT_LOST),
        HeaderRow(
            "IPv4: a first one without the ports", Raw.ip4(17, [1, 2, 3, 4], fragment: more),
            MALLA_VERDICT_FRAGMENT_SHORT),
        HeaderRow(
            "IPv4: a first one without TCP's flags",
            Raw.ip4(6, Array(tcp.prefix(8)), fragment: more), MALLA_VERDICT_FRAGMENT_SHORT),
        HeaderRow(
            "IPv4: one that would write over TCP's flags", Raw.ip4(6, [1, 2, 3, 4], fragment: 1),
            MALLA_VERDICT_FRAGMENT_SHORT),
        HeaderRow("IPv4: SCTP", Raw.ip4(132, [1, 2, 3, 4], fragment: 2), MALLA_VERDICT_SCTP),
        HeaderRow("IPv6: a first one is judged", first6, MALLA_VERDICT_DIRECT),
        HeaderRow(
            "IPv6: a later one follows its first", before: [first6],
            Raw.ip6(44, Raw.fragment6(next: 17, offset: 2, more: false) + [1, 2, 3, 4]),
            MALLA_VERDICT_DIRECT),
        HeaderRow(
            "IPv6: a later one without its first",
            Raw.ip6(44, Raw.fragment6(next: 17, offset: 2, more: false) + [1, 2, 3, 4]),
            MALLA_VERDICT_FRAGMENT_LOST),
        HeaderRow(
            "IPv6: one that is the whole packet",
            Raw.ip6(44, Raw.fragment6(next: 6, offset: 0, more: false) + tcp),
            MALLA_VERDICT_DIRECT),
    ]

    private static func unreachable4(
        about inner: [UInt8], from source: [UInt8], to target: [UInt8] = Raw.server4
    ) -> [UInt8] {
        Raw.ip4(
            1, Raw.icmp(3, id: 0, Array(inner.dropFirst(14).prefix(28))), source: source,
            target: target)
    }
    private static let answer6 = Array(
        Raw.ip6(
            17, Raw.udp(from: 53, to: 40000), source: Raw.server6, target: Raw.client6
        ).dropFirst(14))
    private static let request = Raw.ip4(17, udp)
    private static let answer = Raw.ip4(
        17, Raw.udp(from: 53, to: 40000), source: Raw.server4, target: Raw.client4)
    static let errors: [HeaderRow] = [
        HeaderRow(
            "about a known flow", before: [request], unreachable4(about: answer, from: Raw.client4),
            MALLA_VERDICT_RELATED),
        HeaderRow(
            "about a known flow, from another address", before: [request],
            unreachable4(about: answer, from: foreign), MALLA_VERDICT_SPOOFED),
        HeaderRow(
            "about a known flow, to somebody else", before: [request],
            unreachable4(about: answer, from: Raw.client4, to: foreign), MALLA_VERDICT_UNRELATED),
        HeaderRow(
            "IPv6: about a known flow, to somebody else", before: [Raw.ip6(17, udp)],
            Raw.ip6(58, Raw.icmp(1, answer6), target: Raw.address6(0x77)),
            MALLA_VERDICT_UNRELATED),
        HeaderRow(
            "about a packet that another sent", before: [request],
            unreachable4(about: request, from: Raw.client4), MALLA_VERDICT_UNRELATED),
        HeaderRow(
            "about nothing known: as any other ICMP",
            unreachable4(about: answer, from: Raw.client4), MALLA_VERDICT_DIRECT),
        HeaderRow(
            "with half a packet inside", Raw.ip4(1, Raw.icmp(3, [0x45, 0, 0])), MALLA_VERDICT_DIRECT
        ),
        HeaderRow(
            "IPv6: about a known flow", before: [Raw.ip6(17, udp)],
            Raw.ip6(58, Raw.icmp(1, answer6)), MALLA_VERDICT_RELATED),
    ]

    @Test(arguments: ip4) func `IPv4`(_ row: HeaderRow) throws { try expect(row) }
    @Test(arguments: ip6) func `IPv6`(_ row: HeaderRow) throws { try expect(row) }
    @Test(arguments: fragments) func `a fragment`(_ row: HeaderRow) throws { try expect(row) }
    @Test(arguments: errors) func `an ICMP error`(_ row: HeaderRow) throws { try expect(row) }

    private func expect(_ row: HeaderRow) throws {
        let node = try KernelNode()
        var seen: malla_verdict?
        for packet in row.packets { seen = try node.sends(packet) }
        #expect(seen == row.verdict, "got \(seen.map(node.name) ?? "none or several")")
    }
}
