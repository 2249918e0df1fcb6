internal import BPFLoader
internal import Foundation
internal import Supervisor

/// What was found broken on this node and what became of it, as a value.
struct Repairs {
    /// Labels of `malla_repairs_total`: those of `Repair.What`, and the engine's namespace.
    static let engineWhats: [(bit: EngineRepairs, what: String, message: String)] = [
        (.veth, "engine_veth", "the engine's veth was gone, and was made anew"),
        (.link, "engine_link", "an interface of the engine was down"),
        (.routes, "engine_routes", "rules or routes of the engine's namespace were missing"),
        (.settings, "engine_settings", "settings of the engine's namespace were others"),
    ]
    static var whats: [String] { Repair.What.allCases.map(\.rawValue) + engineWhats.map(\.what) }

    struct Last: Equatable {
        var subject: String
        var message: String
        var time: Date
    }

    /// How often it was looked.
    private(set) var looks: UInt64 = 0
    private(set) var counts: [String: UInt64] = [:]
    private(set) var last: [String: Last] = [:]
    /// Repairs of each pod: `shop/cart`.
    private(set) var pods: [String: Int] = [:]
    /// What could not be put right when it was looked at last.
    private(set) var open: [Repair] = []

    /// Tells of one look at the datapath.
    ///
    /// - Returns: what is worth a line in the log.
    mutating func note(_ found: [Repair], at time: Date) -> [String] {
        looks += 1
        let before = Set(open.map(Self.line))
        open = found.filter { !$0.isDone && $0.what != .interface }
        return add(found, at: time).filter { !before.contains($0) }
    }

    /// Tells of some part of the datapath between two looks at all of it.
    mutating func add(_ found: [Repair], at time: Date) -> [String] {
        for repair in found where repair.isDone || repair.what == .interface {
            count(repair.what.rawValue, repair.subject, repair.message, time)
            if repair.subject.hasPrefix("pod ") {
                pods[String(repair.subject.dropFirst(4)), default: 0] += 1
            }
        }
        return found.map(Self.line)
    }

    /// Tells of one look at the engine's namespace; `errno` where something is still wrong.
    mutating func note(_ engine: EngineRepairs, errno: Int32, at time: Date) -> [String] {
        var lines: [String] = []
        for (bit, what, message) in Self.engineWhats where engine.contains(bit) {
            count(what, "engine", message, time)
            lines.append("repaired: \(message)")
        }
        if errno != 0 {
            lines.append("the engine's namespace cannot be put right: \(systemText(errno))")
        }
        return lines
    }

    private mutating func count(_ what: String, _ subject: String, _ message: String, _ time: Date)
    {
        counts[what, default: 0] += 1
        last[what] = Last(subject: subject, message: message, time: time)
    }

    private static func line(_ repair: Repair) -> String {
        (repair.isDone || repair.what == .interface ? "repaired: " : "not repaired: ")
            + "\(repair.subject): \(repair.message)"
    }
}
