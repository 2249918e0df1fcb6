// What an agent holds in memory, supervisor and child together: idle, and with ten thousand
// connections of clients that have asked once and wait.

import Foundation
import TestSupport

enum Idle {
    static let connections = 10_000
    static let anonymousMiBMax = 16.0
    static let residentMiBMax = 60.0
    static let addedMiBMax = 60.0

    private struct Memory {
        var anonymous = 0.0
        var resident = 0.0
    }

    static func run() throws -> Verdict {
        let bed = try Testbed("n1: near")
        defer { bed.close() }
        _ = try bed["near"].serve()
        let service = TestService("web", 1, "http", to: ["near"])
        try bed.describe([service])
        try bed.configure("gateway.yaml", gateway)
        try bed.route(
            "front", parent: "{name: front}", rules: "- backendRefs: [{name: web, port: 80}]")
        let node = bed[node: "n1"]
        let agent = try node.startAgent(more: ["--datapath", "off"])
        try eventually("it serves") { try node.curl("http://127.0.0.1:80/").status == 200 }

        let idle = memory(node, agent)
        // Of clients with one address there may be half of all connections.
        let loads = try ["127.0.0.1", "::1"].map { address in
            try node.start(
                "pace-\(address)",
                Pace.command(
                    rate: 1500, connections: connections / 2, seconds: 120, address: address))
        }
        try eventually("every connection has asked", within: 60) {
            try node.metric("malla_connections_active") >= Double(connections)
                && node.metric("malla_requests_total") > Double(connections) * 1.2
        }
        let full = memory(node, agent)
        for load in loads {
            load.signal(SIGINT)
            _ = load.wait(seconds: 20)
        }
        let failed = loads.map { Pace($0.text) }.filter { !$0.isClean }
        let added = full.resident - idle.resident
        return Verdict(
            figures: "idle RssAnon \(rounded(idle.anonymous, 1)) MiB (at most \(anonymousMiBMax)), "
                + "VmRSS \(rounded(idle.resident, 1)) MiB (at most \(residentMiBMax)); "
                + "\(connections) kept connections add \(rounded(added, 1)) MiB "
                + "(at most \(addedMiBMax)); "
                + (failed.isEmpty ? "no request failed" : failed.map(\.text).joined()),
            holds: idle.anonymous <= anonymousMiBMax && idle.resident <= residentMiBMax
                && added <= addedMiBMax && failed.isEmpty)
    }

    private static func memory(_ node: TestNode, _ agent: TestProcess) -> Memory {
        var sum = Memory()
        for pid in [agent.pid, node.child(of: agent)].compactMap({ $0 }) {
            for line in Command.text("/proc/\(pid)/status").split(separator: "\n") {
                let words = line.split(whereSeparator: \.isWhitespace)
                guard words.count > 1, let kib = Double(words[1]) else { continue }
                if words[0] == "RssAnon:" { sum.anonymous += kib / 1024 }
                if words[0] == "VmRSS:" { sum.resident += kib / 1024 }
            }
        }
        return sum
    }

    private static let gateway = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: GatewayClass
        metadata: {name: malla}
        spec: {controllerName: malla.io/gateway-controller}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: front, namespace: bed}
        spec:
          gatewayClassName: malla
          listeners: [{name: http, protocol: HTTP, port: 80}]

        """
}
