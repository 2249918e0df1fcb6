internal import MeshConfig
internal import MeshModel
import Testing

/// One object of any kind that breaks one rule; the text is the object without apiVersion.
@Suite("An object that breaks a rule is refused alone")
struct ObjectRuleTests {
    static let gateway = "kind: Gateway\nmetadata: {name: g}\nspec: "
    static let service = "kind: Service\nmetadata: {name: s}\nspec: "
    static let pod = "kind: Pod\nmetadata: {name: p}\nstatus: "
    static let slice =
        "kind: EndpointSlice\nmetadata: {name: e, labels: {kubernetes.io/service-name: s}}\n"

    static let gateways: [RefusalRow] = [
        .init(
            "class required", "\(gateway){listeners: [{name: a, port: 80, protocol: HTTP}]}",
            "spec.gatewayClassName", "required"),
        .init(
            "listeners required", "\(gateway){gatewayClassName: malla}", "spec.listeners",
            "required"),
        .init(
            "listeners not empty", "\(gateway){gatewayClassName: malla, listeners: []}",
            "spec.listeners", "at least 1"),
        .init(
            "listener names differ",
            """
            \(gateway){gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: \
            HTTP}, {name: a, port: 81, protocol: HTTP}]}
            """,
            "spec.listeners[1].name", "twice"),
        .init(
            "port, protocol and hostname differ",
            """
            \(gateway){gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: \
            HTTP}, {name: b, port: 80, protocol: HTTP}]}
            """,
            "spec.listeners[1]", "another listener"),
        .init(
            "listener port",
            "\(gateway){gatewayClassName: malla, listeners: [{name: a, port: 0, protocol: HTTP}]}",
            "spec.listeners[0].port", "1...65535"),
        .init(
            "no tls for HTTP",
            """
            \(gateway){gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: \
            HTTP, tls: {certificateRefs: [{name: c}]}}]}
            """,
            "spec.listeners[0].tls", "protocol HTTP"),
        .init(
            "certificate required",
            """
            \(gateway){gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: \
            HTTPS, tls: {mode: Terminate}}]}
            """,
            "spec.listeners[0].tls.certificateRefs", "required"),
        .init(
            "no passthrough for HTTPS",
            """
            \(gateway){gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: \
            HTTPS, tls: {mode: Passthrough}}]}
            """,
            "spec.listeners[0].tls.mode", "Terminate"),
        .init(
            "TLS needs a mode",
            "\(gateway){gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: TLS}]}",
            "spec.listeners[0].tls.mode", "required"),
        .init(
            "no hostname for TCP",
            """
            \(gateway){gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: \
            TCP, hostname: a.com}]}
            """,
            "spec.listeners[0].hostname", "protocol TCP"),
        .init(
            "address is an address",
            """
            \(gateway){gatewayClassName: malla, addresses: [{value: a.com}], listeners: \
            [{name: a, port: 80, protocol: HTTP}]}
            """,
            "spec.addresses[0].value", "no IPv4"),
        .init(
            "addresses differ",
            """
            \(gateway){gatewayClassName: malla, addresses: [{value: 10.0.0.1}, {value: \
            10.0.0.1}], listeners: [{name: a, port: 80, protocol: HTTP}]}
            """,
            "spec.addresses[1].value", "twice"),
        .init(
            "selector required",
            """
            \(gateway){gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: \
            HTTP, allowedRoutes: {namespaces: {from: Selector}}}]}
            """,
            "spec.listeners[0].allowedRoutes.namespaces.selector", "required"),
        .init(
            "from is one of three",
            """
            \(gateway){gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: \
            HTTP, allowedRoutes: {namespaces: {from: Any}}}]}
            """,
            "spec.listeners[0].allowedRoutes.namespaces.from", "Same"),
        .init(
            "controllerName",
            "kind: GatewayClass\nmetadata: {name: c}\nspec: {controllerName: malla}",
            "spec.controllerName", "controller name"),
        .init(
            "grant's from",
            "kind: ReferenceGrant\nmetadata: {name: r}\nspec: {to: [{group: '', kind: Service}]}",
            "spec.from", "required"),
        .init(
            "object name",
            """
            kind: ReferenceGrant\nmetadata: {name: R_1}\nspec: {from: [{group: '', kind: A, \
            namespace: b}], to: [{group: '', kind: Service}]}
            """,
            "metadata.name", "DNS name"),
    ]

