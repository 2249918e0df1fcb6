import TestSupport
import Testing

/// Services that are names in DNS and nothing more, beside traffic of others.
@Suite("Services that are left alone: headless, ExternalName, SCTP", .serialized)
struct NamesOnlyTests {
    private static let ports = "ports: [{name: tcp, port: 8080, targetPort: 8080, nodePort: 30081}]"

    /// A service `named`, of near, and its slices.
    private static func service(_ bed: Testbed, _ spec: String) -> String {
        let slices = [("IPv4", bed["near"].v4), ("IPv6", bed["near"].v6)].map { family, address in
            """
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata:
              name: named-\(family.lowercased())
              namespace: \(Testbed.space)
              labels: {kubernetes.io/service-name: named}
            addressType: \(family)
            endpoints: [{addresses: ["\(address)"], conditions: {ready: true}}]
            ports: [{name: tcp, port: 8080, protocol: TCP}]

            """
        }
        return """
            apiVersion: v1
            kind: Service
            metadata: {name: named, namespace: \(Testbed.space)}
            spec:
              selector: {app: near}
              \(ports)
              \(spec)

            """ + slices.joined()
    }

    private static func spec(_ lines: String...) -> String { lines.joined(separator: "\n  ") }

    private static let own = spec(
        "type: NodePort", "clusterIP: 10.96.0.99", "clusterIPs: [10.96.0.99, \"fd00:96::99\"]",
        "externalIPs: [10.98.0.99]")
    private static let external = spec("type: ExternalName", "externalName: db.example")
    /// Written over the fields that it had before.
    private static let turned = own.replacing(
        "type: NodePort", with: "type: ExternalName\n  externalName: db.example")
    private static let headless = spec("clusterIP: None", "clusterIPs: [None]")

    private static func rows(_ mesh: SmallMesh.Running) throws -> [Substring] {
        try mesh.node.malla("bpf", "services").output.split(separator: "\n").filter {
            $0.contains("Service \(Testbed.space)/named")
        }
    }

    @Test func `they have no rows, whatever they were before, and disturb nobody`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let bed = mesh.bed
        let near = bed["near"]
        let traffic = try SteadyTraffic(
            bed, client: "client", servers: ["near", "far"],
            dials: [SmallMesh.kernelFar.v4, SmallMesh.kernelFar.v6])
        let before = try mesh.node.malla("bpf", "services").output
        func direct(_ why: String) throws {
            // What DNS answers with for a headless service: the pods themselves.
            for url in ["http://\(near.v4):8080/", "http://[\(near.v6)]:8080/"] {
                let answer = try mesh.client.curl(url)
                #expect(answer.headers["x-pod"] == "near", "\(why), \(url): \(answer.problem)")
            }
        }
        func isServed(_ isServed: Bool, _ why: String) throws {
            try eventually("\(why): \(mesh.logs)") { try Self.rows(mesh).isEmpty != isServed }
            for url in ["http://10.96.0.99:8080/", "http://[fd00:96::99]:8080/"] {
                let status = try mesh.client.curl(url, seconds: isServed ? 5 : 1).status
                #expect((status == 200) == isServed, "\(why), \(url)")
            }
            try direct(why)
        }

        for (spec, has, why) in [
            (Self.headless, false, "headless"), (Self.own, true, "an address of its own"),
            (Self.turned, false, "ExternalName, with what it had left in the object"),
            (Self.own, true, "an address again"), (Self.external, false, "ExternalName"),
        ] {
            try bed.configure("named.yaml", Self.service(bed, spec))
            try eventually("\(why) is known: \(mesh.logs)") {
                try mesh.node.malla("services").output.contains("named")
            }
            try isServed(has, why)
            let rows = try Self.rows(mesh)
            // Two ClusterIPs, an external address, the nodes' port in both families.
            #expect(rows.count == (has ? 5 : 0), "\(why): \(rows)")
            let refused = try mesh.node.metric("malla_config_refused_objects")
            #expect(refused == 0, "\(why): \(mesh.logs)")
        }
        #expect(try mesh.node.malla("bpf", "services").output == before, "what was there is there")
        let outcome = try traffic.stop()
        #expect(outcome.faults.isEmpty && outcome.dials > 10, "\(outcome.faults.prefix(20))")
    }

    @Test func `a port of SCTP has no rows, and its service says so`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        try mesh.bed.configure(
            "stream.yaml",
            OpenMesh.service("stream", pods: ["near"], transport: "SCTP", at: 40))

        try eventually("it says so: \(mesh.logs)") {
            try mesh.node.malla("services").output.contains("SCTP is not served")
        }
        #expect(try !mesh.node.malla("bpf", "services").output.contains("/stream"))
    }
}
