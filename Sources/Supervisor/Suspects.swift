/// A workload that a child which starts now does not serve; one that starts after `until` does.
struct Suspect: Equatable {
    let name: String
    let until: Int64
}

/// Which workloads the engine has died of serving, as a value: told of each crash, answers who is
/// not to be served for now.
///
/// - Units: milliseconds on any steady clock.
struct Suspects: Equatable {
    /// Crashes that name somebody, latest last.
    private var crashes: [(name: String, time: Int64)] = []

    static let crashesMax = 2
    /// An hour later a crash is forgotten, so that a workload that was mended is served again.
    static let memory: Int64 = 3_600_000
    /// What is kept at most.
    static let rememberedMax = 1_024

    mutating func crashed(_ names: [String], at time: Int64) {
        crashes.removeAll { time - $0.time > Self.memory }
        for name in names where !name.isEmpty { crashes.append((name, time)) }
        if crashes.count > Self.rememberedMax {
            crashes.removeFirst(crashes.count - Self.rememberedMax)
        }
    }

    /// Named by two crashes of the last hour, in the order of the first.
    func quarantined(at time: Int64) -> [Suspect] {
        var times: [String: [Int64]] = [:]
        var order: [String] = []
        for crash in crashes where time - crash.time <= Self.memory {
            if times[crash.name] == nil { order.append(crash.name) }
            times[crash.name, default: []].append(crash.time)
        }
        return order.compactMap { name in
            // Too few are left once this one is forgotten.
            guard let one = times[name]?.suffix(Self.crashesMax), one.count == Self.crashesMax,
                let first = one.first
            else { return nil }
            return Suspect(name: name, until: first + Self.memory)
        }
    }

    static func == (one: Suspects, other: Suspects) -> Bool {
        one.crashes.map(\.name) == other.crashes.map(\.name)
            && one.crashes.map(\.time) == other.crashes.map(\.time)
    }
}
