internal import MeshConfig
internal import MeshModel
import Testing

@Suite("What a Service asks of its traffic (core/v1 ServiceSpec)")
struct ServiceTrafficTests {
    /// rule, spec and status as YAML, what it amounts to
    static let rows: [(String, String, ServiceTraffic)] = [
        ("nothing", "spec: {}", ServiceTraffic()),
        (
            "both policies",
            "spec: {type: NodePort, internalTrafficPolicy: Local, "
                + "externalTrafficPolicy: Local}",
            ServiceTraffic(internalPolicy: .local, externalPolicy: .local)
        ),
        (
            "no external policy without external addresses",
            "spec: {externalTrafficPolicy: Local}", ServiceTraffic()
        ),
        (
            "externalIPs have an external policy",
            "spec: {externalTrafficPolicy: Local, externalIPs: [192.0.2.1]}",
            ServiceTraffic(externalPolicy: .local)
        ),
        (
            "affinity, three hours by default", "spec: {sessionAffinity: ClientIP}",
            ServiceTraffic(affinitySeconds: 10800)
        ),
        (
            "affinity of a time",
            "spec: {sessionAffinity: ClientIP, sessionAffinityConfig: "
                + "{clientIP: {timeoutSeconds: 5}}}", ServiceTraffic(affinitySeconds: 5)
        ),
        (
            "a time without affinity",
            "spec: {sessionAffinity: None, sessionAffinityConfig: "
                + "{clientIP: {timeoutSeconds: 5}}}", ServiceTraffic()
        ),
        (
            "PreferSameZone", "spec: {trafficDistribution: PreferSameZone}",
            ServiceTraffic(distribution: .sameZone)
        ),
        (
            "PreferClose is its older name", "spec: {trafficDistribution: PreferClose}",
            ServiceTraffic(distribution: .sameZone)
        ),
        (
            "PreferSameNode", "spec: {trafficDistribution: PreferSameNode}",
            ServiceTraffic(distribution: .sameNode)
        ),
        (
            "source ranges and health check of a load balancer",
            "spec: {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31000, "
                + "loadBalancerSourceRanges: [10.0.0.0/8, 'fd00::/8']}",
            ServiceTraffic(
                externalPolicy: .local,
                sourceRanges: [AddressRange("10.0.0.0/8")!, AddressRange("fd00::/8")!],
                healthCheckNodePort: 31000)
        ),
        (
            "no health check with policy Cluster",
            "spec: {type: LoadBalancer, healthCheckNodePort: 31000}", ServiceTraffic()
        ),
        (
            "source ranges of no load balancer",
            "spec: {type: NodePort, loadBalancerSourceRanges: [10.0.0.0/8]}", ServiceTraffic()
        ),
    ]

    @Test(arguments: rows) func `is read as it is written`(
        _ rule: String, _ text: String, _ traffic: ServiceTraffic
    ) throws {
        let result = try TestDirectory.load(
            "{apiVersion: v1, kind: Service, metadata: {name: s}, \(text)}")
        #expect(result.mesh.services.map(\.traffic) == [traffic], "\(rule)")
        #expect(result.diagnostics.isEmpty, "\(result.diagnostics.map(\.description))")
    }

    @Test func `addresses of a load balancer are its status's, but for those it keeps`() throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: LoadBalancer},
             status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {ip: 192.0.2.2, ipMode: Proxy},
              {hostname: lb.example}, {ip: 'fd00::1', ipMode: VIP}]}}}
            """)
        #expect(
            result.mesh.services[0].loadBalancerAddresses.map(\.description)
                == ["192.0.2.1", "fd00::1"])
    }

    /// field at fault, spec
    static let bad: [(String, String)] = [
        ("spec.loadBalancerSourceRanges[0]", "loadBalancerSourceRanges: [10.0.0.0]"),
        ("spec.loadBalancerSourceRanges[0]", "loadBalancerSourceRanges: [10.0.0.0/33]"),
        ("spec.trafficDistribution", "trafficDistribution: Nearby"),
        ("spec.internalTrafficPolicy", "internalTrafficPolicy: local"),
        (
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            "sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}"
        ),
        ("spec.healthCheckNodePort", "healthCheckNodePort: 70000"),
    ]

    @Test(arguments: bad) func `is refused where the API refuses it`(
        _ field: String, _ spec: String
    ) throws {
        let result = try TestDirectory.load(
            "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {\(spec)}}")
        #expect(result.mesh.services.isEmpty)
        #expect(result.diagnostics.map(\.field) == [field])
    }

    @Test func `host ports of a pod are its containers'`() throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{ports: [
              {containerPort: 80, hostPort: 8080}, {containerPort: 81},
              {containerPort: 53, hostPort: 5353, hostIP: 10.0.0.9, protocol: UDP},
              {containerPort: 82, hostPort: 8082, hostIP: 0.0.0.0}]}]},
             status: {podIP: 10.0.0.1}}
            """)
        #expect(
            result.mesh.workloads[0].hostPorts == [
                HostPort(port: 8080, target: 80),
                HostPort(
                    address: IPAddress("10.0.0.9"), port: 5353, transport: .udp, target: 53),
                HostPort(port: 8082, target: 82),
            ])
    }

    @Test func `zones come from the slice, else from the node; hints from the slice`() throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Node, metadata: {name: n1, labels:
              {topology.kubernetes.io/zone: a}}}
            ---
            {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}
            ---
            {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
             metadata: {name: e, labels: {kubernetes.io/service-name: s}}, ports: [{port: 80}],
             endpoints: [{addresses: [10.0.0.1], nodeName: n1},
              {addresses: [10.0.0.2], nodeName: n1, zone: b,
               hints: {forZones: [{name: b}], forNodes: [{name: n2}]}}]}
            """)
        let ends = result.mesh.services[0].ports[0].endpoints
        #expect(ends.map(\.zone) == ["a", "b"])
        #expect(ends.map(\.hintZones) == [[], ["b"]])
        #expect(ends.map(\.hintNodes) == [[], ["n2"]])
        #expect(result.mesh.nodes[0].zone == "a")
    }

    @Test func `a pod that is being deleted serves on, and is not ready`() throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Service, metadata: {name: s},
             spec: {selector: {app: a}, ports: [{port: 80}]}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: a},
              deletionTimestamp: '2026-11-21T00:00:00Z'}, status: {podIP: 10.0.0.1}}
            """)
        let end = result.mesh.services[0].ports[0].endpoints[0]
        #expect(!end.isReady && end.isServing && end.isTerminating)
    }
}
