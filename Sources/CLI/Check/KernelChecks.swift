// What the datapath needs of the kernel. Versions and files are read; program types are tried by
// loading two instructions, since distributions move features between versions.

internal import AdminAPI
internal import CLinux
internal import Foundation

enum KernelChecks {
    /// Linux 6.6 brought TCX links, the youngest feature the datapath cannot do without.
    static let oldest = (major: 6, minor: 6)

    static func all(_ machine: Machine) -> [CheckItem] {
        let release = machine.read("/proc/sys/kernel/osrelease") ?? ""
        return [
            version(release.trimmingCharacters(in: .whitespacesAndNewlines)),
            types(machine), compiler(machine),
        ] + ProgramType.allCases.map { program($0) } + [tcx()]
    }

    static func version(_ release: String) -> CheckItem {
        let name = "kernel version"
        let numbers = release.split(separator: ".").map { Int($0.prefix(while: \.isNumber)) ?? 0 }
        guard numbers.count >= 2, (numbers[0], numbers[1]) >= (oldest.major, oldest.minor) else {
            return .fail(
                name, release.isEmpty ? "unknown" : "Linux \(release)",
                remedy: "install Linux \(oldest.major).\(oldest.minor) or newer "
                    + "(Debian 12: linux-image-amd64 of bookworm-backports)")
        }
        return .ok(name, "Linux \(release)")
    }

    static func types(_ machine: Machine) -> CheckItem {
        let path = "/sys/kernel/btf/vmlinux"
        return machine.exists(path)
            ? .ok("kernel BTF", path)
            : .fail(
                "kernel BTF", "no \(path)", remedy: "run a kernel with CONFIG_DEBUG_INFO_BTF=y")
    }

    static func compiler(_ machine: Machine) -> CheckItem {
        let path = "/proc/sys/net/core/bpf_jit_enable"
        guard let text = machine.read(path) else { return .ok("BPF JIT", "always on") }
        return text.hasPrefix("0")
            ? .warn(
                "BPF JIT", "off: programs are interpreted",
                remedy: "sysctl net.core.bpf_jit_enable=1"
            )
            : .ok("BPF JIT", "on")
    }

    /// Program types of the datapath, with the kernel's numbers (linux/bpf.h).
    enum ProgramType: String, CaseIterable {
        case connect4 = "cgroup/connect4"
        case connect6 = "cgroup/connect6"
        case datagram4 = "cgroup/sendmsg4"
        case peer4 = "cgroup/getpeername4"
        case traffic = "tc"
        case lookup = "sk_lookup"

        /// `enum bpf_prog_type` and `enum bpf_attach_type`.
        var numbers: (type: UInt32, attach: UInt32) {
            switch self {
            case .connect4: (18, 10)
            case .connect6: (18, 11)
            case .datagram4: (18, 14)
            case .peer4: (18, 29)
            case .traffic: (3, 0)
            case .lookup: (30, 36)
            }
        }
    }

    private static func program(_ type: ProgramType) -> CheckItem {
        let numbers = type.numbers
        return program(type.rawValue, result: malla_examine_program(numbers.type, numbers.attach))
    }

    static func program(_ type: String, result: Int32) -> CheckItem {
        let name = "BPF \(type)"
        return switch -result {
        case 0: .ok(name, "a trial program was loaded")
        case EPERM, EACCES:
            .warn(
                name, "not tried: the kernel does not permit it to this user",
                remedy: "run `malla check` as root")
        default:
            .fail(
                name, "the kernel refuses the type: \(AgentClient.text(-result))",
                remedy: "run a kernel with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF, "
                    + "CONFIG_NET_CLS_BPF")
        }
    }

    private static func tcx() -> CheckItem {
        // 46: BPF_TCX_INGRESS; interface 1 is the loopback of every network namespace.
        tcx(result: NeighbourChecks.programs(interface: 1, attachType: 46).result)
    }

    static func tcx(result: Int32) -> CheckItem {
        switch -result {
        case 0: .ok("TCX", "the kernel answers queries of TCX hooks")
        case EPERM, EACCES:
            .warn(
                "TCX", "not tried: the kernel does not permit it to this user",
                remedy: "run `malla check` as root")
        default:
            .fail(
                "TCX", "no TCX hooks: \(AgentClient.text(-result))",
                remedy: "run Linux 6.6 or newer with CONFIG_NET_XGRESS=y")
        }
    }
}
