// Five minutes of certificates that live 20 seconds, on two nodes, and every minute one root more:
// 5000 requests a second go through the tunnels between them meanwhile.

import Foundation
import TestSupport

enum Rotation {
    static let rate = 5000
    static let seconds = 300
    static let secondsBetweenRoots = 60.0

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
        var roots = 1
        var addedAt = Date()
        while load.exitStatus == nil {
            _ = load.wait(seconds: 1)
            guard Date().timeIntervalSince(addedAt) > secondsBetweenRoots else { continue }
            addedAt = Date()
            roots += 1
            try Command.shell(
                """
                cd \(bed.directory)
                openssl req -x509 -newkey ed25519 -nodes -keyout k -out c -subj /CN=root\(roots) \
                  -days 9 -addext keyUsage=critical,keyCertSign 2>/dev/null
                cat ca/ca.crt c > ca/n && mv ca/n ca/ca.crt
                """)
        }
        let pace = Pace(load.text)
        let issued = try nodes.map { try $0.metric("malla_certificates_issued_total") }
        let tunnels = try nodes[0].metric("malla_tunnels_opened_total{side=\"upstream\"}")
        return Verdict(
            figures: "\(rounded(issued.reduce(0, +), 0)) certificates, \(roots) roots, "
                + "\(rounded(tunnels, 0)) tunnels at \(rounded(pace.perSecond, 0)) requests/s, "
                + pace.text.trimmingCharacters(in: .newlines),
            holds: pace.isClean && issued.allSatisfy { $0 >= Double(seconds / 12) }
                && pace.perSecond > 0.9 * Double(rate))
    }
}
