import Foundation
import TestSupport

/// A mesh whose service is open to the outside: a client and a server on one node, a server on
/// another, and a host outside that routes the service's external addresses to the first node.
enum OpenMesh {
    /// curl's exit status for a connection that is refused.
    static let refused: Int32 = 7
    static let ask = ["curl", "-sS", "-i", "-m", "4"]

    /// The ClusterIPs of the service, a family each.
    static let addresses = ["10.96.0.1", "fd00:96::1"]
    static let clusterUrls = ["http://10.96.0.1/", "http://[fd00:96::1]/"]
    /// The same, and IPv4 as a socket of IPv6 dials it.
    static let socketAddresses = addresses + ["::ffff:10.96.0.1"]
    /// ClusterIP, node port at both nodes, external and load balancer's address; both families.
    static let urls =
        clusterUrls + ["http://10.76.0.2:30080/", "http://[fd00:76::2]:30080/"] + outerUrls
    /// Those of them that are served to somebody outside, by the first node.
    static let outerUrls = [
        "http://10.76.0.1:30080/", "http://[fd00:76::1]:30080/", "http://10.98.0.1/",
        "http://[fd00:98::1]/", "http://10.99.0.1/", "http://[fd00:99::1]/",
    ]

    /// Says who has answered so many calls, a connection each: `PythonPrograms.visits`.
    static func visits(_ host: String, port: Int = 80, _ count: Int) -> [String] {
        ["/usr/bin/python3", "-c", PythonPrograms.visits, host, "\(port)", "\(count)"]
    }

    /// A LoadBalancer service; its numbers follow from `index`.
    static func service(
        _ name: String, pods: [String], port: Int = 80, target: Int = 8080,
        transport: String = "TCP", at index: Int = 1, more: String = ""
    ) -> String {
        // Every pod has a label of its own name, and one of "both".
        let selector = pods.count > 1 ? "{bed: both}" : "{app: \(pods.first ?? "none")}"
        var text = """
            apiVersion: v1
            kind: Service
            metadata: {name: \(name), namespace: \(Testbed.space)}
            spec:
              type: LoadBalancer
              clusterIP: 10.96.0.\(index)
              clusterIPs: [10.96.0.\(index), "fd00:96::\(index)"]
              externalIPs: [10.98.0.\(index), "fd00:98::\(index)"]
              selector: \(selector)
              ports:
              - {name: tcp, port: \(port), targetPort: \(target), protocol: \(transport), \
            nodePort: \(30079 + index)}
            """
        if !more.isEmpty {
            text += "\n" + more.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n")
        }
        return text + """

            status:
              loadBalancer: {ingress: [{ip: 10.99.0.\(index)}, {ip: "fd00:99::\(index)"}]}

            """
    }

    /// What kube-proxy has for the service: node port and external address to the pod, masqueraded,
    /// and connections that it does not know dropped.
    static func kubeProxyRules(_ pod: TestPod) -> String {
        """
        table ip kube-proxy {
          chain nat-prerouting {
            type nat hook prerouting priority -100
            tcp dport 30080 dnat to \(pod.v4):8080
            ip daddr 10.98.0.1 tcp dport 80 dnat to \(pod.v4):8080
            ip daddr 10.96.0.1 tcp dport 80 dnat to \(pod.v4):8080
          }
          chain nat-postrouting {
            type nat hook postrouting priority 100
            ip daddr \(pod.v4) masquerade
          }
          chain filter-forward {
            type filter hook forward priority 0
            ct state invalid drop
          }
        }
        """
    }

    /// Two services of UDP, `dns` and `other`, whose one endpoint is the pod `near`; these pods have
    /// servers of it.
    static func runningTwo(servers: [String]) throws -> Running {
        func text(_ name: String, _ index: Int) -> String {
            service(name, pods: ["near"], port: 53, target: 5353, transport: "UDP", at: index)
        }
        return try running(text("dns", 1)) { bed in
            try bed.configure("other.yaml", text("other", 2))
            for pod in servers { try bed[pod].start("udp", ServiceTrafficTests.datagramServer) }
        }
    }

    /// A mesh of "n1: client, near; n2: far" with the service of `text`, whose selector says which
    /// of the servers are behind it. `wrapper` is the command that starts the agents.
    static func running(
        _ text: String, wrapper: [String] = [], _ configure: (Testbed) throws -> Void = { _ in }
    ) throws -> Running {
        let bed = try Testbed("n1: client, near; n2: far")
        do {
            _ = try bed["near"].serve()
            _ = try bed["far"].serve()
            try bed.describe([])
            try label(bed)
            try bed.configure("service.yaml", text)
            try configure(bed)
            try Command.shell(
                """
                for net in 10.98.0.0/24 10.99.0.0/24; do
                  ip -n \(short(bed)) route add $net via 10.76.0.1
                done
                for net in fd00:98::/64 fd00:99::/64; do
                  ip -n \(short(bed)) route add $net via fd00:76::1
                done
                """)
            let agents = try bed.topology.nodes.map { each in
                let node = bed[node: each.name]
                return try node.start("agent", wrapper + node.agentArguments())
            }
            for (node, agent) in zip(bed.topology.nodes, agents) {
                try bed[node: node.name].waitUntilReady(agent)
            }
            return Running(bed: bed, agents: agents)
        } catch {
            bed.close()
            throw error
        }
    }

    /// The servers' common label.
    private static func label(_ bed: Testbed) throws {
        let file = "\(bed.configuration)/bed.yaml"
        var text = try String(contentsOfFile: file, encoding: .utf8)
        for name in ["near", "far"] {
            text = text.replacingOccurrences(
                of: "{app: \(name)}", with: "{app: \(name), bed: both}")
        }
        try bed.configure("bed.yaml", text)
    }

    private static func short(_ bed: Testbed) -> String { "malla-\(bed.name)-fabric" }

    struct Running {
        let bed: Testbed
        let agents: [TestProcess]
        var node: TestNode { bed[node: "n1"] }
        var logs: String { agents.map { String($0.text.suffix(2000)) }.joined(separator: "\n--\n") }

        /// What the programs of the first node have decided, for a failed expectation.
        var counters: String {
            (try? node.malla("bpf", "stats").output.components(separatedBy: "\nMAP").first ?? "")
                ?? "no stats"
        }

        func close() { bed.close() }
    }
}

extension Outcome {
    /// Of what it printed.
    var words: [String] { output.split { $0 == " " || $0 == "\n" }.map(String.init) }
}
