internal import MeshConfig
internal import MeshModel
import Testing

@Suite("Services that ask for the same address and port (docs/configuration.md)")
struct ServiceClaimsTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        /// Each service's `creationTimestamp` and spec, in the order in which the file has them.
        let services: [(name: String, created: String, rest: String)]
        /// What is served in the end, service by service.
        let served: [String]
        /// Severity, object and field of what is said.
        let said: [String]
    }

    private static let old = "'2026-01-01T00:00:00Z'"
    private static let new = "'2026-02-01T00:00:00Z'"
    private static func nodePort(_ address: String = "") -> String {
        "spec: {type: NodePort, \(address) ports: [{port: 80, nodePort: 30080}]}"
    }

    static let rows = [
        Row(
            testDescription: "a node port is the older one's, whatever the names",
            services: [("a", new, nodePort()), ("b", old, nodePort())],
            served: ["a", "b 30080"], said: ["warning Service default/a spec.ports[0].nodePort"]),
        Row(
            testDescription: "who does not say his age is the younger",
            services: [("a", "", nodePort()), ("b", new, nodePort())],
            served: ["a", "b 30080"], said: ["warning Service default/a spec.ports[0].nodePort"]),
        Row(
            testDescription: "at the same age the first by name has it, wherever it stands",
            services: [("b", old, nodePort()), ("a", old, nodePort())],
            served: ["a 30080", "b"], said: ["warning Service default/b spec.ports[0].nodePort"]),
        Row(
            testDescription: "node ports of different families or protocols do not meet",
            services: [
                ("a", "", nodePort("clusterIP: 10.96.0.1,")),
                ("b", "", nodePort("clusterIP: 'fd96::1',")),
                (
                    "c", "",
                    "spec: {type: NodePort, ports: [{port: 80, nodePort: 30080, protocol: UDP}]}"
                ),
            ],
            served: ["a 10.96.0.1 30080", "b fd96::1 30080", "c 30080"], said: []),
        Row(
            testDescription: "a ClusterIP is the older one's, and the other service is refused",
            services: [
                ("a", new, "spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}"),
                ("b", old, "spec: {clusterIP: 10.96.0.1, ports: [{port: 81}]}"),
            ],
            served: ["b 10.96.0.1"], said: ["error Service default/a spec.clusterIPs"]),
        Row(
            testDescription:
                "an external address is shared port by port, and a port is the older's",
            services: [
                ("a", new, "spec: {externalIPs: [192.0.2.1, 192.0.2.2], ports: [{port: 80}]}"),
                ("b", old, "spec: {externalIPs: [192.0.2.1], ports: [{port: 80}]}"),
                ("c", new, "spec: {externalIPs: [192.0.2.1], ports: [{port: 81}]}"),
            ],
            served: ["a 192.0.2.2", "b 192.0.2.1", "c 192.0.2.1"],
            said: ["warning Service default/a spec.externalIPs"]),
        Row(
            testDescription: "a ClusterIP goes before an older one's load balancer",
            services: [
                ("a", new, "spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}"),
                (
                    "b", old,
                    "spec: {type: LoadBalancer, ports: [{port: 80}]}, "
                        + "status: {loadBalancer: {ingress: [{ip: 10.96.0.1}]}}"
                ),
            ],
            served: ["a 10.96.0.1", "b"],
            said: ["warning Service default/b status.loadBalancer.ingress"]),
    ]

    @Test(arguments: rows)
    func `one has it, and the other is told`(_ row: Row) throws {
        let result = try TestDirectory.load(
            row.services.map { name, created, rest in
                let age = created.isEmpty ? "" : ", creationTimestamp: \(created)"
                return
                    "{apiVersion: v1, kind: Service, metadata: {name: \(name)\(age)}, \(rest)}"
            }.joined(separator: "\n---\n"))
        let served = result.mesh.services.map { service in
            let addresses =
                service.addresses + service.externalAddresses + service.loadBalancerAddresses
            let ports = service.ports.compactMap(\.nodePort)
            return ([service.name.name] + addresses.map(\.description) + ports.map { "\($0)" })
                .joined(separator: " ")
        }
        #expect(served == row.served)
        let said = result.diagnostics.map { "\($0.severity.rawValue) \($0.object) \($0.field)" }
        #expect(said == row.said)
        #expect(result.diagnostics.allSatisfy { $0.category == .duplicate })
    }
}
