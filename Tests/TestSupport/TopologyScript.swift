// The shell script that makes a bed's namespaces, links, addresses, routes, cgroups and mounts.

/// One script for the whole bed: a process for each `ip` batch instead of one for each link.
struct TopologyScript {
    let bed: Testbed

    var text: String {
        let topology = bed.topology
        var lines: [String] = []
        let all = [Topology.fabric] + topology.nodes.map(\.name) + topology.pods.map(\.name)
        for part in all {
            lines += begin(part)
        }
        lines.append(
            batch(
                Topology.fabric,
                [
                    "link add br0 type bridge", "link set br0 up",
                    "addr add \(Topology.outsideV4)/24 dev br0",
                    "addr add \(Topology.outsideV6)/64 dev br0 nodad",
                ]))
        for node in topology.nodes { lines += script(node) }
        lines.append(
            batch(
                Topology.fabric,
                topology.nodes.flatMap { node in
                    [
                        "route add \(node.podsV4) via \(node.v4)",
                        "route add \(node.podsV6) via \(node.v6)",
                    ]
                }))
        return lines.joined(separator: "\n")
    }

    /// Pods' and nodes' namespaces alike. Addresses are usable at once: no duplicate detection.
    /// A machine whose default is bbr takes the silence behind a closed window for its bandwidth:
    /// on a veth it was seen to pace at 2 kbit/s for minutes afterwards. Every namespace may choose
    /// reno.
    private static let everywhere = [
        "net.ipv4.tcp_congestion_control=reno",
        "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
        "net.ipv6.conf.default.router_solicitations=0", "net.ipv6.conf.all.disable_ipv6=0",
    ]

    private static let forwarding = [
        "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
    ]

    private func script(_ node: Topology.Node) -> [String] {
        var lines: [String] = []
        let others = bed.topology.nodes.filter { $0.name != node.name }
        lines.append(
            batch(
                Topology.fabric,
                [
                    "link add p-\(node.name) type veth peer name eth0 netns \(short(node.name))",
                    "link set p-\(node.name) master br0 up",
                ]))
        lines.append(enter(node.name) + "sysctl -qw " + Self.forwarding.joined(separator: " "))
        lines.append(
            batch(
                node.name,
                [
                    "addr add \(node.v4)/24 dev eth0", "addr add \(node.v6)/64 dev eth0 nodad",
                    "link set eth0 up",
                ]
                    + others.flatMap { other in
                        [
                            "route add \(other.podsV4) via \(other.v4)",
                            "route add \(other.podsV6) via \(other.v6)",
                        ]
                    }))
        for pod in node.pods { lines += script(pod) }
        let home = "\(bed.directory)/\(node.name)"
        lines.append("mkdir -p \(home)/state \(home)/bpffs \(bed.cgroup)/\(node.name)/agent")
        lines.append("mount -t bpf bpf \(home)/bpffs")
        return lines
    }

    /// Takes a pod's veth away and makes another one of the same name, addresses and routes.
    func replug(_ pod: Topology.Pod) -> String {
        (["ip -n \(short(pod.node)) link del \(pod.interface)"] + script(pod))
            .joined(separator: "\n")
    }

    /// Takes away the pod's veth, whatever its name now, and its namespace.
    func unplug(_ pod: Topology.Pod) -> String {
        """
        ip -n \(short(pod.name)) link del eth0
        ip netns del \(short(pod.name))
        """
    }

    func plug(_ pod: Topology.Pod, as interface: String) -> String {
        (begin(pod.name) + script(pod, interface)).joined(separator: "\n")
    }

    private func begin(_ part: String) -> [String] {
        [
            "ip netns add \(short(part))",
            enter(part) + "sysctl -qw " + Self.everywhere.joined(separator: " "),
            "ip -n \(short(part)) link set lo up",
        ]
    }

    private func script(_ pod: Topology.Pod) -> [String] { script(pod, pod.interface) }

    private func script(_ pod: Topology.Pod, _ interface: String) -> [String] {
        [
            batch(
                pod.node,
                [
                    "link add \(interface) type veth peer name eth0 netns \(short(pod.name))",
                    "link set \(interface) addrgenmode none",
                    "addr add 169.254.1.1/32 dev \(interface)",
                    "addr add fe80::1/64 dev \(interface) nodad",
                    "link set \(interface) up",
                ]),
            batch(
                pod.name,
                [
                    "addr add \(pod.v4)/32 dev eth0", "addr add \(pod.v6)/128 dev eth0 nodad",
                    "link set eth0 up",
                    "route add 169.254.1.1 dev eth0",
                    "route add default via 169.254.1.1 src \(pod.v4)",
                    "route add default via fe80::1 dev eth0 src \(pod.v6)",
                ]),
            batch(
                pod.node,
                [
                    "route add \(pod.v4)/32 dev \(interface)",
                    "route add \(pod.v6)/128 dev \(interface)",
                ]),
            "mkdir -p \(bed.cgroup)/\(pod.node)/\(pod.name)",
        ]
    }

    private func short(_ part: String) -> String { "malla-\(bed.name)-\(part)" }

    private func enter(_ part: String) -> String { "nsenter --net=\(bed.namespace(part)) " }

    private func batch(_ part: String, _ commands: [String]) -> String {
        "ip -n \(short(part)) -batch - <<'BATCH'\n\(commands.joined(separator: "\n"))\nBATCH"
    }
}
