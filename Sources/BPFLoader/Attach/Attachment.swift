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
    static let programs = ["malla_hold_out", "malla_hold_in"]

    /// - Parameter descriptor: of the directory at `path`, open.
    static func all(path: String, descriptor: CInt, inode: UInt64) -> [Attachment] {
        [("malla_hold_out", "from_socket", 1 as UInt32), ("malla_hold_in", "to_socket", 0)].map {
            Attachment(
                program: $0.0, hook: $0.1, description: "cgroup \(path)", pin: "cgroup_\($0.1)",
                target: descriptor, type: $0.2, place: inode, isCgroup: true)
        }
    }
}

/// A program at one direction of one interface. Source: BPF_TCX_INGRESS and _EGRESS, Linux 6.6.
enum TCXAttachment {
    static func ingress(_ program: String, hook: String, of link: NetworkLink) -> Attachment {
        make(program, hook, link, type: 46, direction: "ingress")
    }

    static func egress(_ program: String, hook: String, of link: NetworkLink) -> Attachment {
        make(program, hook, link, type: 47, direction: "egress")
    }

    private static func make(
        _ program: String, _ hook: String, _ link: NetworkLink, type: UInt32, direction: String
    ) -> Attachment {
        Attachment(
            program: program, hook: hook, description: "tcx \(direction) \(link.name)",
            pin: "\(hook)_\(link.index)", target: CInt(bitPattern: link.index), type: type,
            place: UInt64(link.index), isCgroup: false)
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
