// Objects -> Mesh. The order is that of the references: nodes, pods, services with their
// endpoints, gateways, routes. What cannot be followed is noted and the rest goes on.

internal import MeshModel

struct Resolution {
    let objects: ObjectSet
    private(set) var mesh = Mesh()
    var gatewayStatuses: [GatewayStatus] = []
    var routeStatuses: [RouteStatus] = []
    private(set) var diagnostics: [Diagnostic] = []

    /// Into `mesh.services`.
    private(set) var serviceIndex: [ObjectName: Int] = [:]

    init(_ objects: ObjectSet) {
        self.objects = objects
    }

    mutating func resolve() {
        mesh.nodes = objects["Node"].map(Node.init)
        resolveWorkloads()
        resolveServices()
        var gateways = GatewayResolution(objects: objects, mesh: mesh)
        gateways.resolve()
        var routes = RouteResolution(
            objects: objects, services: mesh.services, serviceIndex: serviceIndex,
            gateways: gateways)
        routes.resolve()
        mesh.listeners = gateways.listeners
        mesh.routes = routes.routes
        gatewayStatuses = routes.gateways.statuses(nodes: mesh.nodes)
        routeStatuses = routes.statuses
        diagnostics += gateways.diagnostics + routes.diagnostics
    }

    mutating func note(_ object: ConfigObject, _ finding: ShapeCheck.Finding) {
        diagnostics.append(object.diagnostic(finding))
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
        var endpoints = EndpointResolution(objects)
        var owners: [IPAddress: ObjectName] = [:]
        for object in objects["Service"] {
            var service = Service(object)
            for address in service.addresses + service.externalAddresses {
                guard let owner = owners[address] else {
                    owners[address] = service.name
                    continue
                }
                note(
                    object,
                    .init(
                        severity: .error, category: .duplicate, line: object.line,
                        field: "spec.clusterIPs", condition: nil,
                        message: "address \(address) belongs to Service \(owner) already; this "
                            + "service keeps all but that address: correct one of them"
                    ))
                service.addresses.removeAll { $0 == address }
                service.externalAddresses.removeAll { $0 == address }
            }
            endpoints.fill(&service, object)
            serviceIndex[service.name] = mesh.services.count
            mesh.services.append(service)
        }
        for (slice, message) in endpoints.orphans() {
            note(
                slice,
                .init(
                    severity: .warning, category: .reference, line: slice.line,
                    field: "metadata.labels",
                    condition: nil, message: message))
        }
    }
}
