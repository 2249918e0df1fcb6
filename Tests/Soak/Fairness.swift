// What a pod feels of a neighbour that floods: pod `a` asks for 64 KiB answers by 256 connections,
// once of the server itself and once through the engine; pod `b` asks 500 times a second through
// the engine in both cases. The engine may make `b` wait half as long again, and no longer.

import Foundation
import TestSupport

enum Fairness {
    static let ratioMax = 1.5
    static let rounds = 5
    static let seconds = 5

    static func run() throws -> Verdict {
        let bed = try Testbed("n1: a, b, near")
        defer { bed.close() }
        let files = bed.directory + "/files"
        try FileManager.default.createDirectory(
            atPath: files, withIntermediateDirectories: true)
        try Data(repeating: 0x6d, count: 65536).write(to: URL(fileURLWithPath: files + "/64k"))
        let server = try bed["near"].serve(
            locations: "sendfile on; tcp_nopush on; location = /64k { alias \(files)/64k; }")
        let service = TestService("web", 1, "http", to: ["near"])
        try bed.describe([service])
        try bed[node: "n1"].startAgent()

        let alone = try measure(bed)
        var direct: [Double] = []
        var through: [Double] = []
        var floods: (direct: [Double], through: [Double]) = ([], [])
        for _ in 1...rounds {
            let first = try flood(bed, server, "http://\(bed["near"].v4):8080/64k")
            direct.append(first.p99)
            floods.direct.append(first.flood)
            let second = try flood(bed, server, service.urls[0] + "/64k")
            through.append(second.p99)
            floods.through.append(second.flood)
        }
        let ratio = median(through) / median(direct)
        return Verdict(
            figures:
                "b's 99th percentile alone \(rounded(alone.p99Milliseconds)) ms, while a floods "
                + "the server \(rounded(median(direct))) ms, through the engine "
                + "\(rounded(median(through))) ms (\(rounded(ratio)) times, at most \(ratioMax)); "
                + "a's requests/s \(rounded(median(floods.direct), 0)) and "
                + rounded(median(floods.through), 0),
            holds: ratio <= ratioMax)
    }

    static func measure(_ bed: Testbed) throws -> Pace {
        let address = TestService("web", 1, "http", to: []).v4
        let outcome = try bed["b"].run(
            Pace.command(rate: 500, connections: 16, seconds: seconds, address: address),
            seconds: seconds + 20)
        let pace = Pace(outcome.output)
        guard pace.isClean else { throw CommandFailure(description: "b: \(outcome)") }
        return pace
    }

    private static func flood(
        _ bed: Testbed, _ server: WebServer, _ url: String
    ) throws -> (p99: Double, flood: Double) {
        let before = try server.requests()
        let wrk = try bed["a"].start(
            "wrk-\(UUID().uuidString)", ["wrk", "-t1", "-c256", "-d120s", url])
        defer { wrk.stop() }
        try eventually("the flood has come") { try server.requests() > before + 5000 }
        let pace = try measure(bed)
        wrk.signal(SIGINT)
        _ = wrk.wait(seconds: 20)
        let load = Load(wrk.text)
        let rate = wrk.text.split(separator: "\n").first { $0.contains("Requests/sec:") }
            .flatMap { $0.split(separator: " ").last.flatMap { Double($0) } }
        guard load.errors == 0, let rate else {
            throw CommandFailure(description: "a: \(wrk.text)")
        }
        return (pace.p99Milliseconds, rate)
    }
}
