internal import Foundation
internal import MeshModel
import Testing

@testable internal import MeshConfig

@Suite("Published manifests load, and nothing in them is silently dropped")
struct PublicSamplesTests {
    static let samples =
        PublicSamples.files(in: "gateway-api/examples") + PublicSamples.files(in: "online-boutique")

    @Test(.enabled(if: PublicSamples.exist), arguments: samples)
    func `each file taken alone is honoured or reported`(_ path: String) throws {
        let text = try PublicSamples.text(path)
        try check(text)
        let pattern = try NSRegularExpression(pattern: "(gatewayClassName:) .*")
        let ours = pattern.stringByReplacingMatches(
            in: text, range: NSRange(text.startIndex..., in: text), withTemplate: "$1 malla")
        let result = try check(ours)
        #expect(!result.diagnostics.contains { $0.message.contains("is not Malla's (no") })
    }

    @discardableResult
    private func check(_ text: String) throws -> ConfigResult {
        let result = try TestDirectory.load(text)
        #expect(result.unreadableFiles == [])
        let errors = result.diagnostics.filter { $0.severity == .error }
        #expect(errors.map(\.description) == [])
        let unknown = result.diagnostics.filter { $0.category == .unknown }
        #expect(unknown.map(\.description) == [])
        let objects = try Document(text: text, file: "mesh.yaml").objects
        #expect(objects.count == result.objectCount)
        for object in objects where !isHonoured(object, result) {
            #expect(
                result.diagnostics.contains { $0.object == object.title },
                "\(object.title) is neither in the mesh nor in a diagnostic")
        }
        for object in objects { expectWhole(object, result) }
        return result
    }

    /// What is in the mesh is there with all that the object lists.
    private func expectWhole(_ object: ConfigObject, _ result: ConfigResult) {
        let spec = object.root["spec"]
        func count(_ field: String) -> Int { spec?[field]?.list.count ?? 0 }
        if let service = result.mesh.services.first(where: { $0.name == object.name }),
            object.kind == "Service"
        {
            let ports = (spec?["ports"]?.list ?? []).map { $0["port"]?.integer ?? 0 }
            #expect(service.ports.map { Int($0.port) } == ports, "\(object.title)")
        }
        if let gateway = result.gatewayStatuses.first(where: { $0.name == object.name }),
            object.kind == "Gateway"
        {
            let names = (spec?["listeners"]?.list ?? []).map { $0["name"]?.text ?? "" }
            #expect(gateway.listeners.map(\.name) == names, "\(object.title)")
        }
        if let route = result.routeStatuses.first(where: { $0.name == object.name }),
            object.kind == "HTTPRoute"
        {
            let left = result.diagnostics.count {
                $0.object == object.title && $0.field.hasPrefix("spec.parentRefs")
                    && [.ignored, .unsupported].contains($0.category)
            }
            #expect(route.parents.count + left == count("parentRefs"), "\(object.title)")
            #expect(route.hostnames.count == count("hostnames"), "\(object.title)")
            // Without rules a route has one, which matches everything.
            #expect(route.ruleCount == max(1, count("rules")), "\(object.title)")
        }
    }

    private func isHonoured(_ object: ConfigObject, _ result: ConfigResult) -> Bool {
        switch object.kind {
        case "Service": result.mesh.services.contains { $0.name == object.name }
        case "Pod": result.mesh.workloads.contains { $0.name == object.name }
        case "Node": result.mesh.nodes.contains { $0.name == object.name.name }
        case "Gateway": result.gatewayStatuses.contains { $0.name == object.name }
        case "HTTPRoute", "TCPRoute": result.routeStatuses.contains { $0.name == object.name }
        // Consulted by name while others are resolved; they have no row of their own.
        case "Namespace", "ServiceAccount", "Secret", "GatewayClass", "ReferenceGrant": true
        default: false
        }
    }

    @Test(.enabled(if: PublicSamples.exist)) func `every kind of the published schemas is known`()
        throws
    {
        let schemas =
            PublicSamples.files(in: "gateway-api/crds") + ["istio/crds.yaml"]
            + PublicSamples.files(in: "network-policy-api")
        for path in schemas {
            for object in try Document(text: PublicSamples.text(path), file: path).objects
            where object.kind == "CustomResourceDefinition" {
                let spec = object.root["spec"]
                let group = spec?["group"]?.text ?? ""
                let kind = spec?["names"]?["kind"]?.text ?? ""
                #expect(Kind.of(group: group, kind: kind) != nil, "\(group) \(kind)")
            }
        }
    }
}

