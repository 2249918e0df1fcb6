// A configuration that changes all the time under a steady load: routes, weights, services. No
// request may fail, and the agent may not grow.

import Foundation
import TestSupport

enum Churn {
    static let changes = 200
    static let grownMiBMax = 24.0

    static func run() throws -> Verdict {
        let bed = try Testbed("n1: client, near, other")
        defer { bed.close() }
        _ = try bed["near"].serve()
        _ = try bed["other"].serve()
        let near = TestService("near-web", 1, "http", to: ["near"])
        let other = TestService("other-web", 2, "http", to: ["other"])
        let shared = TestService("shared", 3, "http", to: ["near", "other"])
        let services = [near, other, shared]
        try bed.describe(services)
        let node = bed[node: "n1"]
        let agent = try node.startAgent()
        let load = try bed["client"].start(
            "pace", Pace.command(rate: 5000, connections: 32, seconds: 600, address: shared.v4))
        try eventually("the load flows") { try node.metric("malla_requests_total") > 1000 }

        var after = 0
        for number in 1...changes {
            let weight = number % 99 + 1
            try bed.route(
                "shared", of: "shared",
                rules: """
                    - matches: [{path: {type: PathPrefix, value: /change-\(number)}}]
                      backendRefs: [{name: near-web, port: 80}]
                    - backendRefs:
                      - {name: near-web, port: 80, weight: \(weight)}
                      - {name: other-web, port: 80, weight: \(100 - weight)}
                    """)
            let more = (0..<(number % 20)).map {
                TestService("more-\($0)", 10 + $0, "http", to: ["near"])
            }
            try bed.describe(services + more)
            let before = try node.metric("malla_requests_total")
            try eventually("requests go on after change \(number)") {
                try node.metric("malla_requests_total") > before + 100
            }
            if number == changes / 4 { after = try resident(node, agent) }
        }
        let grown = Double(try resident(node, agent) - after) / 1024
        load.signal(SIGINT)
        _ = load.wait(seconds: 30)
        let pace = Pace(load.text)
        return Verdict(
            figures: "\(changes) changes, \(pace.text.trimmingCharacters(in: .newlines)), "
                + "the child grew by \(rounded(grown, 1)) MiB (at most \(grownMiBMax))",
            holds: pace.isClean && grown <= grownMiBMax && agent.exitStatus == nil)
    }

    /// KiB of the child.
    private static func resident(_ node: TestNode, _ agent: TestProcess) throws -> Int {
        guard let child = node.child(of: agent),
            let line = Command.text("/proc/\(child)/status").split(separator: "\n")
                .first(where: { $0.hasPrefix("VmRSS:") }),
            let kib = line.split(separator: " ").dropLast().last.flatMap({ Int($0) })
        else { throw CommandFailure(description: "no child") }
        return kib
    }
}
