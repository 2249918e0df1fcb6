// Five minutes of certificates that live 20 seconds, on two nodes, and of a root that is replaced
// again and again, as docs/identity.md has it: 5000 requests a second go through the tunnels
// between them meanwhile.

import Foundation
import TestSupport

enum Rotation {
    static let rate = 5000
    static let seconds = 300
    /// Longer than certificates live: what the old root has signed is gone by the third step.
    static let secondsBetweenSteps = 25.0
    /// "Replacing the root": the new one is believed, then it signs, then the old one goes.
    static let steps = [
        """
        openssl req -x509 -newkey ed25519 -nodes -keyout k -out c -subj /CN=next -days 9 \
          -addext keyUsage=critical,keyCertSign 2>/dev/null
        chmod 600 k c
        cp ca/ca.crt old
        cat old c > ca/n && mv ca/n ca/ca.crt
        """,
        "cat c old > ca/n && mv ca/n ca/ca.crt && mv k ca/ca.key",
        "mv c ca/ca.crt",
    ]

    static func run() throws -> Verdict {
        let bed = try Testbed("n1: client; n2: far")
        defer { bed.close() }
        _ = try bed["far"].serve()
        let service = TestService("web", 1, "http", to: ["far"])
        try bed.describe([service])
        let more = ["--ca", "\(bed.directory)/ca", "--cert-ttl", "20s"]
        let nodes = ["n1", "n2"].map { bed[node: $0] }
        for node in nodes { try node.startAgent(more: more) }
        let load = try bed["client"].start(
            "pace",
            Pace.command(rate: rate, connections: 16, seconds: seconds, address: service.v4))
        var stepsDone = 0
        var steppedAt = Date()
        while load.exitStatus == nil {
            _ = load.wait(seconds: 1)
            guard Date().timeIntervalSince(steppedAt) > secondsBetweenSteps else { continue }
            steppedAt = Date()
            try Command.shell("cd \(bed.directory)\n\(steps[stepsDone % steps.count])")
            stepsDone += 1
        }
        let replaced = stepsDone / steps.count
        let pace = Pace(load.text)
        let issued = try nodes.map { try $0.metric("malla_certificates_issued_total") }
        let tunnels = try nodes[0].metric("malla_tunnels_opened_total{side=\"upstream\"}")
        return Verdict(
            figures: "\(rounded(issued.reduce(0, +), 0)) certificates, \(replaced) roots replaced, "
                + "\(rounded(tunnels, 0)) tunnels at \(rounded(pace.perSecond, 0)) requests/s, "
                + pace.text.trimmingCharacters(in: .newlines),
            holds: pace.isClean && issued.allSatisfy { $0 >= Double(seconds / 12) }
                && replaced >= 3 && pace.perSecond > 0.9 * Double(rate))
    }
}
