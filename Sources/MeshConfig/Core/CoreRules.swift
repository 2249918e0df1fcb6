// The rules between fields of the core kinds that a shape cannot say.

internal import MeshModel

enum NodeRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        for (index, block) in (root["spec"]?["podCIDRs"]?.list ?? []).enumerated() {
            guard let text = block.text, IPPrefix(text) == nil else { continue }
            check.error(
                "spec.podCIDRs[\(index)]", block.line,
                "'\(text)' is no block of addresses such as 10.0.0.0/8")
        }
    }
}

enum PodRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        if let name = root["metadata"]?["annotations"]?[Annotation.interface], let text = name.text,
            text.isEmpty || text.utf8.count > 15 || text.contains("/") || text.contains(" ")
        {
            check.error(
                "metadata.annotations[\(Annotation.interface)]", name.line,
                "'\(text)' is no name of a network interface: 1 to 15 characters")
        }
        checkHostPorts(root["spec"], &check)
        let annotations = root["metadata"]?["annotations"]
        let texts = annotations?.texts ?? [:]
        let problems =
            Exclusions.read(texts, .outbound).problems + Exclusions.read(texts, .inbound).problems
            + EngineUse.read(texts).problems + EndpointWeight.read(texts).problems
        for (name, problem) in problems {
            check.error(
                "metadata.annotations[\(name)]", annotations?[name]?.line ?? root.line, problem)
        }
        guard let status = root["status"] else { return }
        var families: Set<Bool> = []
        for (index, entry) in (status["podIPs"]?.list ?? []).enumerated() {
            guard let ip = entry["ip"], let text = ip.text else { continue }
            let path = "status.podIPs[\(index)].ip"
            guard let address = IPAddress(unmapped: text) else {
                check.error(path, ip.line, "'\(text)' is no IPv4 or IPv6 address")
                continue
            }
            if !families.insert(address.isIPv4).inserted {
                check.error(path, ip.line, "is the second address of its family: at most one each")
            }
        }
        guard let ip = status["podIP"], let text = ip.text, !text.isEmpty else { return }
        guard let address = IPAddress(unmapped: text) else {
            return check.error("status.podIP", ip.line, "'\(text)' is no IPv4 or IPv6 address")
        }
        if let first = status["podIPs"]?.list.first?["ip"]?.text, let listed = IPAddress(first),
            listed != address
        {
            check.error(
                "status.podIPs[0].ip", status["podIPs"]?.line ?? ip.line,
                "'\(first)' differs from status.podIP '\(text)': they must be the same")
        }
    }
}

extension PodRules {
    private static func checkHostPorts(_ spec: Value?, _ check: inout ShapeCheck) {
        for (container, value) in (spec?["containers"]?.list ?? []).enumerated() {
            for (index, port) in (value["ports"]?.list ?? []).enumerated() {
                guard let ip = port["hostIP"], let text = ip.text, !text.isEmpty else { continue }
                let path = "spec.containers[\(container)].ports[\(index)].hostIP"
                guard let address = IPAddress(text) else {
                    check.error(path, ip.line, "'\(text)' is no IPv4 or IPv6 address")
                    continue
                }
                // Not refused, as the API does not: a pod that is refused has no policies.
                if address.isMulticast || (address.isLinkLocal && !address.isIPv4) {
                    check.warn(
                        .unsupported, path, ip.line,
                        "'\(text)' is an address that no node serves: nothing is served there")
                }
            }
        }
    }
}

