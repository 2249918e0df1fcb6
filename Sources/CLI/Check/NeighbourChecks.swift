// Who else steers this node's traffic: programs at tc hooks, chains of packet filters, agents and
// interfaces of other meshes and CNIs. Sees the caller's network namespace, not those of pods.

internal import AdminAPI
internal import CLinux
internal import Foundation

enum NeighbourChecks {
    static func all(_ machine: Machine) -> [CheckItem] {
        // nft shows its own tables and those that iptables-nft makes; the others are iptables'.
        let rules =
            [Machine.outputOf("nft", ["list", "ruleset"])]
            .compactMap(\.self)
            + ["iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save"]
            .compactMap { Machine.outputOf($0, []) }
        return [
            hooks(machine), filters(machine),
            chains(rules.isEmpty ? nil : rules.joined(separator: "\n")),
            signs(machine), agents(machine.processes().map(\.name)),
        ]
    }

    /// Interfaces of this network namespace with their indices.
    private static func interfaces(_ machine: Machine) -> [(name: String, index: UInt32)] {
        machine.names(in: "/sys/class/net").compactMap { name in
            let text = machine.read("/sys/class/net/\(name)/ifindex") ?? ""
            return UInt32(text.trimmingCharacters(in: .whitespacesAndNewlines)).map { (name, $0) }
        }
    }

    /// Programs at a TCX hook, or why they cannot be asked for (a negative errno).
    static func programs(interface: UInt32, attachType: UInt32) -> (result: Int32, ids: [UInt32]) {
        var ids = [UInt32](repeating: 0, count: Int(MALLA_EXAMINE_PROGRAMS_MAX))
        var count = UInt32(ids.count)
        // `ids` has `count` elements, the kernel writes no more, and both live for the call.
        let result = unsafe malla_examine_tcx(interface, attachType, &ids, &count)
        return (result, Array(ids.prefix(Int(count))))
    }

    private static func programName(_ id: UInt32) -> String {
        // `text` gives memory of that many bytes.
        unsafe text { unsafe malla_examine_program_name(id, $0, $1) } ?? "#\(id)"
    }

    private static func text(
        _ fill: (_ name: UnsafeMutablePointer<CChar>, _ bytes: Int) -> Int32
    ) -> String? {
        var bytes = [CChar](repeating: 0, count: Int(MALLA_EXAMINE_NAME_BYTES))
        let room = bytes.count
        // `fill` gets the array's own storage and its size, and ends what it writes with a zero.
        let result = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
            unsafe fill(buffer.baseAddress!, room)
        }
        guard result >= 0 else { return nil }
        return String(
            decoding: bytes.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func hooks(_ machine: Machine) -> CheckItem {
        var foreign: [String] = []
        for (interface, index) in interfaces(machine) {
            for (attachType, direction) in [(UInt32(46), "ingress"), (47, "egress")] {
                let (result, ids) = programs(interface: index, attachType: attachType)
                if result == -EPERM {
                    return .warn("other tcx", "not permitted", remedy: "run as root")
                }
                foreign += ids.map(programName).filter { !$0.hasPrefix("malla_") }
                    .map { "\($0) at \(interface) \(direction)" }
            }
        }
        return others("other tcx", foreign, "no programs but Malla's at tcx hooks")
    }

    private static func filters(_ machine: Machine) -> CheckItem {
        var foreign: [String] = []
        for (interface, index) in interfaces(machine) {
            for (isEgress, direction) in [(Int32(0), "ingress"), (1, "egress")] {
                var count: Int32 = 0
                // `text` gives memory of that many bytes.
                let name = unsafe text {
                    count = unsafe malla_examine_filters(index, isEgress, $0, $1)
                    return count
                }
                guard count > 0, let name, !name.hasPrefix("malla_") else { continue }
                foreign.append("\(name) at \(interface) \(direction)")
            }
        }
        return others("other tc", foreign, "no classic tc filters")
    }

    private static func others(_ name: String, _ foreign: [String], _ none: String) -> CheckItem {
        guard !foreign.isEmpty else { return .ok(name, none) }
        let shown = foreign.prefix(4).joined(separator: ", ")
        let more = foreign.count > 4 ? " and \(foreign.count - 4) more" : ""
        return .warn(
            name, shown + more,
            remedy: "another program sees or steers the same packets: test with it, or remove it")
    }

    /// `rules` is what nft and iptables-save print; `nil`: neither is there, or may look.
    static func chains(_ rules: String?) -> CheckItem {
        let name = "other chains"
        guard let rules else {
            return .warn(
                name, "not examined: neither nft nor iptables-save could list the packet filter",
                remedy: "install nftables and run `malla check` as root")
        }
        let owners = [
            ("ISTIO_", "Istio"), ("CILIUM_", "Cilium"), ("OLD_CILIUM_", "Cilium"),
            ("PROXY_INIT_", "Linkerd"), ("KUMA_", "Kuma"), ("CONSUL_PROXY_", "Consul"),
        ]
        var found: [String] = []
        for (prefix, owner) in owners where !found.contains(owner) {
            // As iptables-save writes a chain, and as nft does.
            guard rules.contains("\n:\(prefix)") || rules.contains("chain \(prefix)") else {
                continue
            }
            found.append(owner)
        }
        guard !found.isEmpty else { return .ok(name, "none of another mesh's") }
        let text = found.joined(separator: ", ")
        return .warn(
            name, "packet filter chains of \(text)",
            remedy: "take the node out of \(text), or clear the chains; they would redirect, too")
    }

    /// What other meshes and CNIs leave on a node.
    static let traces = [
        ("/sys/class/net/cilium_host", "Cilium"), ("/var/run/cilium", "Cilium"),
        ("/sys/fs/bpf/cilium", "Cilium"), ("/run/istio", "Istio"),
        ("/var/run/istio-cni", "Istio"), ("/var/run/ztunnel", "Istio"),
        ("/etc/cni/net.d/ZZZ-linkerd-cni.conflist", "Linkerd"), ("/var/run/calico", "Calico"),
    ]

    static func signs(_ machine: Machine) -> CheckItem {
        let found = traces.filter { machine.exists($0.0) }
        guard !found.isEmpty else { return .ok("other meshes", "no trace of another mesh or CNI") }
        let text = found.map { "\($0.1) (\($0.0))" }.joined(separator: ", ")
        return .warn(
            "other meshes", text,
            remedy: "enrol a pod in one mesh only; with a CNI that balances services itself, "
                + "switch that off for meshed pods")
    }

    static func agents(_ running: [String]) -> CheckItem {
        let known = [
            "envoy", "ztunnel", "pilot-agent", "install-cni", "cilium-agent", "linkerd2-proxy",
            "kuma-dp", "consul-dataplan", "calico-node", "antrea-agent",
        ]
        let found = known.filter(running.contains)
        guard !found.isEmpty else { return .ok("other agents", "none running") }
        return .warn(
            "other agents", "running: " + found.joined(separator: ", "),
            remedy: "make sure that they do not redirect the pods of this mesh")
    }
}
