// What the kernel runs, compared with what it should run: every link with its program and its pin,
// every pod's interface, the pins of maps and programs. What is wrong is put right and said.

/// Something that was not as it should be.
public struct Repair: Sendable, Equatable {
    /// The words are labels of `malla_repairs_total`: only ever added to.
    public enum What: String, Sendable, CaseIterable {
        /// A program was taken off its place.
        case link
        /// Another program had taken ours' place in our link.
        case program
        /// The interface of a pod is another one than before, or gone, or back.
        case interface
        /// A link, map or program was not pinned any more: it would have ended with the agent.
        case pin
    }

    public var what: What
    /// `pod shop/cart`, or where the program is attached.
    public var subject: String
    public var message: String
    /// Whether it is as it should be again. An interface needs `apply`.
    public var isDone: Bool

    public init(_ what: What, _ subject: String, _ message: String, isDone: Bool = true) {
        self.what = what
        self.subject = subject
        self.message = message
        self.isDone = isDone
    }
}

/// Where the last `apply` found a pod.
struct PodPlace {
    var subject: String
    /// Of its interface; 0: there was none.
    var index: UInt32
}

extension Datapath {
    /// Looks at what the kernel runs and repairs what another program broke.
    ///
    /// - Complexity: two system calls a link and three for all; no map row is looked at.
    public func verify() -> [Repair] {
        // Somebody may have removed the directories as well.
        _ = try? PinDirectory(bpffsPath: options.bpffsPath)
        let present = NetworkLink.all()
        var repairs = interfaces(present)
        let indices = Set(present.map(\.index))
        let subjects = Dictionary(
            places.values.map { ($0.index, $0.subject) }, uniquingKeysWith: { first, _ in first })
        var gone = Set(repairs.map(\.subject))
        // Links of an interface that is gone are not broken; `apply` takes them away.
        let (found, orphans) = links.verify(object, interfaces: indices)
        for attachment in orphans {
            let subject = subjects[UInt32(truncatingIfNeeded: attachment.place)]
            let name = subject ?? attachment.description
            if gone.insert(name).inserted {
                repairs.append(Repair(.interface, name, "its interface is gone", isDone: false))
            }
        }
        for repair in found {
            let index = UInt32(truncatingIfNeeded: repair.attachment.place)
            let subject = repair.attachment.isInterface ? subjects[index] : nil
            repairs.append(repair.repair(subject ?? repair.attachment.description))
        }
        return repairs + pinning()
    }

    private func interfaces(_ present: [NetworkLink]) -> [Repair] {
        let now = Dictionary(
            present.map { ($0.name, $0.index) }, uniquingKeysWith: { first, _ in first })
        return places.sorted { $0.key < $1.key }.compactMap { name, place in
            let index = now[name] ?? 0
            guard index != place.index else { return nil }
            let what =
                index == 0 ? "is gone" : place.index == 0 ? "is there now" : "is another one now"
            return Repair(.interface, place.subject, "interface \(name) \(what)", isDone: false)
        }
    }

    private func pinning() -> [Repair] {
        var repairs: [Repair] = []
        do throws(BPFError) {
            let maps = try object.pinMaps(directory: pins.path)
            if maps > 0 { repairs.append(Repair(.pin, "maps", "\(maps) were not pinned")) }
            let programs = try object.pinMissingPrograms(directory: pins.programs)
            if programs > 0 {
                repairs.append(Repair(.pin, "programs", "\(programs) were not pinned"))
            }
        } catch {
            repairs.append(Repair(.pin, "maps and programs", error.description, isDone: false))
        }
        return repairs
    }
}

extension LinkRepair {
    fileprivate func repair(_ subject: String) -> Repair {
        let (what, text): (Repair.What, String) =
            switch fault {
            case .detached: (.link, "\(attachment.name) was detached")
            case .replaced: (.program, "\(attachment.name) ran another program")
            case .unpinned: (.pin, "the pin of \(attachment.name) was gone")
            }
        return Repair(
            what, subject, problem.isEmpty ? text : "\(text); \(problem)",
            isDone: problem.isEmpty)
    }
}
