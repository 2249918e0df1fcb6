// Two hundred streams of a gigabyte at once, near and then far, every byte checked. Bounded by the
// environment: MALLA_SOAK_STREAMS, MALLA_SOAK_MIB.

import Foundation
import TestSupport

enum Streams {
    private static func number(_ name: String, otherwise: Int) -> Int {
        ProcessInfo.processInfo.environment[name].flatMap { Int($0) } ?? otherwise
    }

    static func run() throws -> Verdict {
        let count = number("MALLA_SOAK_STREAMS", otherwise: 200)
        let mebibytes = number("MALLA_SOAK_MIB", otherwise: 1024)
        let mesh = try StreamMesh()
        defer { mesh.close() }
        var figures: [String] = []
        for (service, address) in [
            (StreamMesh.clientFirst, StreamMesh.clientFirst.v4),
            (StreamMesh.farMail, StreamMesh.farMail.v6),
        ] {
            // Far below what it takes: a tenth of a gigabyte a second.
            let outcome = try mesh.call(
                address, service, count: count, up: mebibytes << 20, down: mebibytes << 16,
                seconds: 120 + count * mebibytes / 100)
            if let problem = mesh.problem(outcome, count) {
                return Verdict(figures: "\(service.name): \(problem)", holds: false)
            }
            figures.append("\(service.name): \(outcome.output.trimmingCharacters(in: .newlines))")
        }
        return Verdict(
            figures: "\(mebibytes) MiB each, \(figures.joined(separator: "; "))", holds: true)
    }
}
