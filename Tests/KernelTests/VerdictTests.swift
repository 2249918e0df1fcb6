internal import CLinux
internal import CMallaABI
internal import Foundation
internal import Glibc
internal import Testing

/// What a TCX program answers.
private let next: Int32 = -1
private let drop: Int32 = 2
private let redirect: Int32 = 7

/// Verdicts that need the kernel's routes: programs run in a network namespace with one link of an
/// MTU of 1280, 10.9.0.1/24 and fd09::1/64 on it, and nothing known of 203.0.113.0/24 and
/// fd13::/64.
@Suite("What the programs do by the node's routes", .enabled(if: isRoot, "needs root"))
struct VerdictTests {
    struct Family: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let pod: [UInt8]
        let node: [UInt8]
        let neighbour: [UInt8]
        let nowhere: [UInt8]
        let any: [UInt8]
    }

    static let families = [
        Family(
            testDescription: "IPv4", pod: [10, 1, 0, 10], node: [10, 9, 0, 1],
            neighbour: [10, 9, 0, 9], nowhere: [203, 0, 113, 1], any: [0, 0, 0, 0]),
        Family(
            testDescription: "IPv6", pod: address6(0x10, 0x10), node: address6(0x09, 0x01),
            neighbour: address6(0x09, 0x09), nowhere: address6(0x13, 0x01),
            any: [UInt8](repeating: 0, count: 16)),
    ]

    private static func address6(_ net: UInt8, _ host: UInt8) -> [UInt8] {
        [0xfd, net] + [UInt8](repeating: 0, count: 13) + [host]
    }

    @Test(arguments: families)
    func `the engine's packets leave by the routes, or go up the stack as the pod, by name`(
        _ family: Family
    ) throws {
        try Self.inNamespace {
            let object = try KernelObject("malla")
            try Self.put(object, pod: family.pod)
            func sends(_ target: [UInt8], _ padding: Int = 0) throws -> Int32 {
                var dial = PacketBuilder(
                    source: family.pod, sourcePort: 61000, target: target, targetPort: 8080,
                    flags: PacketBuilder.syn)
                dial.sourcePort += UInt16(target[target.count - 1]) + UInt16(padding > 0 ? 1 : 0)
                return try object.run("malla_from_eng", packet: dial.padded(padding)).answer
            }
            func count(_ verdict: malla_verdict) throws -> UInt64 {
                try HookTests.count(object, MALLA_HOOK_FROM_ENGINE, verdict)
            }
            for pod in [family.neighbour, family.nowhere] {
                try object.put(
                    "malla_peer", malla_address(bytes: pod), UInt32(MALLA_PEER_POD))
            }
            #expect(try sends(family.neighbour) == redirect)
            #expect(try count(MALLA_VERDICT_FORWARDED) == 1)
            #expect(try sends(family.node) == redirect)
            #expect(try count(MALLA_VERDICT_AS_POD) == 1, "the node itself")
            var world = family.neighbour
            world[world.count - 1] += 1
            #expect(try sends(world) == redirect)
            #expect(try count(MALLA_VERDICT_AS_POD) == 2, "what is no pod")
            #expect(try sends(family.neighbour, 1400) == redirect)
            #expect(try count(MALLA_VERDICT_AS_POD_TOO_LONG) == 1)
            #expect(try sends(family.nowhere) == redirect)
            #expect(try count(MALLA_VERDICT_AS_POD_NO_ROUTE) == 1)
        }
    }

    @Test(arguments: families)
    func `what is too long for the way to an endpoint is answered, what has no way is dropped`(
        _ family: Family
    ) throws {
        try Self.inNamespace {
            let object = try Self.service(family, endpoint: family.neighbour)
            let syn = PacketBuilder(
                source: family.nowhere, sourcePort: 5000, target: family.node, targetPort: 30080,
                flags: PacketBuilder.syn)
            let answer = try object.run("malla_outside", packet: syn.padded(1400))
            let header = 14 + (family.pod.count == 4 ? 20 : 40)
            let icmp = Array(answer.packet.dropFirst(header).prefix(8))
            #expect(answer.answer == redirect, "back to who sent it")
            #expect(Array(icmp.prefix(2)) == (family.pod.count == 4 ? [3, 4] : [2, 0]))
            #expect(Array(icmp.suffix(2)) == [0x05, 0x00], "an MTU of 1280")
            #expect(try Self.outside(object, MALLA_VERDICT_TOO_LONG) == 1)

            let lost = try Self.service(family, endpoint: family.nowhere)
            #expect(try lost.run("malla_outside", packet: syn.frame).answer == drop)
            #expect(try Self.outside(lost, MALLA_VERDICT_NO_WAY) == 1)
        }
    }

    @Test(arguments: families)
    func `the answer of a pod to somebody outside leaves with the service's address`(
        _ family: Family
    ) throws {
        try Self.inNamespace {
            let object = try Self.service(family, endpoint: family.pod)
            try Self.put(object, pod: family.pod)
            let syn = PacketBuilder(
                source: family.neighbour, sourcePort: 5000, target: family.node,
                targetPort: 30080, flags: PacketBuilder.syn)
            #expect(try object.run("malla_outside", packet: syn.frame).answer == redirect)
            var back = PacketBuilder(
                source: family.pod, sourcePort: 8080, target: family.neighbour, targetPort: 5000,
                flags: PacketBuilder.syn | PacketBuilder.ack)
            let sent = try object.pass(
                "malla_back", packet: back.frame,
                seal: UInt32(MALLA_SEAL) | MALLA_HOOK_FROM_POD.rawValue)
            back.source = family.node
            back.sourcePort = 30080
            // By a route: a hop less to go.
            back.hops = 63
            #expect(sent.answer == redirect)
            #expect(sent.packet == back.frame, "checksums included")
            #expect(
                try HookTests.count(object, MALLA_HOOK_BACK, MALLA_VERDICT_TRANSLATED_BACK) == 1)
        }
    }

    /// A frame is a packet without a link-layer header if the source says 0x0800 where that header
    /// has its type: BPF_PROG_TEST_RUN reads it there.
    @Test func `on devices without a link-layer header services are met at offset 0`() throws {
        let client: [UInt8] = [8, 0, 9, 9]
        let family = Self.families[0]
        try Self.inNamespace {
            let object = try Self.service(family, endpoint: family.node)
            var syn = PacketBuilder(
                source: client, sourcePort: 5000, target: family.neighbour, targetPort: 30080,
                flags: PacketBuilder.syn)
            try object.put(
                "malla_near", malla_address(bytes: family.neighbour), UInt32(MALLA_NEAR_OWN))
            let sent = try object.run("malla_outside3", packet: Array(syn.frame.dropFirst(14)))
            syn.target = family.node
            syn.targetPort = 8080
            #expect(sent.answer == next, "a server of the node's own")
            #expect(sent.packet == Array(syn.frame.dropFirst(14)), "checksums included")
        }
        try Self.inNamespace {
            // The node's own server is at an address that reads as that type.
            let object = try Self.service(family, endpoint: client)
            try object.put("malla_near", malla_address(bytes: client), UInt32(MALLA_NEAR_OWN))
            let syn = PacketBuilder(
                source: family.neighbour, sourcePort: 5000, target: family.node,
                targetPort: 30080, flags: PacketBuilder.syn)
            #expect(try object.run("malla_outside", packet: syn.frame).answer == next)
            var back = PacketBuilder(
                source: client, sourcePort: 8080, target: family.neighbour, targetPort: 5000,
                flags: PacketBuilder.syn | PacketBuilder.ack)
            let sent = try object.run("malla_leaving3", packet: Array(back.frame.dropFirst(14)))
            back.source = family.node
            back.sourcePort = 30080
            #expect(sent.answer == next)
            #expect(sent.packet == Array(back.frame.dropFirst(14)), "checksums included")
        }
    }

    @Test(arguments: families)
    func `what has used up its hops on the way to an endpoint is answered so`(
        _ family: Family
    ) throws {
        try Self.inNamespace {
            let object = try Self.service(family, endpoint: family.neighbour)
            var syn = PacketBuilder(
                source: family.nowhere, sourcePort: 5000, target: family.node, targetPort: 30080,
                flags: PacketBuilder.syn)
            syn.hops = 1
            let answer = try object.run("malla_outside", packet: syn.frame)
            #expect(answer.answer == redirect, "back to who sent it")
            #expect(Self.icmp(answer.packet, family) == Self.expired(family))
            #expect(try Self.outside(object, MALLA_VERDICT_EXPIRED) == 1)
            #expect(try Self.outside(object, MALLA_VERDICT_TRANSLATED) == 0)

            syn.hops = 2
            let sent = try object.run("malla_outside", packet: syn.frame)
            #expect(sent.answer == redirect)
            #expect(sent.packet[family.pod.count == 4 ? 22 : 21] == 1, "a hop less to go")
            #expect(try Self.outside(object, MALLA_VERDICT_EXPIRED) == 1)
            #expect(try Self.outside(object, MALLA_VERDICT_TRANSLATED) == 1)
        }
    }

    @Test(arguments: families)
    func `a pod's answer to somebody outside that has used up its hops is answered so`(
        _ family: Family
    ) throws {
        try Self.inNamespace {
            let object = try Self.service(family, endpoint: family.pod)
            try Self.put(object, pod: family.pod)
            let syn = PacketBuilder(
                source: family.neighbour, sourcePort: 5000, target: family.node,
                targetPort: 30080, flags: PacketBuilder.syn)
            #expect(try object.run("malla_outside", packet: syn.frame).answer == redirect)
            let seal = UInt32(MALLA_SEAL) | MALLA_HOOK_FROM_POD.rawValue
            var back = PacketBuilder(
                source: family.pod, sourcePort: 8080, target: family.neighbour, targetPort: 5000,
                flags: PacketBuilder.syn | PacketBuilder.ack)
            func count(_ verdict: malla_verdict) throws -> UInt64 {
                try HookTests.count(object, MALLA_HOOK_BACK, verdict)
            }
            back.hops = 1
            let answer = try object.pass("malla_back", packet: back.frame, seal: seal)
            #expect(answer.answer == redirect, "back into the pod")
            #expect(Self.icmp(answer.packet, family) == Self.expired(family))
            #expect(try count(MALLA_VERDICT_EXPIRED) == 1)

            back.hops = 2
            let sent = try object.pass("malla_back", packet: back.frame, seal: seal)
            #expect(sent.answer == redirect)
            #expect(try count(MALLA_VERDICT_EXPIRED) == 1)
            #expect(try count(MALLA_VERDICT_TRANSLATED_BACK) == 1)
        }
    }

    /// IPv6 only: IPv4 asks for neighbours by ARP, which no route takes off the link.
    @Test func `neighbour discovery out of a pod stays on its link`() throws {
        let family = Self.families[1]
        try Self.inNamespace {
            let object = try KernelObject("malla")
            try Self.put(object, pod: family.pod)
            func asks(_ type: UInt8, _ target: [UInt8]) throws -> Int32 {
                let frame = RawPacket.ip6(
                    58, RawPacket.icmp(type), hops: 255, source: family.pod, target: target)
                return try object.run("malla_from_pod", packet: frame).answer
            }
            func count(_ verdict: malla_verdict) throws -> UInt64 {
                try HookTests.count(object, MALLA_HOOK_FROM_POD, verdict)
            }
            let link: [UInt8] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
            let solicited: [UInt8] =
                [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 9]
            for target in [family.node, link, solicited] {
                #expect(try asks(135, target) == next)
            }
            #expect(try count(MALLA_VERDICT_LINK_LOCAL) == 3)
            #expect(try count(MALLA_VERDICT_OFF_LINK) == 0)
            // The node would forward it.
            for type in [UInt8(133), 135, 136] {
                #expect(try asks(type, family.neighbour) == drop)
            }
            #expect(try count(MALLA_VERDICT_OFF_LINK) == 3)
            #expect(try count(MALLA_VERDICT_LINK_LOCAL) == 3)
        }
    }

    /// As for services; in IPv6's source the type is the third group. A frame whose first byte is
    /// odd is multicast, not another host's: IPv4's is, IPv6's with a traffic class.
    @Test func `on devices without a link-layer header the engine's answers are met`() throws {
        let servers: [[UInt8]] = [
            [8, 0, 9, 9], [0xfd, 0x11, 0, 1, 0x86, 0xdd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        ]
        for (known, server) in zip(HookTests.families, servers) {
            let family = HookTests.Family(
                testDescription: known.testDescription, pod: known.pod, service: known.service,
                server: server)
            let object = try HookTests.node(family, meshed: true)
            let dial = PacketBuilder(
                source: family.pod, sourcePort: 61000, target: server, targetPort: 8080,
                flags: PacketBuilder.syn)
            let answer = PacketBuilder(
                source: server, sourcePort: 8080, target: family.pod, targetPort: 61000,
                flags: PacketBuilder.ack)
            var packet = Array(answer.frame.dropFirst(14))
            if server.count == 16 { packet[0] = 0x61 }
            func count(_ verdict: malla_verdict) throws -> UInt64 {
                try HookTests.count(object, MALLA_HOOK_UPLINK, verdict)
            }
            #expect(try object.run("malla_uplink3", packet: packet).answer == next)
            #expect(try count(MALLA_VERDICT_PASS) == 1, "nothing was dialled")
            _ = try object.run("malla_from_eng", packet: dial.frame)
            #expect(try object.run("malla_uplink3", packet: packet).answer == redirect)
            #expect(try count(MALLA_VERDICT_TO_ENGINE) == 1)
        }
    }

    // MARK: The bed

    /// The ICMP header of an answer.
    private static func icmp(_ frame: [UInt8], _ family: Family) -> [UInt8] {
        Array(frame.dropFirst(14 + (family.pod.count == 4 ? 20 : 40)).prefix(2))
    }

    /// "Time exceeded", in transit.
    private static func expired(_ family: Family) -> [UInt8] {
        family.pod.count == 4 ? [11, 0] : [3, 0]
    }

    private static func put(_ object: KernelObject, pod address: [UInt8]) throws {
        var setting = malla_setting()
        (setting.engine, setting.listeners) = (1, 1)
        try object.put("malla_setting", UInt32(0), setting)
        var pod = malla_pod()
        (pod.interface, pod.endpoint) = (1, 1)
        var quota = malla_quota()
        quota.flows = 64
        for endpoint in UInt32(0)...2 { try object.put("malla_quota", endpoint, quota) }
        try object.put("malla_pod", malla_address(bytes: address), pod)
        try object.put("malla_place", pod.interface, pod.endpoint)
    }

    /// Node port 30080 of the node, dialled from its own address.
    private static func service(_ family: Family, endpoint: [UInt8]) throws -> KernelObject {
        let object = try KernelObject("malla")
        var node = malla_node()
        node.flags = UInt32(MALLA_NODE_SERVES)
        node.source4 = malla_address(bytes: families[0].node)
        node.source6 = malla_address(bytes: families[1].node)
        try object.put("malla_node", UInt32(0), node)
        for address in [family.node] {
            try object.put("malla_near", malla_address(bytes: address), UInt32(MALLA_NEAR_OWN))
        }
        let group = malla_group(id: 1, endpoints: 1, positions: 0)
        func end(_ address: [UInt8], _ port: UInt16) -> malla_end {
            malla_end(
                address: malla_address(bytes: address), port_be: port.bigEndian, protocol: 6,
                pad: 0)
        }
        try object.put(
            "malla_service", end(family.any, 30080),
            malla_service(inside: group, outside: group, flags: 0, affinity_seconds: 0))
        try object.put(
            "malla_endpoint", malla_endpoint_key(group: 1, slot: 0), end(endpoint, 8080))
        return object
    }

    private static func outside(
        _ object: KernelObject, _ verdict: malla_verdict
    ) throws -> UInt64 {
        try HookTests.count(object, MALLA_HOOK_OUTSIDE, verdict)
    }

    private static let namespace = "malla-verdicts-\(getpid())"
    private static let script = """
        set -e
        ip netns del \(namespace) 2>/dev/null || true
        ip netns add \(namespace)
        nsenter --net=/run/netns/\(namespace) sh -ec '
          ip link set lo up
          echo 1 > /proc/sys/net/ipv4/ip_forward
          echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
          ip link add near type veth peer name away
          ip link set near mtu 1280 up
          ip link set away mtu 1280 up
          ip addr add 10.9.0.1/24 dev near
          ip addr add fd09::1/64 dev near nodad
          ip route add unreachable 203.0.113.0/24
          ip route add unreachable fd13::/64
        '
        """

    /// Runs `body` on a thread that is in a network namespace of its own; both end with it.
    private static func inNamespace(_ body: @escaping @Sendable () throws -> Void) throws {
        let done = DispatchSemaphore(value: 0)
        let result = Outcome()
        // Text that lives until the call returns.
        guard unsafe system(script) == 0 else {
            throw KernelFailure("the namespace cannot be set up")
        }
        defer { _ = unsafe system("ip netns del \(namespace)") }
        let descriptor = unsafe open("/run/netns/\(namespace)", O_RDONLY | O_CLOEXEC)
        defer { close(descriptor) }
        Thread.detachNewThread {
            defer { done.signal() }
            do {
                let entered = engine_enter_namespace(descriptor)
                guard entered == 0 else { throw KernelFailure("setns: errno \(-entered)") }
                try body()
            } catch { result.error = error }
        }
        done.wait()
        if let error = result.error { throw error }
    }

    /// Written before the semaphore is signalled, read after.
    private final class Outcome: @unchecked Sendable {
        var error: (any Error)?
    }
}

extension PacketBuilder {
    /// The frame, longer by so many bytes, which are not in the TCP checksum.
    fileprivate func padded(_ count: Int) -> [UInt8] {
        var frame = frame
        guard count > 0 else { return frame }
        let isIPv4 = source.count == 4
        let length = UInt16(frame.count - 14 - (isIPv4 ? 0 : 40) + count)
        let at = isIPv4 ? 16 : 18
        frame.replaceSubrange(at..<at + 2, with: Self.bytes(length))
        if isIPv4 {
            frame.replaceSubrange(24..<26, with: [0, 0])
            let sum = Self.checksum(Array(frame[14..<34]))
            frame.replaceSubrange(24..<26, with: Self.bytes(sum))
        }
        return frame + [UInt8](repeating: 0, count: count)
    }
}
