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
        /// A row of a map was not what it should be.
        case row
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
    /// Rows of each kind that one look compares: all of a common node's, some of a large mesh's.
    static let rowsLooked = 128
    static let frontsLooked = 32

    /// The program of another agent that is about to serve, or serves: it has pinned its own in
    /// place of ours, and what it changes is not broken.
    public var hasSuccessor: Bool {
        guard let pinned = object.pinnedProgram(Self.witness, directory: pins.programs) else {
            return false
        }
        return pinned != object.statistics(ofProgram: Self.witness)?.id
    }

    /// Whether the other agent lives, and has not yet brought all into force.
    public var isSuccessorStarting: Bool { pins.isLocked }

    /// Every agent has it.
    static let witness = "malla_from_pod"

    /// Looks at what the kernel runs and repairs what another program broke.
    ///
    /// - Complexity: a system call a link, a few for all, and some hundreds for rows.
    public func verify() -> [Repair] {
        // Somebody may have removed the directories as well.
        _ = try? PinDirectory(bpffsPath: options.bpffsPath)
        let questions = namespaces.questions()
        let present = NetworkLink.all()
        var repairs = interfaces(present) + newUplinks(present)
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
        // One that has come meanwhile may have written rows by now.
        if hasSuccessor { return repairs }
        let broken = found.filter { !$0.problem.isEmpty && $0.attachment.isInterface }
            .map { UInt32(truncatingIfNeeded: $0.attachment.place) }
        namespaces.answer(questions, broken: Set(broken), object)
        return repairs + pinning() + mendRows()
    }

    /// Some rows at each look, so that it takes no longer with ten thousand services.
    private func mendRows() -> [Repair] {
        let mended = rows.mend(Self.rowsLooked) + services.mend(Self.frontsLooked)
        guard !mended.isEmpty else { return [] }
        if mended.contains(where: { $0 != "malla_service" && $0 != "malla_endpoint" }) {
            judgeAgain()
        }
        return Dictionary(grouping: mended, by: \.self).sorted { $0.key < $1.key }.map {
            Repair(.row, "map \($0.key)", "\($0.value.count) rows were others, or gone")
        }
    }

    func interfaces(_ present: [NetworkLink]) -> [Repair] {
        let now = Dictionary(
            present.map { ($0.name, $0.index) }, uniquingKeysWith: { first, _ in first })
        let moved = namespaces.look(present: Set(present.map(\.index)), object)
        return places.sorted { $0.key < $1.key }.compactMap { name, place in
            let index = now[name] ?? 0
            if index == place.index, moved.contains(index) {
                let message = "interface \(name) leads to another namespace now"
                return Repair(.interface, place.subject, message, isDone: false)
            }
            guard index != place.index else { return nil }
            let what =
                index == 0 ? "is gone" : place.index == 0 ? "is there now" : "is another one now"
            return Repair(.interface, place.subject, "interface \(name) \(what)", isDone: false)
        }
    }

    /// Interfaces that lead to other nodes since the last `apply`.
    private func newUplinks(_ present: [NetworkLink]) -> [Repair] {
        guard let inForce else { return [] }
        var unknown: [ApplyProblem] = []
        return uplinks(inForce, present, &unknown).filter { !uplinkIndices.contains($0.index) }
            .map { Repair(.interface, "uplink \($0.name)", "is an uplink now", isDone: false) }
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
            case .misplaced: (.link, "\(attachment.name) was not behind what it guards")
            }
        return Repair(
            what, subject, problem.isEmpty ? text : "\(text); \(problem)",
            isDone: problem.isEmpty)
    }
}
