// Writes a bed's nodes, pods, services and routes as the Kubernetes-style objects that agents read.

/// One service of a bed.
public struct TestService: Sendable {
    public var name: String
    /// 1...250; the service's addresses are 10.96.0.index and fd00:96::index.
    public var index: Int
    /// `http` is served by the engine, `tcp` and `udp` stay in the kernel.
    public var portName: String
    public var pods: [String]
    public var port = 80
    public var targetPort = 8080

    public init(
        _ name: String, _ index: Int, _ portName: String, to pods: [String], port: Int = 80,
        targetPort: Int = 8080
    ) {
        self.name = name
        self.index = index
        self.portName = portName
        self.pods = pods
        self.port = port
        self.targetPort = targetPort
    }

    public var v4: String { "10.96.0.\(index)" }
    public var v6: String { "fd00:96::\(index)" }
    public var urls: [String] { ["http://\(v4):\(port)", "http://[\(v6)]:\(port)"] }
    var transport: String { portName == "udp" ? "UDP" : "TCP" }
}

extension Testbed {
    /// The namespace of every object that the bed writes.
    public static let space = "bed"

    /// Writes `bed.yaml`: nodes, pods, services; and the services' names into the pods' hosts.
    public func describe(_ services: [TestService]) throws {
        var objects = ["apiVersion: v1\nkind: Namespace\nmetadata: {name: \(Self.space)}"]
        objects += topology.nodes.map { node in
            """
            apiVersion: v1
            kind: Node
            metadata: {name: \(node.name)}
            status:
              addresses:
                - {type: InternalIP, address: \(node.v4)}
                - {type: InternalIP, address: "\(node.v6)"}
            """
        }
        objects += topology.pods.map { written($0) }
        objects += services.flatMap { written($0) }
        try configure("bed.yaml", objects.joined(separator: "\n---\n") + "\n")
        try name(services.flatMap { [($0.v4, $0.name), ($0.v6, $0.name)] })
    }

    /// Writes `route-NAME.yaml`: an HTTPRoute for port 80 of a service (or of a Gateway, with
    /// `parent` as YAML); `rules` is YAML, a list item for each rule.
    public func route(
        _ name: String, of service: String = "", parent: String? = nil, rules: String
    ) throws {
        let reference = parent ?? "{group: \"\", kind: Service, name: \(service), port: 80}"
        let indented = rules.split(separator: "\n").map { "    \($0)" }.joined(separator: "\n")
        try configure(
            "route-\(name).yaml",
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: \(name), namespace: \(Self.space)}
            spec:
              parentRefs: [\(reference)]
              rules:
            \(indented)

            """)
    }

    /// Adds an annotation to a pod that `describe` has written.
    public func annotate(_ pod: String, _ annotation: String) throws {
        let plain = "malla.io/interface: lxc-\(pod)"
        let text = try Command.shell("cat \(configuration)/bed.yaml")
        guard text.contains(plain) else { throw CommandFailure(description: "no pod \(pod)") }
        try configure("bed.yaml", text.replacing(plain, with: "\(plain), \(annotation)"))
    }

    private func written(_ pod: Topology.Pod) -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata:
          name: \(pod.name)
          namespace: \(Self.space)
          labels: {app: \(pod.name)}
          annotations: {malla.io/interface: \(pod.interface)}
        spec:
          nodeName: \(pod.node)
          serviceAccountName: \(pod.name)
          containers: [{name: main, image: none, ports: [{containerPort: 8080}]}]
        status:
          phase: Running
          podIP: \(pod.v4)
          podIPs: [{ip: \(pod.v4)}, {ip: "\(pod.v6)"}]
          conditions: [{type: Ready, status: "True"}]
        """
    }

    private func written(_ service: TestService) -> [String] {
        let head = """
            apiVersion: v1
            kind: Service
            metadata: {name: \(service.name), namespace: \(Self.space)}
            spec:
              clusterIP: \(service.v4)
              clusterIPs: [\(service.v4), "\(service.v6)"]
              ipFamilies: [IPv4, IPv6]
              selector: {app: \(service.pods.first ?? "none")}
              ports:
                - {name: \(service.portName), port: \(service.port), \
            targetPort: \(service.targetPort), protocol: \(service.transport)}
            """
        return [head]
            + ["IPv4", "IPv6"].map { family in
                let endpoints = service.pods.map { name in
                    """
                      - addresses: ["\(family == "IPv4" ? self[name].v4 : self[name].v6)"]
                        nodeName: \(self[name].node)
                        conditions: {ready: true}
                        targetRef: {kind: Pod, name: \(name), namespace: \(Self.space)}
                    """
                }
                return """
                    apiVersion: discovery.k8s.io/v1
                    kind: EndpointSlice
                    metadata:
                      name: \(service.name)-\(family.lowercased())
                      namespace: \(Self.space)
                      labels: {kubernetes.io/service-name: \(service.name)}
                    addressType: \(family)
                    endpoints:\(endpoints.isEmpty ? " []" : "")
                    \(endpoints.joined(separator: "\n"))
                    ports:
                      - {name: \(service.portName), port: \(service.targetPort), \
                    protocol: \(service.transport)}
                    """
            }
    }
}