    @Test(arguments: gateways) func `a broken object of Gateway API is refused`(_ row: RefusalRow)
        throws
    {
        try expect(row, apiVersion: "gateway.networking.k8s.io/v1")
    }

    static let cores: [RefusalRow] = [
        .init(
            "service name is a label", "kind: Service\nmetadata: {name: a.b}", "metadata.name",
            "DNS label"),
        .init(
            "namespace is a label", "kind: Pod\nmetadata: {name: a, namespace: A}",
            "metadata.namespace", "DNS label"),
        .init("clusterIP", "\(service){clusterIP: a}", "spec.clusterIP", "no IPv4"),
        .init(
            "clusterIP is no loopback", "\(service){clusterIP: 127.0.0.1}", "spec.clusterIP",
            "cannot be"),
        .init(
            "clusterIP is not multicast", "\(service){clusterIP: 224.0.0.1}", "spec.clusterIP",
            "cannot be"),
        .init(
            "clusterIP is not IPv4 in IPv6 dress", "\(service){clusterIP: '::ffff:10.96.0.12'}",
            "spec.clusterIP", "no IPv4"),
        .init(
            "podIP and podIPs agree", "\(pod){podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.2}]}",
            "status.podIPs[0].ip", "differs"),
        .init(
            "clusterIPs agree", "\(service){clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2]}",
            "spec.clusterIPs[0]", "differs"),
        .init("port required", "\(service){ports: [{name: a}]}", "spec.ports[0].port", "required"),
        .init(
            "port range", "\(service){ports: [{port: 65536}]}", "spec.ports[0].port",
            "1...65535"),
        .init(
            "ports named", "\(service){ports: [{port: 80}, {port: 81}]}", "spec.ports[0].name",
            "required"),
        .init(
            "port names differ", "\(service){ports: [{name: a, port: 80}, {name: a, port: 81}]}",
            "spec.ports[1].name", "two ports"),
        .init(
            "ports differ", "\(service){ports: [{name: a, port: 80}, {name: b, port: 80}]}",
            "spec.ports[1].port", "twice"),
        .init(
            "protocol", "\(service){ports: [{port: 80, protocol: tcp}]}",
            "spec.ports[0].protocol", "TCP"),
        .init(
            "targetPort", "\(service){ports: [{port: 80, targetPort: 0}]}",
            "spec.ports[0].targetPort", "1...65535"),
        .init("type", "\(service){type: Cluster}", "spec.type", "ClusterIP"),
        .init("pod address", "\(pod){podIP: a}", "status.podIP", "no IPv4"),
        .init(
            "a label's value that would forge metrics",
            "kind: Pod\nmetadata: {name: p, labels: {app: \"a\\\"} 1\\nup 0\"}}",
            "metadata.labels[app]", "no value of a label"),
        .init(
            "a label's key", "kind: Pod\nmetadata: {name: p, labels: {'a b': c}}",
            "metadata.labels", "no key of a label"),
        .init(
            "one address a family", "\(pod){podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]}",
            "status.podIPs[1].ip", "second address"),
        .init(
            "interface name",
            """
            kind: Pod\nmetadata: {name: p, annotations: {malla.io/interface: \
            a-very-long-interface}}
            """,
            "metadata.annotations[malla.io/interface]", "1 to 15"),
        .init(
            "a port to exclude that is none",
            """
            kind: Pod\nmetadata: {name: p, annotations: {\
            malla.io/exclude-outbound-ports: "80, 0"}}
            """,
            "metadata.annotations[malla.io/exclude-outbound-ports]", "'0' is no port"),
        .init(
            "a block to exclude that is none",
            """
            kind: Pod\nmetadata: {name: p, annotations: {\
            traffic.sidecar.istio.io/excludeOutboundIPRanges: "10.0.0.1/33"}}
            """,
            "metadata.annotations[traffic.sidecar.istio.io/excludeOutboundIPRanges]", "no block"),
        .init(
            "label values are texts", "kind: Pod\nmetadata: {name: p, labels: {a: 1}}",
            "metadata.labels[a]", "quotes"),
        .init(
            "creationTimestamp", "kind: Pod\nmetadata: {name: p, creationTimestamp: today}",
            "metadata.creationTimestamp", "RFC 3339"),
    ]

    @Test(arguments: cores) func `a broken object of core is refused`(_ row: RefusalRow) throws {
        try expect(row, apiVersion: "v1")
    }

