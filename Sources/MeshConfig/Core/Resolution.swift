// Objects -> Mesh. The order is that of the references: nodes, pods, services with their
// endpoints, gateways, routes. What cannot be followed is noted and the rest goes on.

internal import MeshModel

struct Resolution {
    let objects: ObjectSet
    var mesh = Mesh()
    var gatewayStatuses: [GatewayStatus] = []
    var routeStatuses: [RouteStatus] = []
    var policyStatuses: [PolicyStatus] = []
    private(set) var diagnostics: [Diagnostic] = []

    /// Into `mesh.services`.
    private(set) var serviceIndex: [ObjectName: Int] = [:]
    /// What gave the services their endpoints.
    private(set) var endpoints: EndpointResolution?

    private let refusals: [Refusal]

    init(
        _ objects: ObjectSet, refusals: [Refusal] = [], rootNamespace: String = "istio-system"
    ) {
        self.objects = objects
        mesh.rootNamespace = rootNamespace
        self.refusals = refusals
    }

    mutating func resolve() {
        mesh.nodes = objects["Node"].map(Node.init)
        resolveWorkloads()
        mesh.namespaces = objects.namespaceLabels
        mesh.policies =
            objects["NetworkPolicy"].map(NetworkPolicy.init(namespaced:))
            + objects["ClusterNetworkPolicy"].map(NetworkPolicy.init(clusterWide:))
        resolvePeerAuthentications()
        resolveServices()
        var policies = BackendTLSResolution(
            objects, services: mesh.services, serviceIndex: serviceIndex)
        policies.resolve()
        mesh.services = policies.services
        policyStatuses = policies.statuses
        var gateways = GatewayResolution(objects: objects, mesh: mesh)
        gateways.resolve()
        var routes = RouteResolution(
            objects: objects, services: mesh.services, serviceIndex: serviceIndex,
            gateways: gateways)
        routes.resolve()
        noteUnspoken(routes.routes.filter { !$0.isTCP })
        mesh.listeners = gateways.listeners
        mesh.routes = routes.routes
        mesh.certificates = gateways.certificates.certificates
        gatewayStatuses = routes.gateways.statuses(nodes: mesh.nodes)
        routeStatuses = routes.statuses
        for refusal in refusals {
            if refusal.object.kind == "Gateway" {
                gatewayStatuses.append(refusal.gatewayStatus)
            } else if let status = refusal.routeStatus(routes.gateways) {
                routeStatuses.append(status)
            }
        }
        gatewayStatuses.sort { $0.name < $1.name }
        routeStatuses.sort { $0.name < $1.name }
        diagnostics += policies.diagnostics + gateways.diagnostics + routes.diagnostics
    }

    mutating func note(_ object: ConfigObject, _ finding: ShapeCheck.Finding) {
        diagnostics.append(object.diagnostic(finding))
    }

    /// Names the ports that are declared as an HTTP that the engine does not speak.
    private mutating func noteUnspoken(_ routes: [HTTPRoute]) {
        let routed = Set(routes.flatMap(\.attachments))
        for object in objects["Service"] {
            guard let index = serviceIndex[object.name] else { continue }
            let values = object.root["spec"]?["ports"]?.list ?? []
            for (number, port) in mesh.services[index].ports.enumerated() {
                guard port.application.isHTTP, !port.application.isSpoken else { continue }
                let value = values[number]
                let field = value["appProtocol"]?.text?.isEmpty == false ? "appProtocol" : "name"
                let consequence =
                    routed.contains(.service(index, port: number))
                    ? "an HTTPRoute names the port, so it is captured, and clients that speak "
                        + "HTTP/2 are answered with 505: take the route away"
                    : "the port is balanced in the kernel, per connection, without HTTP metrics"
                note(
                    object,
                    .init(
                        severity: .warning, category: .unsupported,
                        line: value[field]?.line ?? value.line,
                        field: "spec.ports[\(number)].\(field)",
                        condition: nil,
                        message: "\(port.application.rawValue) is not served by the engine of this "
                            + "build, which speaks HTTP/1: \(consequence)"))
            }
        }
    }

    // MARK: Pods

    private mutating func resolveWorkloads() {
        var owners: [IPAddress: ObjectName] = [:]
        for object in objects["Pod"] {
            guard let workload = Workload(object, objects) else {
                if let reason = Workload.absence(object) {
                    note(
                        object,
                        .init(
                            severity: .info, category: .ignored, line: object.line, field: "",
                            condition: nil, message: "is no workload: \(reason)"))
                }
                continue
            }
            if let taken = workload.addresses.first(where: { owners[$0] != nil }),
                let owner = owners[taken]
            {
                note(
                    object,
                    .init(
                        severity: .error, category: .duplicate, line: object.line,
                        field: "status.podIPs", condition: nil,
                        message:
                            "address \(taken) belongs to Pod \(owner) already; this pod is left "
                            + "out: correct one of them"))
                continue
            }
            for address in workload.addresses { owners[address] = workload.name }
            mesh.workloads.append(workload)
        }
    }

    // MARK: Services

    private mutating func resolveServices() {
        var endpoints = EndpointResolution(objects, nodes: mesh.nodes)
        let all = objects["Service"]
        let claims = ServiceClaims(all.map(Service.init), created: all.map(\.created))
        for loss in claims.losses {
            note(all[loss.service], loss, owner: all[loss.owner].name)
        }
        let refused = Set(claims.losses.filter(\.isWhole).map(\.service))
        for (index, object) in all.enumerated() where !refused.contains(index) {
            var service = claims.services[index]
            endpoints.fill(&service, object)
            serviceIndex[service.name] = mesh.services.count
            mesh.services.append(service)
        }
        self.endpoints = endpoints
        for (slice, message) in endpoints.orphans() {
            note(
                slice,
                .init(
                    severity: .warning, category: .reference, line: slice.line,
                    field: "metadata.labels",
                    condition: nil, message: message))
        }
    }

    private mutating func note(
        _ object: ConfigObject, _ loss: ServiceClaims.Loss, owner: ObjectName
    ) {
        let ports = object.root["spec"]?["ports"]?.list ?? []
        let line = loss.port.flatMap { ports[$0]["nodePort"]?.line }
        note(
            object,
            .init(
                severity: loss.isWhole ? .error : .warning, category: .duplicate,
                line: line ?? object.line, field: loss.field, condition: nil,
                message: "\(loss.what) belongs to Service \(owner) already, which is older or, at "
                    + "the same age, first by name; this service "
                    + (loss.isWhole ? "is refused" : "does not have it")
                    + ": correct one of them"))
    }
}
