// What stands behind a service port: EndpointSlices by the port's name; without any slice, the
// pods that the selector finds, so that stand-alone users need not write slices.

internal import MeshModel

struct EndpointResolution {
    private struct Pod {
        var object: ConfigObject
        var labels: [String: String]
    }
    private struct Label: Hashable {
        var namespace: String
        var key: String
        var value: String
    }

    private let pods: [Pod]
    /// Into `pods`, ascending: a selector looks at those that bear the rarest of its labels.
    private var podsByLabel: [Label: [Int]] = [:]
    /// By node.
    private let zones: [String: String]
    /// Of pods that ask for another share than the others.
    private let weights: [IPAddress: UInt16]
    private var slices: [ObjectName: [ConfigObject]] = [:]
    private var unowned: [ConfigObject] = []
    private var used: Set<ObjectName> = []

    init(_ objects: ObjectSet, nodes: [Node]) {
        pods = objects["Pod"].map { Pod(object: $0, labels: $0.labels) }
        weights = EndpointWeight.all(objects["Pod"])
        zones = Dictionary(
            nodes.map { ($0.name, $0.zone) }, uniquingKeysWith: { first, _ in first })
        for (index, pod) in pods.enumerated() {
            for (key, value) in pod.labels {
                let label = Label(namespace: pod.object.name.namespace, key: key, value: value)
                podsByLabel[label, default: []].append(index)
            }
        }
        for slice in objects["EndpointSlice"] {
            guard let service = slice.labels[Annotation.serviceName] else {
                unowned.append(slice)
                continue
            }
            slices[ObjectName(slice.name.namespace, service), default: []].append(slice)
        }
    }

    /// Gives every port of the service its endpoints.
    mutating func fill(_ service: inout Service, _ object: ConfigObject) {
        used.insert(service.name)
        let spec = object.root["spec"]
        let publishes = spec?["publishNotReadyAddresses"]?.boolean ?? false
        let own = slices[service.name] ?? []
        let selector = spec?["selector"]?.texts ?? [:]
        let ports = spec?["ports"]?.list ?? []
        for index in service.ports.indices {
            if !own.isEmpty {
                service.ports[index].endpoints = endpoints(
                    service.ports[index], own, publishesNotReady: publishes)
            } else if !selector.isEmpty, service.type != "ExternalName" {
                service.ports[index].endpoints = selected(
                    service.ports[index], ports[index], selector, service.name.namespace,
                    publishesNotReady: publishes)
            }
        }
    }

    /// Puts a newer version of a slice in its place. `nil`: it is not known, or of another service
    /// now; else that service's name.
    mutating func replace(_ slice: ConfigObject) -> ObjectName? {
        guard let label = slice.labels[Annotation.serviceName] else { return nil }
        let service = ObjectName(slice.name.namespace, label)
        guard let index = slices[service]?.firstIndex(where: { $0.name == slice.name }) else {
            return nil
        }
        slices[service]?[index] = slice
        return service
    }

    /// Slices that no service claims.
    func orphans() -> [(ConfigObject, String)] {
        var found: [(ConfigObject, String)] = unowned.map {
            ($0, "has no label \(Annotation.serviceName); its endpoints are unused: add it")
        }
        for (service, own) in slices where !used.contains(service) {
            found += own.map {
                (
                    $0,
                    "belongs to Service \(service), which does not exist (or was "
                        + "refused); its endpoints are unused: add the Service"
                )
            }
        }
        return found.sorted { $0.0.name < $1.0.name }
    }

