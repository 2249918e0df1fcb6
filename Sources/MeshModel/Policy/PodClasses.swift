// Which pods policies can tell apart, and which of them each selection finds.

/// Pods that every selection treats alike and whose named ports, as far as a rule names them, are
/// the same.
struct PodClass: Hashable, Sendable {
    var namespace: Int
    var labels: Int
    var ports: Int
}

/// All pods in classes, and the classes of every selection.
struct PodClasses: Sendable {
    private var namespaceReduction = LabelReduction()
    private var podReduction = LabelReduction()
    private var namespaceLabels = Interner<ReducedLabels>()
    private var podLabels = Interner<ReducedLabels>()
    private(set) var ports = Interner<[NamedPort]>()
    private(set) var classes = Interner<PodClass>()
    /// By workload.
    private(set) var classOfPod: [Int] = []
    /// A pod of each class.
    private(set) var examples: [Int] = []

    /// - Parameter portNames: the names that rules ask for.
    init(_ mesh: Mesh, selections: [PodSelection], portNames: Set<String>) {
        for selection in selections {
            namespaceReduction.mention(selection.namespaceSelector)
            podReduction.mention(selection.pods)
        }
        var ofNamespace: [String: Int] = [:]
        classOfPod.reserveCapacity(mesh.workloads.count)
        for (index, pod) in mesh.workloads.enumerated() {
            let name = pod.name.namespace
            let namespace: Int
            if let known = ofNamespace[name] {
                namespace = known
            } else {
                namespace = namespaceLabels.index(
                    of: namespaceReduction.reduced(mesh.labels(ofNamespace: name)))
                ofNamespace[name] = namespace
            }
            let labels = podLabels.index(of: podReduction.reduced(pod.labels))
            let named =
                portNames.isEmpty ? [] : pod.ports.filter { portNames.contains($0.name) }.sorted()
            let found = classes.index(
                of: PodClass(namespace: namespace, labels: labels, ports: ports.index(of: named)))
            if found == examples.count { examples.append(index) }
            classOfPod.append(found)
        }
    }

    /// For each selection the classes that it finds.
    ///
    /// - Complexity: each distinct selector meets each distinct label set at most once, and those
    ///   that ask for a value meet only the label sets that have it.
    func find(_ selections: [PodSelection]) -> [[Int]] {
        var ofNamespace: [[Int]] = Array(repeating: [], count: namespaceLabels.values.count)
        var ofLabels: [[Int]] = Array(repeating: [], count: podLabels.values.count)
        for (index, each) in classes.values.enumerated() {
            ofNamespace[each.namespace].append(index)
            ofLabels[each.labels].append(index)
        }
        var namespaces = SelectorMatches(namespaceReduction, namespaceLabels.values)
        var pods = SelectorMatches(podReduction, podLabels.values)
        return selections.map { selection in
            let spaces = namespaces.matches(selection.namespaceSelector)
            guard !spaces.isEmpty else { return [] }
            if selection.pods.requirements.isEmpty {
                let all = spaces.flatMap { ofNamespace[$0] }
                return spaces.count > 1 ? all.sorted() : all
            }
            let inSpaces = Set(spaces)
            return pods.matches(selection.pods).flatMap { labels in
                ofLabels[labels].filter { inSpaces.contains(classes.values[$0].namespace) }
            }.sorted()
        }
    }
}

/// The label sets that each selector finds, each selector judged once.
private struct SelectorMatches {
    private let reduction: LabelReduction
    private let sets: [ReducedLabels]
    private var byPair: [UInt64: [Int]] = [:]
    private var known: [LabelSelector: [Int]] = [:]

    init(_ reduction: LabelReduction, _ sets: [ReducedLabels]) {
        self.reduction = reduction
        self.sets = sets
        for (index, set) in sets.enumerated() {
            for pair in set.pairs { byPair[pair, default: []].append(index) }
        }
    }

    mutating func matches(_ selector: LabelSelector) -> [Int] {
        if let found = known[selector] { return found }
        let numbered = reduction.numbered(selector)
        var candidates: [Int]?
        for each in numbered.requirements where each.operation == .isIn {
            let found = each.values.flatMap { byPair[ReducedLabels.pair(each.key, $0)] ?? [] }
            if found.count < candidates?.count ?? .max { candidates = found }
        }
        let all = candidates ?? Array(sets.indices)
        let found = all.filter { numbered.selects(sets[$0]) }
        known[selector] = found
        return found
    }
}

extension PodSelection {
    /// Namespaces by name are namespaces by the label that Kubernetes gives each.
    var namespaceSelector: LabelSelector {
        switch namespaces {
        case .named(let name): LabelSelector([Mesh.namespaceNameLabel: name])
        case .selected(let selector): selector
        }
    }
}

extension Mesh {
    /// Labels of a namespace, with the one that Kubernetes sets itself.
    func labels(ofNamespace name: String) -> [String: String] {
        var labels = namespaces[name] ?? [:]
        labels[Self.namespaceNameLabel] = name
        return labels
    }

    static let namespaceNameLabel = "kubernetes.io/metadata.name"
}
