// Long runs on a real mesh, each with a figure that must hold: `make soak`, or a few of them by
// name. Needs root, as the node tests do; takes some minutes.

import Foundation
import TestSupport

/// What a run found, in one line, and whether that is what must be.
struct Verdict {
    var figures: String
    var holds: Bool
}

let runs: [(name: String, run: () throws -> Verdict)] = [
    ("restart", Restart.run), ("fairness", Fairness.run), ("idle", Idle.run), ("churn", Churn.run),
    ("streams", Streams.run), ("stream-fairness", StreamFairness.run), ("rotation", Rotation.run),
]

let wanted = CommandLine.arguments.dropFirst()
guard wanted.allSatisfy({ name in runs.contains { $0.name == name } }) else {
    print("usage: Soak [\(runs.map(\.name).joined(separator: "] ["))]")
    exit(64)
}
var isHeld = true
for (name, run) in runs where wanted.isEmpty || wanted.contains(name) {
    do {
        let verdict = try run()
        print("\(name): \(verdict.figures): \(verdict.holds ? "held" : "MISSED")")
        isHeld = isHeld && verdict.holds
    } catch {
        print("\(name): \(error): MISSED")
        isHeld = false
    }
    fflush(nil)
}
exit(isHeld ? 0 : 1)
