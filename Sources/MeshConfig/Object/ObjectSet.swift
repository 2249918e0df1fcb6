// The objects in force, by kind, in the order of their names: what Resolution walks.

internal import MeshModel

struct ObjectSet {
    private var byKind: [String: [ConfigObject]] = [:]
    /// Labels of each namespace that has an object; with the label Kubernetes itself sets.
    private(set) var namespaceLabels: [String: [String: String]] = [:]

    init(_ objects: [ConfigObject]) {
        for object in objects where object.isHonoured {
            byKind[object.kind, default: []].append(object)
        }
        for kind in byKind.keys { byKind[kind]?.sort { $0.name < $1.name } }
        for namespace in self["Namespace"] {
            namespaceLabels[namespace.name.name] = namespace.labels
        }
    }

    /// Kinds honoured differ by name alone: no two groups share one.
    subscript(kind: String) -> [ConfigObject] { byKind[kind] ?? [] }

    func labels(ofNamespace name: String) -> [String: String] {
        var labels = namespaceLabels[name] ?? [:]
        labels[Annotation.namespaceName] = name
        return labels
    }
}

extension ConfigObject {
    var labels: [String: String] { root["metadata"]?["labels"]?.texts ?? [:] }
    var annotations: [String: String] { root["metadata"]?["annotations"]?.texts ?? [:] }
    /// Seconds since 1970; `Int64.max` if it says nothing.
    var created: Int64 {
        root["metadata"]?["creationTimestamp"]?.text.flatMap(Timestamp.seconds) ?? .max
    }
}
