// What is said of a Gateway or HTTPRoute that is refused and has no good version: its status, as
// a controller would write it. The object is broken: what can be read of it is read leniently.

internal import MeshModel

/// An object that takes no effect at all.
struct Refusal {
    let object: ConfigObject
    /// Why, in one line: the first error.
    let condition: Condition

    init(_ object: ConfigObject, _ first: Diagnostic) {
        self.object = object
        let field = first.field.isEmpty ? "" : first.field + ": "
        let reason = object.kind == "Gateway" ? "Invalid" : "UnsupportedValue"
        let isAccepted = first.condition?.type == "Accepted"
        condition = Condition(
            "Accepted", .isFalse, isAccepted ? first.condition?.reason ?? reason : reason,
            "\(first.file):\(first.line): \(field)\(first.message)")
    }

    /// Of a route; parents of other controllers are left out. `nil`: it has no others.
    func routeStatus(_ gateways: GatewayResolution) -> RouteStatus? {
        let spec = object.root["spec"]
        let refs = (spec?["parentRefs"]?.list ?? []).enumerated().map { index, value in
            ParentReference(value, path: "spec.parentRefs[\(index)]", of: object)
        }
        let ours = refs.filter { gateways.foreign[$0.name] == nil || $0.kind != "Gateway" }
        guard !ours.isEmpty || refs.isEmpty else { return nil }
        return RouteStatus(
            kind: object.kind, name: object.name,
            hostnames: (spec?["hostnames"]?.list ?? []).compactMap(\.text),
            ruleCount: 0,
            parents: ours.map {
                RouteParentStatus(
                    kind: $0.kind, name: $0.name, sectionName: $0.sectionName, port: $0.port,
                    conditions: [condition])
            },
            refusal: condition)
    }

    var gatewayStatus: GatewayStatus {
        GatewayStatus(
            name: object.name,
            className: object.root["spec"]?["gatewayClassName"]?.text ?? "", addresses: [],
            conditions: [
                condition, Condition("Programmed", .isFalse, "Invalid", "the Gateway is refused"),
            ], listeners: [])
    }
}
