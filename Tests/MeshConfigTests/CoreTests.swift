internal import MeshConfig
internal import MeshModel
import Testing

@Suite("Pods and services become workloads and endpoints")
struct CoreTests {
    @Test func `what a pod excludes is read in Malla's words and Istio's`() throws {
        let result = try TestDirectory.load(
            """
            apiVersion: v1
            kind: Pod
            metadata:
              name: p
              annotations:
                malla.io/exclude-outbound-ports: "3306, 6379,3306"
                traffic.sidecar.istio.io/excludeOutboundPorts: "25"
                malla.io/exclude-outbound-cidrs: "10.96.4.0/24"
                traffic.sidecar.istio.io/excludeOutboundIPRanges: "::/0 , 10.96.4.1/24"
                malla.io/exclude-inbound-ports: "9090"
                traffic.sidecar.istio.io/excludeInboundPorts: "15020,9090"
                malla.io/exclude-inbound-cidrs: "10.1.0.0/16"
            status: {podIP: 10.1.0.1}

            """)
        let workload = try #require(result.mesh.workloads.first)
        let exclusions = workload.exclusions
        #expect(workload.inboundExclusions.ports == [9090, 15020])
        #expect(workload.inboundExclusions.blocks == [IPPrefix("10.1.0.0/16")])
        #expect(exclusions.ports == [3306, 6379, 25])
        #expect(exclusions.blocks == [IPPrefix("10.96.4.0/24"), .allIPv6])
        #expect(result.diagnostics.isEmpty)
    }

    /// annotation, whether the pod fails closed; nil: it is refused
    static let failureModes: [(String, Bool?)] = [
        ("", false), ("malla.io/failure-mode: open", false),
        ("malla.io/failure-mode: closed", true),
        ("malla.io/failure-mode: ajar", nil), ("malla.io/inbound: l7", true),
        ("malla.io/inbound: l7, malla.io/failure-mode: open", false), ("malla.io/inbound: l4", nil),
    ]

