// What the node must offer: mounts, privileges, forwarding, ports.

internal import AdminAPI
internal import CLinux
internal import Foundation

enum NodeChecks {
    /// - Parameter agent: of an agent that runs, what it uses; else its defaults are looked at.
    static func mounts(
        _ machine: Machine, agent: StatusItem.Datapath? = nil
    ) -> [CheckItem] {
        let groups = machine.mounts(ofType: "cgroup2")
        let pins = machine.mounts(ofType: "bpf")
        if let agent, !agent.bpffs.isEmpty {
            return [
                used("cgroup v2", agent.cgroup, below: groups, option: "--cgroup"),
                used("bpffs", agent.bpffs, below: pins, option: "--bpffs"),
            ]
        }
        return [
            groups.isEmpty
                ? .fail(
                    "cgroup v2", "not mounted",
                    remedy: "mount -t cgroup2 none /sys/fs/cgroup, or boot with "
                        + "systemd.unified_cgroup_hierarchy=1")
                : .ok("cgroup v2", groups.joined(separator: ", ")),
            pinning(pins),
        ]
    }

    /// A path that the agent was given must lie in a mount of its type.
    private static func used(
        _ name: String, _ path: String, below mounts: [String], option: String
    ) -> CheckItem {
        let isBelow = mounts.contains { mount in
            path == mount || path.hasPrefix(mount.hasSuffix("/") ? mount : mount + "/")
        }
        return isBelow
            ? .ok(name, "\(path), which the agent uses")
            : .warn(
                name, "the agent uses \(path), where this command sees no such mount",
                remedy: "run `malla check` where the agent runs, or restart the agent with another "
                    + option)
    }

    private static func pinning(_ mounts: [String]) -> CheckItem {
        let usual = "/sys/fs/bpf"
        let remedy = "mount -t bpf bpf \(usual)"
        if mounts.contains(usual) { return .ok("bpffs", usual) }
        guard let first = mounts.first else { return .fail("bpffs", "not mounted", remedy: remedy) }
        return .warn(
            "bpffs", "at \(first), not at \(usual)",
            remedy: "\(remedy), or run the agent with --bpffs \(first)")
    }

    /// Source: capabilities(7), the numbers of linux/capability.h.
    static let capabilities: [(bit: Int, name: String)] = [
        (39, "CAP_BPF"), (38, "CAP_PERFMON"), (12, "CAP_NET_ADMIN"),
        (21, "CAP_SYS_ADMIN"),
    ]

    /// The effective capabilities of the caller, which an agent started from here would have.
    static func privileges(_ machine: Machine) -> CheckItem {
        let name = "capabilities"
        let line = (machine.read("/proc/self/status") ?? "").split(separator: "\n")
            .first { $0.hasPrefix("CapEff:") }
        let digits = line?.dropFirst(7).trimmingCharacters(in: .whitespaces) ?? ""
        guard let mask = UInt64(digits, radix: 16) else {
            return .warn(name, "unknown", remedy: "mount /proc")
        }
        let missing = capabilities.filter { mask >> UInt64($0.bit) & 1 == 0 }.map(\.name)
        return missing.isEmpty
            ? .ok(name, capabilities.map(\.name).joined(separator: ", "))
            : .fail(
                name, "missing " + missing.joined(separator: ", "),
                remedy: "run as root, or give the agent `--datapath off` (Gateways only)")
    }

    static func forwarding(_ machine: Machine) -> [CheckItem] {
        [
            ("IPv4 forwarding", "net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            (
                "IPv6 forwarding", "net.ipv6.conf.all.forwarding",
                "/proc/sys/net/ipv6/conf/all/forwarding"
            ),
        ].map { name, variable, path in
            guard let text = machine.read(path) else {
                return .warn(name, "no \(path)", remedy: "boot with this family enabled")
            }
            return text.hasPrefix("0")
                ? .warn(
                    name, "off: packets of pods do not leave the node",
                    remedy: "sysctl \(variable)=1")
                : .ok(name, "on")
        }
    }

    static func ports(_ machine: Machine) -> [CheckItem] {
        [
            port(
                15020, "admin, on 127.0.0.1", result: malla_examine_port(15020, 1),
                owner: machine.listener(at: 15020), remedy: "stop it, or run the agent with --admin"
            ),
            port(
                15008, "mTLS between nodes", result: malla_examine_port(15008, 0),
                owner: machine.listener(at: 15008),
                remedy: "stop it before the agent gets an identity source"),
        ]
    }

    static func port(
        _ number: UInt16, _ use: String, result: Int32, owner: String?, remedy: String
    ) -> CheckItem {
        let name = "port \(number)"
        if result == 0 { return .ok(name, "free (\(use))") }
        if let owner, owner.hasPrefix("malla-agent") { return .ok(name, "held by malla-agent") }
        guard -result == EADDRINUSE else {
            return .warn(name, AgentClient.text(-result), remedy: "run `malla check` as root")
        }
        return .warn(name, "in use by \(owner ?? "another program") (\(use))", remedy: remedy)
    }
}
