// Where a program is attached: a cgroup, an interface (TCX), or a network namespace (sk_lookup).

internal import Glibc

/// One program at one place. A value: `Link` makes it true.
struct Attachment {
    /// As in bpf/hooks, at most 15 characters.
    let program: String
    /// The hook's name in counters and listings.
    let hook: String
    /// For people: `cgroup PATH`, `tcx ingress IFNAME`, `netns engine`.
    let description: String
    /// The name of its pin: no dots, which bpffs refuses.
    let pin: String
    /// What bpf_link_create takes: a descriptor or an interface's index.
    let target: CInt
    /// enum bpf_attach_type.
    let type: UInt32
    /// What the kernel says of a link in this place: cgroup id, interface index, namespace inode.
    let place: UInt64
    let isCgroup: Bool
    /// The pin of the program that this one guards.
    var behind: String?

    var name: String { "\(program) at \(description)" }
    /// At an interface, whose index `place` is then.
    var isInterface: Bool { type == 46 || type == 47 }
}

/// The eight hooks at the sockets of a cgroup.
enum CgroupAttachment {
    /// Source: enum bpf_attach_type of Linux 5.8.
    static let hooks: [(program: String, hook: String, type: UInt32)] = [
        ("malla_recvmsg4", "recvmsg4", 19),
        ("malla_recvmsg6", "recvmsg6", 20),
        ("malla_peername4", "getpeername4", 29),
        ("malla_peername6", "getpeername6", 30),
        ("malla_sendmsg4", "sendmsg4", 14),
        ("malla_sendmsg6", "sendmsg6", 15),
        ("malla_connect4", "connect4", 10),
        ("malla_connect6", "connect6", 11),
    ]

    /// - Parameter descriptor: of the directory at `path`, open.
    static func all(path: String, descriptor: CInt, inode: UInt64) -> [Attachment] {
        hooks.map { row in
            Attachment(
                program: row.program, hook: row.hook, description: "cgroup \(path)",
                pin: "cgroup_\(row.hook)", target: descriptor, type: row.type, place: inode,
                isCgroup: true)
        }
    }
}

/// The two programs that hold pods whose rows are not there yet: every packet of every socket of a
/// cgroup. Source: BPF_CGROUP_INET_INGRESS and _EGRESS, Linux 4.10.
enum HoldAttachment {
    static let programs = ["malla_hold_out", "malla_hold_in", "malla_behind"]

    /// - Parameter descriptor: of the directory at `path`, open.
    static func all(path: String, descriptor: CInt, inode: UInt64) -> [Attachment] {
        [("malla_hold_out", "from_socket", 1 as UInt32), ("malla_hold_in", "to_socket", 0)].map {
            Attachment(
                program: $0.0, hook: $0.1, description: "cgroup \(path)", pin: "cgroup_\($0.1)",
                target: descriptor, type: $0.2, place: inode, isCgroup: true)
        }
    }
}

/// The programs at an interface. Source: BPF_TCX_INGRESS and _EGRESS, Linux 6.6.
enum TCXAttachment {
    /// A pod's. Each guard comes after the program that it guards.
    static func pod(_ link: NetworkLink) -> [Attachment] {
        [
            egress("malla_to_pod", hook: "to_pod", of: link),
            egress("malla_guard", hook: "to_pod_guard", of: link, behind: "to_pod"),
            ingress("malla_from_pod", hook: "from_pod", of: link),
            ingress("malla_back", hook: "back", of: link, behind: "from_pod"),
        ]
    }

    static func uplink(_ link: NetworkLink) -> [Attachment] {
        let end = link.hasLinkHeader ? "" : "3"
        return [
            ingress("malla_uplink" + end, hook: "uplink", of: link),
            ingress("malla_outside" + end, hook: "outside", of: link, behind: "uplink"),
            egress("malla_leaving" + end, hook: "leaving", of: link),
        ]
    }

    static func engine(_ link: NetworkLink) -> [Attachment] {
        [
            ingress("malla_from_eng", hook: "from_engine", of: link),
            ingress(
                "malla_guard_eng", hook: "from_engine_guard", of: link, behind: "from_engine"),
        ]
    }

    private static func ingress(
        _ program: String, hook: String, of link: NetworkLink, behind main: String? = nil
    ) -> Attachment {
        make(program, hook, link, type: 46, main)
    }

    private static func egress(
        _ program: String, hook: String, of link: NetworkLink, behind main: String? = nil
    ) -> Attachment {
        make(program, hook, link, type: 47, main)
    }

    private static func make(
        _ program: String, _ hook: String, _ link: NetworkLink, type: UInt32, _ main: String?
    ) -> Attachment {
        let direction = type == 46 ? "ingress" : "egress"
        return Attachment(
            program: program, hook: hook, description: "tcx \(direction) \(link.name)",
            pin: "\(hook)_\(link.index)", target: CInt(bitPattern: link.index), type: type,
            place: UInt64(link.index), isCgroup: false, behind: main.map { "\($0)_\(link.index)" })
    }
}

/// sk_lookup in the engine's network namespace.
enum LookupAttachment {
    /// - Parameter descriptor: of the namespace, open.
    static func engine(descriptor: CInt, inode: UInt64) -> Attachment {
        Attachment(
            program: "malla_listener", hook: "to_listener", description: "netns engine",
            pin: "to_listener", target: descriptor, type: 36, place: inode & 0xffff_ffff,
            isCgroup: false)
    }
}
