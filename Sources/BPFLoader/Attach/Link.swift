// One pinned BPF link: the attachment of one program to one place, which outlives the agent.

internal import CBPF
internal import Glibc

/// - Owns: one descriptor. The attachment lives while it is pinned or this value does.
/// - Source: BPF_LINK_CREATE (Linux 5.7 for cgroup and netns, 6.6 for TCX), BPF_LINK_UPDATE.
final class Link {
    let attachment: Attachment
    /// Taken over from the agent before this one.
    let isAdopted: Bool
    private let descriptor: Descriptor
    private let pin: String

    private init(
        _ attachment: Attachment, adopting descriptor: consuming Descriptor, pin: String,
        isAdopted: Bool
    ) {
        self.attachment = attachment
        self.descriptor = descriptor
        self.pin = pin
        self.isAdopted = isAdopted
    }

    /// Takes the pinned link over and updates its program in place, so that no packet passes
    /// between the old and the new; or attaches anew where none is pinned or what was pinned lost
    /// its place.
    ///
    /// - Parameter directories: of pins; the first is ours, and what is in another moves there.
    static func join(
        _ attachment: Attachment, program: CInt, _ directories: [String]
    ) throws(BPFError) -> Link {
        let pin = "\(directories[0])/\(attachment.pin)"
        for directory in directories {
            let found = "\(directory)/\(attachment.pin)"
            guard let pinned = try PinDirectory.open(found) else { continue }
            let descriptor = Descriptor(adopting: pinned)
            if isAttached(descriptor.number, to: attachment) {
                let result = bpf_link_update(descriptor.number, program, nil)
                guard result == 0 else {
                    throw .refused(call: .replace, object: attachment.name, errno: -result)
                }
                // Both paths outlive the call.
                guard unsafe rename(found, pin) == 0 else {
                    throw .refused(call: .pin, object: pin, errno: errno)
                }
                return Link(attachment, adopting: descriptor, pin: pin, isAdopted: true)
            }
            _ = unsafe unlink(found)
        }
        let type = bpf_attach_type(attachment.type)
        let created = bpf_link_create(program, attachment.target, type, nil)
        guard created >= 0 else {
            throw .refused(call: .attach, object: attachment.name, errno: -created)
        }
        let descriptor = Descriptor(adopting: created)
        try PinDirectory.pin(descriptor.number, at: pin)
        return Link(attachment, adopting: descriptor, pin: pin, isAdopted: false)
    }

    /// What is wrong with it now.
    enum Fault: Equatable {
        /// Another program took it off its place; a new link must be made.
        case detached
        /// It runs another program than ours.
        case replaced
        /// It is attached, but its pin is gone.
        case unpinned
    }

    /// - Parameters:
    ///   - program: the id of the program that it should run.
    ///   - isPinned: whether there is a pin of its name.
    /// - Complexity: one system call.
    func fault(program: UInt32, isPinned: Bool) -> Fault? {
        guard let kernel = LinkShape.of(descriptor.number), kernel.stands(at: attachment) else {
            return .detached
        }
        guard kernel.program == program else { return .replaced }
        return isPinned ? nil : .unpinned
    }

    /// Makes it run `program` (a descriptor).
    func update(to program: CInt) throws(BPFError) {
        let result = bpf_link_update(descriptor.number, program, nil)
        guard result == 0 else {
            throw .refused(call: .replace, object: attachment.name, errno: -result)
        }
    }

    func repin() throws(BPFError) { try PinDirectory.pin(descriptor.number, at: pin) }

    private static func isAttached(_ descriptor: CInt, to attachment: Attachment) -> Bool {
        LinkShape.of(descriptor)?.stands(at: attachment) ?? false
    }

    /// Takes the program off its place and removes the pin.
    func remove() throws(BPFError) { try Self.remove(pin: pin) }

    static func remove(pin: String) throws(BPFError) {
        if let pinned = try PinDirectory.open(pin) {
            let descriptor = Descriptor(adopting: pinned)
            // The place may be gone (an interface that was deleted): then nothing is attached.
            _ = bpf_link_detach(descriptor.number)
        }
        guard unsafe unlink(pin) == 0 || errno == ENOENT else {
            throw .refused(call: .unpin, object: pin, errno: errno)
        }
    }
}

/// The beginning of the kernel's struct bpf_link_info, which Debian 12's header has without TCX:
/// what follows the program's id is a cgroup's id (64 bits), an interface's index or a namespace's
/// inode (32 bits and the attach type).
struct LinkShape: BitwiseCopyable {
    var type: UInt32 = 0
    var id: UInt32 = 0
    var program: UInt32 = 0
    var pad: UInt32 = 0
    var place: UInt64 = 0
    private var rest: (UInt64, UInt64, UInt64) = (0, 0, 0)

    /// BPF_LINK_TYPE_CGROUP.
    var isCgroup: Bool { type == 3 }

    func stands(at attachment: Attachment) -> Bool {
        attachment.isCgroup
            ? place == attachment.place
            : UInt64(UInt32(truncatingIfNeeded: place)) == attachment.place
    }

    static func of(_ descriptor: CInt) -> LinkShape? {
        var kernel = LinkShape()
        var bytes = UInt32(MemoryLayout<LinkShape>.size)
        // The kernel writes at most `bytes`.
        return unsafe bpf_obj_get_info_by_fd(descriptor, &kernel, &bytes) == 0 ? kernel : nil
    }
}
