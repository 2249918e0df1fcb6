// What a pod feels of a neighbour that floods with bytes that are not HTTP: pod `a` sends on 32
// connections as fast as it can, once to the server itself and once through the engine; pod `b` asks
// 500 times a second through the engine in both cases.

import Foundation
import TestSupport

enum StreamFairness {
    private static let web = TestService("web", 1, "http", to: ["near"])
    private static let raw = TestService("raw", 2, "raw", to: ["near"], port: 90, targetPort: 9080)

    static func run() throws -> Verdict {
        let bed = try Testbed("n1: a, b, near")
        defer { bed.close() }
        let program = try StreamMesh.program(bed)
        _ = try bed["near"].serve()
        try bed["near"].start("streams", [program, "serve", "9080"])
        try bed.describe([web, raw])
        try bed.route(
            "raw", parent: "{group: \"\", kind: Service, name: raw, port: 90}",
            rules: "- backendRefs: [{name: raw, port: 90}]")
        try bed[node: "n1"].startAgent()
        let alone = try Fairness.measure(bed)
        var direct: [Double] = []
        var through: [Double] = []
        for _ in 1...Fairness.rounds {
            direct.append(try flood(bed, program, bed["near"].v4, 9080))
            through.append(try flood(bed, program, raw.v4, 90))
        }
        let ratio = median(through) / median(direct)
        return Verdict(
            figures:
                "b's 99th percentile alone \(rounded(alone.p99Milliseconds)) ms, while a floods "
                + "the server \(rounded(median(direct))) ms, through the engine "
                + "\(rounded(median(through))) ms (\(rounded(ratio)) times, at most "
                + "\(Fairness.ratioMax))",
            holds: ratio <= Fairness.ratioMax)
    }

    /// Milliseconds of b's 99th percentile meanwhile.
    private static func flood(
        _ bed: Testbed, _ program: String, _ address: String, _ port: Int
    ) throws -> Double {
        let terabyte = "1099511627776"
        let caller = try bed["a"].start(
            "flood-\(UUID().uuidString)",
            [program, "call", address, "\(port)", "32", terabyte, "1000"])
        defer {
            caller.signal(SIGKILL)
            _ = caller.wait(seconds: 5)
        }
        try eventually("the flood has come") {
            try bed["near"].run(["ss", "-Htn", "state", "connected", "sport = :9080"])
                .output.split(separator: "\n").count >= 32
        }
        return try Fairness.measure(bed).p99Milliseconds
    }
}
