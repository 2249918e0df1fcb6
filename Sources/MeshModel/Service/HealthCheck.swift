/// What a load balancer learns when it asks a node for a service: whether to send it traffic.
///
/// - Source: core/v1 ServiceSpec.healthCheckNodePort; kube-proxy's pkg/proxy/healthcheck.
public struct HealthCheck: Hashable, Sendable {
    public var service: ObjectName
    public var port: UInt16
    /// Ready ones on this node, one a pod.
    public var localEndpoints: Int

    public var isHealthy: Bool { localEndpoints > 0 }
}

extension Snapshot {
    /// The services with a health check port; the first one has a port that two ask for.
    public var healthChecks: [HealthCheck] {
        var ports: Set<UInt16> = []
        return mesh.services.compactMap { service in
            guard let port = service.traffic.healthCheckNodePort, ports.insert(port).inserted else {
                return nil
            }
            let ready = service.ports.flatMap(\.endpoints).filter { $0.takesNew && $0.node == node }
            // A pod with two addresses is one pod; the greater of both families' counts is it.
            let addresses = Set(ready.map(\.address.address))
            let count = max(
                addresses.count(where: \.isIPv4), addresses.count(where: { !$0.isIPv4 }))
            return HealthCheck(service: service.name, port: port, localEndpoints: count)
        }
    }
}
