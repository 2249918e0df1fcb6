// One pinned BPF link: the attachment of one program to one place, which outlives the agent.

internal import CBPF
internal import CLinux
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
    /// - Parameters:
    ///   - directories: of pins; the first is ours, and what is in another moves there.
    ///   - neighbour: where a new one goes. A guard that stands elsewhere is attached anew.
    static func join(
        _ attachment: Attachment, program: CInt, _ directories: [String],
        _ neighbour: Neighbour? = nil
    ) throws(BPFError) -> Link {
        let pin = "\(directories[0])/\(attachment.pin)"
        for directory in directories {
            let found = "\(directory)/\(attachment.pin)"
            guard let pinned = try PinDirectory.open(found) else { continue }
            let descriptor = Descriptor(adopting: pinned)
            if isAttached(descriptor.number, to: attachment, neighbour) {
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
            _ = bpf_link_detach(descriptor.number)
            _ = unsafe unlink(found)
        }
        let created = create(attachment, program: program, neighbour)
        guard created >= 0 else {
            throw .refused(call: .attach, object: attachment.name, errno: -created)
        }
        let descriptor = Descriptor(adopting: created)
        try PinDirectory.pin(descriptor.number, at: pin)
        return Link(attachment, adopting: descriptor, pin: pin, isAdopted: false)
    }

    /// A descriptor of the new link, or a negative errno.
    private static func create(
        _ attachment: Attachment, program: CInt, _ neighbour: Neighbour?
    ) -> CInt {
        let (place, beside) =
            switch neighbour {
            case .before(let link): (MALLA_CHAIN_BEFORE, link.descriptor.number)
            case .behind(let link): (MALLA_CHAIN_BEHIND, link.descriptor.number)
            case nil: (MALLA_CHAIN_LAST, -1 as CInt)
            }
        guard attachment.isInterface else {
            let type = bpf_attach_type(attachment.type)
            return bpf_link_create(program, attachment.target, type, nil)
        }
        let index = UInt32(truncatingIfNeeded: attachment.place)
        return malla_chain_attach(program, index, attachment.type, place, beside)
    }

    /// What is wrong with it now.
    enum Fault: Equatable {
        /// Another program took it off its place; a new link must be made.
        case detached
        /// It runs another program than ours.
        case replaced
        /// It is attached, but its pin is gone.
        case unpinned
        /// A guard that does not stand directly behind the program that it guards.
        case misplaced
    }

    /// - Parameters:
    ///   - program: the id of the program that it should run.
    ///   - isPinned: whether there is a pin of its name.
    ///   - main: what it guards.
    /// - Complexity: one system call, three more for a guard.
    func fault(program: UInt32, isPinned: Bool, behind main: Link?) -> Fault? {
        guard let kernel = LinkShape.of(descriptor.number), kernel.stands(at: attachment) else {
            return .detached
        }
        guard kernel.program == program else { return .replaced }
        if let main, main.isAttached, !Self.isGuard(kernel, of: main, at: attachment) {
            return .misplaced
        }
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

    var isAttached: Bool {
        LinkShape.of(descriptor.number)?.stands(at: attachment) ?? false
    }

    private static func isAttached(
        _ descriptor: CInt, to attachment: Attachment, _ neighbour: Neighbour?
    ) -> Bool {
        guard let kernel = LinkShape.of(descriptor), kernel.stands(at: attachment) else {
            return false
        }
        guard case .behind(let main) = neighbour else { return true }
        return isGuard(kernel, of: main, at: attachment)
    }

    private static func isGuard(
        _ shape: LinkShape, of main: Link, at attachment: Attachment
    ) -> Bool {
        guard let first = LinkShape.of(main.descriptor.number) else { return false }
        return Chain(at: attachment).leads(from: first.program, to: shape.program)
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