    @Test(arguments: failureModes) func `a pod says what becomes of its calls without an engine`(
        _ annotation: String, _ failsClosed: Bool?
    ) throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Pod, metadata: {name: p, annotations: {\(annotation)}},
             status: {podIP: 10.0.0.1}}
            """)
        #expect(result.mesh.workloads.first?.engineUse.failsClosed == failsClosed)
        #expect(result.diagnostics.isEmpty == (failsClosed != nil))
    }

    /// annotation, the weights of the slice's and of the selected endpoint; nil: it is refused
    static let weights: [(String, UInt16?)] = [
        ("", 1), ("malla.io/weight: \"0\"", 0), ("malla.io/weight: \"256\"", 256),
        ("malla.io/weight: \"257\"", nil), ("malla.io/weight: heavy", nil),
        ("malla.io/weight: \"-1\"", nil), ("malla.io/weight: \"1.5\"", nil),
        ("malla.io/weight: \"\"", nil),
    ]

    @Test(arguments: weights) func `a pod says its share, wherever its address is from`(
        _ annotation: String, _ weight: UInt16?
    ) throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: p},
             annotations: {\(annotation)}}, status: {podIP: 10.0.0.1}}
            ---
            {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 10.96.0.1,
             selector: {app: p}, ports: [{port: 80}]}}
            ---
            {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIP: 10.96.0.2,
             ports: [{port: 80}]}}
            ---
            {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
             metadata: {name: b-1, labels: {kubernetes.io/service-name: b}}, ports: [{port: 80}],
             endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]}
            """)
        let found = result.mesh.services.map { $0.ports[0].endpoints.map(\.weight) }
        guard let weight else {
            let problem = try #require(result.diagnostics.first)
            #expect(problem.object == "Pod default/p" && found == [[], [1, 1]])
            #expect(problem.field == "metadata.annotations[malla.io/weight]")
            #expect(problem.message.contains("an integer in 0...256"), "\(problem)")
            return
        }
        #expect(found == [[weight], [weight, 1]])
        #expect(result.diagnostics.isEmpty)
    }

    /// labels of the namespace, labels of the pod, whether it is in the mesh
    static let members: [(String, String, Bool)] = [
        ("{}", "{}", true),
        ("{malla.io/mesh: disabled}", "{}", false),
        ("{malla.io/mesh: disabled}", "{malla.io/mesh: enabled}", true),
        ("{malla.io/mesh: enabled}", "{malla.io/mesh: disabled}", false),
        ("{istio.io/dataplane-mode: none}", "{}", false),
        ("{istio.io/dataplane-mode: none}", "{istio.io/dataplane-mode: ambient}", true),
        ("{}", "{malla.io/mesh: enabled, istio.io/dataplane-mode: none}", true),
    ]

    @Test(arguments: members) func `labels say who is in the mesh`(
        _ namespace: String, _ pod: String, _ isMeshed: Bool
    ) throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Namespace, metadata: {name: a, labels: \(namespace)}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: a, labels: \(pod)},
             status: {podIP: 10.0.0.1}}
            """)
        #expect(result.mesh.workloads.map(\.isMeshed) == [isMeshed])
    }

    /// rule, spec, status, why it is no workload
    static let absent: [(String, String, String)] = [
        ("{hostNetwork: true}", "{podIP: 10.0.0.1}", "hostNetwork"),
        ("{}", "{phase: Succeeded, podIP: 10.0.0.1}", "Succeeded"),
        ("{}", "{phase: Failed, podIP: 10.0.0.1}", "Failed"),
        ("{}", "{phase: Pending}", "no address"),
    ]

    @Test(arguments: absent) func `a pod without traffic of its own is no workload, and named`(
        _ spec: String, _ status: String, _ says: String
    ) throws {
        let result = try TestDirectory.load(
            "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: \(spec), status: \(status)}")
        #expect(result.mesh.workloads.isEmpty)
        #expect(result.diagnostics.contains { $0.message.contains(says) && $0.severity == .info })
    }

    /// appProtocol, port name, what it speaks
    static let protocols: [(String?, String, ApplicationProtocol)] = [
        (nil, "http", .http), (nil, "http-web", .http), (nil, "http2", .http2),
        (nil, "grpc-api", .grpc), (nil, "https", .tls), (nil, "tls-a", .tls), (nil, "tcp", .tcp),
        (nil, "httpx", .undeclared), (nil, "web", .undeclared), (nil, "", .undeclared),
        ("http", "tcp", .http), ("kubernetes.io/h2c", "x", .http2), ("grpc", "x", .grpc),
        ("kubernetes.io/ws", "x", .http), ("kubernetes.io/wss", "x", .tls), ("HTTP", "x", .http),
        ("example.com/own", "http", .undeclared),
    ]

    @Test(arguments: protocols) func `a port says what it speaks`(
        _ declared: String?, _ name: String, _ speaks: ApplicationProtocol
    ) throws {
        let field = declared.map { ", appProtocol: '\($0)'" } ?? ""
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{name: \
            '\(name)', port: 80\(field)}]}}
            """
        )
        #expect(result.mesh.services[0].ports[0].application == speaks)
    }

    /// conditions, publishNotReadyAddresses, ready, serving, terminating
    static let conditions: [(String, Bool, Bool, Bool, Bool)] = [
        ("{}", false, true, true, false),
        ("{ready: false}", false, false, false, false),
        ("{ready: false, serving: true, terminating: true}", false, false, true, true),
        ("{ready: false}", true, true, false, false),
        ("{ready: null}", false, true, true, false),
    ]

    @Test(arguments: conditions) func `endpoints of a slice have their conditions`(
        _ conditions: String, _ publishes: Bool, _ isReady: Bool, _ isServing: Bool,
        _ isTerminating: Bool
    ) throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Service, metadata: {name: s},
             spec: {publishNotReadyAddresses: \(publishes), ports: [{name: a, port: 80},
               {name: b, port: 81}]}}
            ---
            {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
             metadata: {name: s-1, labels: {kubernetes.io/service-name: s}},
             endpoints: [{addresses: [10.0.0.1], nodeName: n1, conditions: \(conditions)}],
             ports: [{name: b, port: 8080}]}
            """)
        let ports = result.mesh.services[0].ports
        #expect(ports[0].endpoints == [])
        #expect(
            ports[1].endpoints == [
                Endpoint(
                    address: SocketAddress(IPAddress(v4: 0x0a00_0001), 8080), node: "n1",
                    isReady: isReady, isServing: isServing, isTerminating: isTerminating)
            ])
    }

    @Test func `without a slice the selector finds the pods`() throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Service, metadata: {name: s},
             spec: {selector: {app: a}, ports: [{name: x, port: 80, targetPort: web}, {name:
               y, port: 81}]}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: p1, labels: {app: a, b: c}},
             spec: {containers: [{name: m, ports: [{name: web, containerPort: 8080}]}]},
             status: {podIP: 10.0.0.1}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: p2, labels: {app: a}},
             status: {podIP: 10.0.0.2, conditions: [{type: Ready, status: "False"}]}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: p3, labels: {app: b}},
             status: {podIP: 10.0.0.3}}
            """)
        let ports = result.mesh.services[0].ports
        #expect(ports[0].endpoints.map(\.address.description) == ["10.0.0.1:8080"])
        #expect(ports[1].endpoints.map(\.address.description) == ["10.0.0.1:81", "10.0.0.2:81"])
        #expect(ports[1].endpoints.map(\.isReady) == [true, false])
    }

    @Test func `a slice without its Service is named`() throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
             metadata: {name: e, labels: {kubernetes.io/service-name: s}}}
            ---
            {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
              metadata: {name: f}}
            """)
        #expect(result.diagnostics.map(\.category) == [.reference, .reference])
    }

    static let specialAddresses = [
        "0.0.0.0", "::", "127.0.0.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1",
        "::ffff:10.0.0.1", "x",
    ]

    @Test(arguments: specialAddresses)
    func `nobody outside is served at an address that is every node's, every pod's or nobody's`(
        _ address: String
    ) throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Service, metadata: {name: a},
              spec: {clusterIP: 10.96.0.1, externalIPs: [192.0.2.1, '\(address)']}}
            ---
            {apiVersion: v1, kind: Service, metadata: {name: b},
              spec: {clusterIP: 10.96.0.2, type: LoadBalancer},
              status: {loadBalancer: {ingress: [{ip: 192.0.2.2}, {ip: '\(address)'}]}}}
            """)
        // Who wrote the object is refused it; a load balancer's controller is not the author.
        #expect(result.mesh.services.map(\.name.name) == ["b"])
        #expect(result.mesh.services[0].loadBalancerAddresses.map(\.description) == ["192.0.2.2"])
        #expect(
            Set(result.diagnostics.map { "\($0.severity) \($0.field)" }) == [
                "error spec.externalIPs[1]", "warning status.loadBalancer.ingress[1].ip",
            ])
    }

    @Test func `two services with one address: the first keeps it, the second is refused whole`()
        throws
    {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 10.96.0.1}}
            ---
            {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIP: 10.96.0.1}}
            """)
        #expect(result.mesh.services.map(\.name.name) == ["a"])
        #expect(result.diagnostics.map(\.object) == ["Service default/b"])
    }

    @Test func `headless and external services have no address`() throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: None,
              externalIPs: [198.51.100.1], ports: [{port: 80, nodePort: 30080}]}}
            ---
            {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {type: ExternalName,
              externalName: b.com, clusterIP: 10.96.0.1, externalIPs: [198.51.100.1],
              ports: [{port: 80, nodePort: 30080}]}}
            """)
        #expect(result.mesh.services.map(\.addresses) == [[], []])
        #expect(result.mesh.services.map(\.externalAddresses) == [[], []])
        #expect(result.mesh.services.map { $0.ports.map(\.nodePort) } == [[nil], [nil]])
        #expect(result.diagnostics.isEmpty)
    }
}
