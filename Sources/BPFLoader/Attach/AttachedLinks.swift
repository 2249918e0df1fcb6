// Every link that this agent holds, and the pins that are left from others.

internal import Glibc

/// One link that was not as it should be.
struct LinkRepair {
    let attachment: Attachment
    let fault: Link.Fault
    /// Why it still is not; empty: it was put right.
    var problem = ""
}

/// - Owns: the links, by the names of their pins.
/// - Threads: one at a time.
struct AttachedLinks {
    private let directory: String
    /// Of an older ABI, whose links become ours.
    private let older: String?
    private var links: [String: Link] = [:]

    init(directory: String, older: String? = nil) {
        self.directory = directory
        self.older = older
    }

    var all: [Link] { links.values.sorted { $0.attachment.pin < $1.attachment.pin } }

    func hold(_ attachment: Attachment) -> Bool {
        links[attachment.pin]?.attachment.place == attachment.place
    }

    /// Attaches, or takes over what an agent before this one attached; once.
    mutating func join(_ attachment: Attachment, _ object: borrowing BPFObject) throws(BPFError) {
        if hold(attachment) { return }
        let main = attachment.behind.flatMap { links[$0] }
        try join(attachment, object, main.map { .behind($0) })
    }

    private mutating func join(
        _ attachment: Attachment, _ object: borrowing BPFObject, _ neighbour: Neighbour?
    ) throws(BPFError) {
        let program = try object.program(attachment.program)
        let directories = [directory] + (older.map { [$0] } ?? [])
        links[attachment.pin] = try Link.join(
            attachment, program: program, directories, neighbour)
    }

    /// Looks at every link in the kernel and puts right what is wrong with it.
    ///
    /// - Parameter interfaces: indices of those that there are.
    /// - Returns: what was repaired, and links at interfaces that there are no more.
    /// - Complexity: a system call a link, two a guard, more for those that are repaired.
    mutating func verify(
        _ object: borrowing BPFObject, interfaces: Set<UInt32>
    ) -> (repairs: [LinkRepair], orphans: [Attachment]) {
        var ids: [String: UInt32] = [:]
        var repairs: [LinkRepair] = []
        var orphans: [Attachment] = []
        let pins = Set(PinDirectory.names(in: directory))
        // What is guarded first: a guard finds its place by it.
        let all =
            links.values.filter { $0.attachment.behind == nil }
            + links.values.filter { $0.attachment.behind != nil }
        for link in all {
            let place = UInt32(truncatingIfNeeded: link.attachment.place)
            if link.attachment.isInterface, !interfaces.contains(place) {
                orphans.append(link.attachment)
                continue
            }
            let name = link.attachment.program
            let id = ids[name] ?? object.statistics(ofProgram: name)?.id ?? 0
            ids[name] = id
            let isPinned = pins.contains(link.attachment.pin)
            let main = link.attachment.behind.flatMap { links[$0] }
            guard let fault = link.fault(program: id, isPinned: isPinned, behind: main) else {
                continue
            }
            var repair = LinkRepair(attachment: link.attachment, fault: fault)
            do throws(BPFError) {
                try mend(link, fault, object)
            } catch {
                repair.problem = error.description
            }
            repairs.append(repair)
        }
        repairs.sort { $0.attachment.pin < $1.attachment.pin }
        orphans.sort { $0.pin < $1.pin }
        return (repairs, orphans)
    }

    private mutating func mend(
        _ link: Link, _ fault: Link.Fault, _ object: borrowing BPFObject
    ) throws(BPFError) {
        switch fault {
        case .replaced: try link.update(to: object.program(link.attachment.program))
        case .unpinned: try link.repin()
        case .detached, .misplaced:
            if fault == .misplaced { try link.remove() }
            let pin = link.attachment.pin
            links[pin] = nil
            // Still ours to try again if it cannot be attached now.
            defer { if links[pin] == nil { links[pin] = link } }
            // Before its guard, or nothing that it lets pass would bear a seal when it is there.
            if let guarding = links.values.first(where: { $0.attachment.behind == pin }),
                guarding.isAttached
            {
                try join(link.attachment, object, .before(guarding))
            } else {
                try join(link.attachment, object)
            }
        }
    }

    /// The pins of links that are not in `wanted`, whoever made them.
    func others(than wanted: Set<String>) -> [String] {
        PinDirectory.names(in: directory).filter { !wanted.contains($0) }
    }

    mutating func remove(_ pins: [String]) throws(BPFError) {
        for pin in Guards.removable(pins) {
            links[pin] = nil
            try Link.remove(pin: "\(directory)/\(pin)")
        }
    }
}