    static let slices: [RefusalRow] = [
        .init("addressType", slice, "addressType", "required"),
        .init(
            "address of the type",
            "\(slice)addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]",
            "endpoints[0].addresses[0]", "addressType"),
        .init(
            "address required", "\(slice)addressType: IPv4\nendpoints: [{nodeName: a}]",
            "endpoints[0].addresses", "required"),
        .init(
            "port", "\(slice)addressType: IPv4\nports: [{port: http}]", "ports[0].port",
            "an integer"),
    ]

    @Test(arguments: slices) func `a broken slice is refused`(_ row: RefusalRow) throws {
        try expect(row, apiVersion: "discovery.k8s.io/v1")
    }

    private func expect(_ row: RefusalRow, apiVersion: String) throws {
        let text = "apiVersion: \(apiVersion)\n\(row.text)\n---\n"
        let result = try TestDirectory.load(
            text + "apiVersion: v1\nkind: Service\nmetadata: {name: good}\n")
        let errors = result.diagnostics.filter { $0.severity == .error }
        #expect(
            errors.contains { $0.field == row.field && $0.message.contains(row.says) },
            "\(result.diagnostics.map(\.description))")
        #expect(errors.allSatisfy { $0.line > 0 && !$0.object.isEmpty })
        #expect(result.mesh.services.map(\.name.name) == ["good"])
        #expect(result.mesh.workloads.isEmpty && result.mesh.listeners.isEmpty)
    }

    /// rule, text, category, what the message says
    static let documents: [(String, String, Diagnostic.Category, String)] = [
        ("no kind", "apiVersion: v1", .invalid, "no 'kind'"),
        ("no apiVersion", "kind: Pod", .invalid, "no 'apiVersion'"),
        ("no name", "apiVersion: v1\nkind: Pod", .invalid, "no 'metadata.name'"),
        ("no object", "- a", .invalid, "not an object"),
        (
            "unknown kind", "apiVersion: v1\nkind: Widget\nmetadata: {name: w}", .unknown,
            "unknown kind"
        ),
        (
            "unknown group", "apiVersion: a.b/v1\nkind: Pod\nmetadata: {name: w}", .unknown,
            "unknown kind"
        ),
        (
            "unsupported kind",
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: w}",
            .unsupported, "not supported"
        ),
        (
            "ignored kind", "apiVersion: v1\nkind: Event\nmetadata: {name: w}", .ignored,
            "ignored"
        ),
        (
            "unsupported version",
            """
            apiVersion: gateway.networking.k8s.io/v9\nkind: HTTPRoute\nmetadata: {name: \
            w}\nspec: {}
            """,
            .unsupported, "version 'v9'"
        ),
        (
            "unknown field",
            "apiVersion: v1\nkind: Service\nmetadata: {name: w}\nspec: {Ports: []}",
            .unknown, "did you mean 'ports'"
        ),
        (
            "unsupported field",
            "apiVersion: v1\nkind: Service\nmetadata: {name: w}\nspec: {loadBalancerClass: a.b/c}",
            .unsupported, "not supported"
        ),
    ]

    @Test(arguments: documents) func `each document is judged alone`(
        _ rule: String, _ text: String, _ category: Diagnostic.Category, _ says: String
    ) throws {
        let result = try TestDirectory.load(
            text
                + """
                \n---\n---\n# nothing\n---\napiVersion: v1\nkind: Service\nmetadata: {name: \
                good}\n
                """
        )
        #expect(
            result.diagnostics.contains { $0.category == category && $0.message.contains(says) },
            "\(result.diagnostics.map(\.description))")
        #expect(result.mesh.services.contains { $0.name.name == "good" })
        #expect(result.unreadableFiles == [])
    }

    @Test func `lists are expanded, and JSON is read`() throws {
        let directory = TestDirectory()
        directory.write(
            "a/list.json",
            #"""
            {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": \#
            "Service", "metadata": {"name": "a"}}, {"apiVersion": "v1", "kind": "Service", \#
            "metadata": {"name": "b"}}]}
            """#
        )
        directory.write(
            "b/c.yml",
            """
            apiVersion: v1\nkind: ServiceList\nitems: [{apiVersion: v1, kind: Service, \
            metadata: {name: c}}]
            """
        )
        directory.write(".hidden.yaml", "- not read")
        directory.write("notes.txt", "- not read")
        var store = ConfigStore(directory: directory.path)
        let result = try store.reload()
        #expect(
            result.mesh.services.map(\.name.description) == ["default/a", "default/b", "default/c"])
        #expect(result.diagnostics.map(\.description) == [])
        #expect(result.fileCount == 2)
    }
}