@Suite("Every field of the published schemas is in a table")
struct SchemaWalkTests {
    static let plurals = ["httproutes", "gateways", "gatewayclasses", "referencegrants"]

    @Test(.enabled(if: PublicSamples.exist), arguments: ["standard", "experimental"], plurals)
    func `no field is unknown to its shape`(_ channel: String, _ plural: String) throws {
        let path = "gateway-api/crds/\(channel)/gateway.networking.k8s.io_\(plural).yaml"
        let definition = try #require(
            Document(text: PublicSamples.text(path), file: path).objects.first)
        let kind = definition.root["spec"]?["names"]?["kind"]?.text ?? ""
        guard
            case .honoured(let shape, _, let names)? = Kind.of(
                group: Kind.gatewayGroup, kind: kind)
        else {
            Issue.record("\(kind) is not honoured")
            return
        }
        var count = 0
        for version in definition.root["spec"]?["versions"]?.list ?? [] {
            #expect(names.contains(version["name"]?.text ?? ""))
            let schema = try #require(version["schema"]?["openAPIV3Schema"])
            count += walk(schema, shape, kind)
        }
        #expect(count > 10)
    }

    /// Compares a schema with a shape, field by field; the number of fields seen.
    private func walk(_ schema: Value, _ shape: Shape, _ path: String) -> Int {
        var count = 0
        switch shape {
        case .fields(let known, _):
            for property in schema["properties"]?.fields ?? [] {
                count += 1
                let field = known.first { $0.name == property.name }
                #expect(field != nil, "\(path).\(property.name) is in no table")
                guard let field else { continue }
                let required = (schema["required"]?.list ?? []).compactMap(\.text)
                #expect(
                    !required.contains(property.name) || field.isRequired || !isRead(field),
                    "\(path).\(property.name) is required by the schema")
                // metadata is `object` in the schema: its table is Kubernetes' own.
                if property.name != "metadata" {
                    count += walk(property.value, field.shape, "\(path).\(property.name)")
                }
            }
        case .list(let element, let counts, let key):
            let most = schema["maxItems"]?.integer
            #expect(most == nil || most == counts.upperBound, "\(path): maxItems")
            let least = schema["minItems"]?.integer ?? 0
            #expect(least == counts.lowerBound, "\(path): minItems")
            let keys = (schema["x-kubernetes-list-map-keys"]?.list ?? []).compactMap(\.text)
            #expect(keys == (key.map { [$0] } ?? []), "\(path): unique by")
            if let items = schema["items"] { count += walk(items, element, path + "[]") }
        case .oneOf(let choices):
            let schemas = (schema["enum"]?.list ?? []).compactMap(\.text)
            let missing = schemas.filter { !choices.contains($0) }
            #expect(missing == [], "\(path): enum")
        case .integer(let range):
            #expect(schema["minimum"]?.integer == range.lowerBound, "\(path): minimum")
            #expect(schema["maximum"]?.integer == range.upperBound, "\(path): maximum")
        case .text, .texts, .boolean, .integerIn, .integerOrText, .anything:
            break
        }
        return count
    }

    private func isRead(_ field: ShapeField) -> Bool {
        if case .honoured = field.standing { return true }
        return false
    }
}
