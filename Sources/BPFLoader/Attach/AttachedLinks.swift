// Every link that this agent holds, and the pins that are left from others.

internal import Glibc

/// - Owns: the links, by the names of their pins.
/// - Threads: one at a time.
struct AttachedLinks {
    private let directory: String
    private var links: [String: Link] = [:]

    init(directory: String) { self.directory = directory }

    var all: [Link] { links.values.sorted { $0.attachment.pin < $1.attachment.pin } }

    /// Attaches, or takes over what an agent before this one attached; once.
    mutating func join(_ attachment: Attachment, _ object: borrowing BPFObject) throws(BPFError) {
        if links[attachment.pin]?.attachment.place == attachment.place { return }
        let program = try object.program(attachment.program)
        links[attachment.pin] = try Link.join(attachment, program: program, directory: directory)
    }

    /// Takes away every link whose pin is not in `wanted`, whoever made it.
    mutating func keepOnly(_ wanted: Set<String>) throws(BPFError) {
        for pin in PinDirectory.names(in: directory) where !wanted.contains(pin) {
            links[pin] = nil
            try Link.remove(pin: "\(directory)/\(pin)")
        }
    }
}