enum ServiceRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        guard let spec = root["spec"] else { return }
        for (index, address) in (spec["clusterIPs"]?.list ?? []).enumerated() {
            checkAddress(address, "spec.clusterIPs[\(index)]", &check)
        }
        if let address = spec["clusterIP"] { checkAddress(address, "spec.clusterIP", &check) }
        if let first = spec["clusterIPs"]?.list.first?.text, let single = spec["clusterIP"]?.text,
            !single.isEmpty, first != single
        {
            check.error(
                "spec.clusterIPs[0]", spec["clusterIPs"]?.line ?? spec.line,
                "'\(first)' differs from spec.clusterIP '\(single)': they must be the same")
        }
        for (index, range) in (spec["loadBalancerSourceRanges"]?.list ?? []).enumerated() {
            guard let text = range.text, AddressRange(text.filter { $0 != " " }) == nil else {
                continue
            }
            check.error(
                "spec.loadBalancerSourceRanges[\(index)]", range.line,
                "'\(text)' is no block of addresses such as 10.0.0.0/8")
        }
        for (index, address) in (spec["externalIPs"]?.list ?? []).enumerated() {
            guard let problem = problem(ofOuter: address) else { continue }
            check.error("spec.externalIPs[\(index)]", address.line, problem)
        }
        let ingress = root["status"]?["loadBalancer"]?["ingress"]?.list ?? []
        for (index, entry) in ingress.enumerated() {
            guard let ip = entry["ip"], ip.text != "", let problem = problem(ofOuter: ip) else {
                continue
            }
            // Somebody else's controller wrote it: the rest of the service is in force.
            check.warn(
                .unsupported, "status.loadBalancer.ingress[\(index)].ip", ip.line,
                problem + "; nothing is served there")
        }
        checkPorts(spec["ports"]?.list ?? [], &check)
    }

    private static func checkAddress(
        _ value: Value, _ path: String, _ check: inout ShapeCheck
    ) {
        guard let text = value.text, !text.isEmpty, text != "None" else { return }
        guard let address = IPAddress(unmapped: text) else {
            return check.error(path, value.line, "'\(text)' is no IPv4 or IPv6 address, nor None")
        }
        if address.isUnspecified || address.isLoopback || address.isMulticast {
            check.error(path, value.line, "'\(text)' cannot be a service's address")
        }
    }

    /// What is served to those outside must be an address that can be routed to a node.
    ///
    /// - Source: Kubernetes' ValidateNonSpecialIP, which allows some multicast.
    private static func problem(ofOuter value: Value) -> String? {
        guard let text = value.text else { return nil }
        guard let address = IPAddress(unmapped: text) else {
            return "'\(text)' is no IPv4 or IPv6 address"
        }
        guard let kind = address.specialKind else { return nil }
        return "'\(text)' is \(kind): it cannot be an address of a service for those outside"
    }

    private static func checkPorts(_ ports: [Value], _ check: inout ShapeCheck) {
        var names: Set<String> = []
        var numbers: Set<String> = []
        for (index, port) in ports.enumerated() {
            let path = "spec.ports[\(index)]"
            let name = port["name"]?.text ?? ""
            if name.isEmpty, ports.count > 1 {
                check.error(path + ".name", port.line, "is required where there are several ports")
            } else if !name.isEmpty {
                if let problem = TextRule.label.problem(with: name) {
                    check.error(path + ".name", port.line, problem)
                }
                if !names.insert(name).inserted {
                    check.error(path + ".name", port.line, "'\(name)' names two ports")
                }
            }
            let key = "\(port["protocol"]?.text ?? "TCP")/\(port["port"]?.integer ?? 0)"
            if !numbers.insert(key).inserted {
                check.error(path + ".port", port.line, "\(key) stands twice")
            }
            guard let target = port["targetPort"] else { continue }
            if let number = target.integer, !(1...65535).contains(number) {
                check.error(path + ".targetPort", target.line, "\(number) is not in 1...65535")
            }
            if let text = target.text, !TextRule.isLabel(text, most: 15) {
                check.error(
                    path + ".targetPort", target.line,
                    "'\(text)' is no port name: at most 15 of a-z, 0-9 and -")
            }
        }
    }
}

enum EndpointSliceRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        let family = root["addressType"]?.text ?? ""
        if family == "FQDN" {
            check.warn(
                .unsupported, "addressType", root["addressType"]?.line ?? root.line,
                "FQDN is not supported by this build: its endpoints get no traffic")
            return
        }
        for (index, endpoint) in (root["endpoints"]?.list ?? []).enumerated() {
            for (position, value) in (endpoint["addresses"]?.list ?? []).enumerated() {
                let path = "endpoints[\(index)].addresses[\(position)]"
                guard let text = value.text else { continue }
                guard let address = IPAddress(unmapped: text) else {
                    check.error(path, value.line, "'\(text)' is no IPv4 or IPv6 address")
                    continue
                }
                if address.isIPv4 != (family == "IPv4") {
                    check.error(path, value.line, "'\(text)' is not of addressType \(family)")
                }
            }
        }
    }
}

extension IPAddress {
    /// As objects write addresses. `::ffff:10.0.0.1` is refused, as the Kubernetes API refuses it:
    /// programs disagree whether it is the IPv4 address.
    init?(unmapped text: String) {
        self.init(text)
        if isIPv4, text.contains(":") { return nil }
    }
}
