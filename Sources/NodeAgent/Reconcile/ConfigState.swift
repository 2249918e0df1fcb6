internal import Foundation
internal import MeshConfig
internal import MeshModel

/// What is known of the configuration directory, and how often it was read.
struct ConfigState {
    let directory: String
    private(set) var result = ConfigResult()
    /// Goes up by one with every change that took effect.
    var generation: UInt64 = 0
    private(set) var reloads: UInt64 = 0
    private(set) var reloadsFailed: UInt64 = 0
    private(set) var lastReload: Date?
    /// Why the directory itself cannot be read now, empty if it can.
    private(set) var problem = ""

    init(directory: String) { self.directory = directory }

    mutating func read(_ result: ConfigResult, at time: Date) {
        self.result = result
        reloads += 1
        lastReload = time
        problem = ""
    }

    mutating func failed(_ error: ConfigError) {
        reloadsFailed += 1
        problem = "\(error)"
    }

    /// The objects of which this version is not in force, each with its first error.
    var refusals: [Diagnostic] {
        var seen: Set<String> = []
        return result.diagnostics.filter { found in
            found.severity == .error && !found.object.isEmpty
                && seen.insert(found.file + " " + found.object).inserted
        }
    }

    /// Why the object of this title (`HTTPRoute shop/web`) is refused as it stands; `nil` if not.
    func refusal(of title: String) -> String? {
        refusals.first { $0.object == title }.map { found in
            found.field.isEmpty ? found.message : "\(found.field): \(found.message)"
        }
    }

    /// Why `/readyz` is not 200.
    var reasons: [String] {
        var reasons = problem.isEmpty ? [] : [problem]
        if !result.unreadableFiles.isEmpty {
            reasons.append("unreadable: " + result.unreadableFiles.joined(separator: ", "))
        }
        return reasons
    }
}