    private func endpoints(
        _ port: ServicePort, _ slices: [ConfigObject], publishesNotReady: Bool
    ) -> [Endpoint] {
        var endpoints: [Endpoint] = []
        var seen: Set<SocketAddress> = []
        let own = slices.filter { $0.root["addressType"]?.text != "FQDN" }
        // No more than there will be: they stay for as long as the service does.
        endpoints.reserveCapacity(own.reduce(0) { $0 + ($1.root["endpoints"]?.count ?? 0) })
        for slice in own {
            let match = (slice.root["ports"]?.list ?? []).first {
                ($0["name"]?.text ?? "") == port.name
                    && ($0["protocol"]?.text ?? "TCP") == port.transport.rawValue
            }
            guard let number = match?["port"]?.integer else { continue }
            for entry in slice.root["endpoints"]?.list ?? [] {
                let conditions = entry["conditions"]
                let isReady = conditions?["ready"]?.boolean ?? true
                let isServing = conditions?["serving"]?.boolean ?? isReady
                let isTerminating = conditions?["terminating"]?.boolean ?? false
                // Its addresses are fungible (EndpointSlice v1): the first one stands for all.
                guard let text = entry["addresses"]?.list.first?.text,
                    let address = IPAddress(text)
                else { continue }
                let socket = SocketAddress(address, UInt16(clamping: number))
                guard seen.insert(socket).inserted else { continue }
                let node = entry["nodeName"]?.text ?? ""
                endpoints.append(
                    Endpoint(
                        address: socket, node: node, isReady: isReady || publishesNotReady,
                        isServing: isServing, isTerminating: isTerminating,
                        zone: entry["zone"]?.text ?? zones[node] ?? "",
                        hintZones: Self.names(entry["hints"]?["forZones"]),
                        hintNodes: Self.names(entry["hints"]?["forNodes"]),
                        weight: weights[address] ?? 1))
            }
        }
        return endpoints
    }

    private static func names(_ hints: Value?) -> [String] {
        (hints?.list ?? []).compactMap { $0["name"]?.text }
    }

    private func selected(
        _ port: ServicePort, _ value: Value, _ selector: [String: String], _ namespace: String,
        publishesNotReady: Bool
    ) -> [Endpoint] {
        var endpoints: [Endpoint] = []
        let bearers = selector.map { key, value in
            podsByLabel[Label(namespace: namespace, key: key, value: value)] ?? []
        }
        for index in bearers.min(by: { $0.count < $1.count }) ?? [] {
            let (pod, labels) = (pods[index].object, pods[index].labels)
            guard selector.allSatisfy({ labels[$0.key] == $0.value }), !Self.hasEnded(pod),
                let number = Self.target(value, port, pod)
            else { continue }
            let isReady = Self.isReady(pod)
            let node = pod.root["spec"]?["nodeName"]?.text ?? ""
            let isTerminating = pod.root["metadata"]?["deletionTimestamp"] != nil
            for address in Workload.addresses(pod) {
                endpoints.append(
                    Endpoint(
                        address: SocketAddress(address, number), node: node,
                        isReady: (isReady && !isTerminating) || publishesNotReady,
                        isServing: isReady, isTerminating: isTerminating,
                        zone: zones[node] ?? "", weight: weights[address] ?? 1))
            }
        }
        return endpoints
    }

    private static func hasEnded(_ pod: ConfigObject) -> Bool {
        ["Succeeded", "Failed"].contains(pod.root["status"]?["phase"]?.text ?? "")
    }

    /// The condition Ready decides where there is one; a hand-written pod without is ready.
    private static func isReady(_ pod: ConfigObject) -> Bool {
        let conditions = pod.root["status"]?["conditions"]?.list ?? []
        guard let ready = conditions.first(where: { $0["type"]?.text == "Ready" }) else {
            return pod.root["status"]?["phase"]?.text != "Pending"
        }
        return ready["status"]?.text == "True"
    }

    private static func target(
        _ value: Value, _ port: ServicePort, _ pod: ConfigObject
    ) -> UInt16? {
        guard let name = value["targetPort"]?.text else {
            return value["targetPort"]?.integer.map { UInt16(clamping: $0) } ?? port.port
        }
        let spec = pod.root["spec"]
        let containers = (spec?["containers"]?.list ?? []) + (spec?["initContainers"]?.list ?? [])
        for container in containers {
            for entry in container["ports"]?.list ?? [] where entry["name"]?.text == name {
                guard (entry["protocol"]?.text ?? "TCP") == port.transport.rawValue else {
                    continue
                }
                return entry["containerPort"]?.integer.map { UInt16(clamping: $0) }
            }
        }
        return nil
    }
}
