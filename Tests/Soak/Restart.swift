// Ten restarts, by SIGUSR2 and by `--takeover` in turn, while 20 000 requests come every second.

import Foundation
import TestSupport

enum Restart {
    static let rate = 20_000
    static let restarts = 10

    static func run() throws -> Verdict {
        let bed = try Testbed("n1: client, near")
        defer { bed.close() }
        _ = try bed["near"].serve()
        let service = TestService("web", 1, "http", to: ["near"])
        try bed.describe([service])
        let node = bed[node: "n1"]
        var agent = try node.startAgent()
        let load = try bed["client"].start(
            "pace",
            Pace.command(rate: rate, connections: 64, seconds: 600, address: service.v4))
        try eventually("the load flows") { try node.metric("malla_requests_total") > 1000 }

        for number in 1...restarts {
            let before = try serving(node)
            var next: TestProcess?
            if number.isMultiple(of: 2) {
                next = try node.start("agent-\(number)", node.agentArguments(more: ["--takeover"]))
            } else {
                agent.signal(SIGUSR2)
            }
            try eventually("restart \(number); \(agent.text.suffix(2000))", within: 60) {
                let now = try serving(node)
                return now != before && now != 0
            }
            if let next {
                guard agent.wait(seconds: 60) == 0 else {
                    throw CommandFailure(description: "the old agent does not end: \(agent.text)")
                }
                agent = next
            }
            // Each restart meets the whole load, not the one before.
            let served = try node.metric("malla_requests_total")
            try eventually("the load goes on") {
                try node.metric("malla_requests_total") > served + Double(2 * rate)
            }
        }
        load.signal(SIGINT)
        _ = load.wait(seconds: 30)
        let pace = Pace(load.text)
        return Verdict(
            figures: "\(restarts) restarts at \(rounded(pace.perSecond, 0)) requests/s, "
                + pace.text.trimmingCharacters(in: .newlines),
            holds: pace.isClean && pace.perSecond > 0.98 * Double(rate))
    }

    /// The pid of the process that serves, by its own word; 0 if none answers.
    private static func serving(_ node: TestNode) throws -> Int {
        let status = try node.curl("http://\(TestNode.admin)/v1/status").body
        guard let place = status.firstRange(of: "\"pid\":") else { return 0 }
        return Int(status[place.upperBound...].prefix { $0.isNumber }) ?? 0
    }
}
