// Every address that policies can tell from the others, and the number that stands for it.

struct IdentityTable: Sendable {
    /// By content, so that a number means the same in the next generation.
    private struct Key: Hashable, Sendable {
        var kind: PolicyIdentity.Kind
        var labels: [String]
        var block: IPPrefix?
    }

    private struct Entry: Sendable {
        var number: UInt32
        var ports: [NamedPort]
        var families = Families()
    }

    /// Of the addresses that have the identity.
    struct Families: Sendable {
        var hasIPv4 = false
        var hasIPv6 = false

        mutating func insert(_ isIPv4: Bool) {
            if isIPv4 { hasIPv4 = true } else { hasIPv6 = true }
        }
    }

    /// What tells pods of a family apart, in indices: cheap to hash.
    private struct Mark: Hashable {
        var labels: ReducedLabels
        var namespace: ReducedLabels
        var ports: [NamedPort]
        var block: Int?
    }

    private var entries: [Entry] = []
    private(set) var identities: [PolicyIdentity] = []
    private let tree: BlockTree
    private var numbersOfPods: PolicyNumbers<Key>
    private var numbersOfBlocks: PolicyNumbers<Key>
    private var numbersOfHost: PolicyNumbers<Key>
    /// By class of pods, sorted.
    private var byClass: [[Int]]
    /// By the narrowest block.
    private var byBlock: [[Int]]
    /// Rows of the datapath: blocks, then single addresses.
    private(set) var addresses: [IPPrefix: UInt32] = [:]
    /// Number and families of each: what the rows of a set depend on.
    private(set) var signature: [UInt64] = []
    /// With ports that egress rules name.
    private(set) var withPorts: [Int] = []

    init(
        _ mesh: Mesh, node: String, _ classes: PodClasses, _ words: PolicyWords,
        after previous: IdentityTable?, avoiding: PolicyNumbersInUse
    ) {
        tree = BlockTree(words.blocks)
        let known = previous == nil ? Set(avoiding.addresses.values) : []
        numbersOfPods =
            previous?.numbersOfPods.successor()
            ?? PolicyNumbers(from: ReservedIdentity.firstOfPods, avoiding: known)
        numbersOfBlocks =
            previous?.numbersOfBlocks.successor()
            ?? PolicyNumbers(from: ReservedIdentity.firstOfBlocks, avoiding: known)
        numbersOfHost =
            previous?.numbersOfHost.successor()
            ?? PolicyNumbers(from: ReservedIdentity.firstOfHost, avoiding: known)
        byClass = Array(repeating: [], count: classes.classes.values.count)
        byBlock = Array(repeating: [], count: tree.blocks.count)
        addBlocks()
        addHost(Self.ofHost(mesh, node))
        addPods(mesh, classes, words)
        if !known.isEmpty { keepNumbers(avoiding.addresses) }
        signature = entries.map { entry in
            UInt64(entry.number) << 2 | (entry.families.hasIPv4 ? 1 : 0)
                | (entry.families.hasIPv6 ? 2 : 0)
        }
    }

    /// The number at an address, as the kernel's trie finds it.
    func number(of address: IPAddress) -> UInt32 {
        if let known = addresses[IPPrefix(address)] { return known }
        return addresses[tree.blocks[tree.narrowest(address)]] ?? 0
    }

    /// The index of what lies in no named block of the family but the whole of it.
    func world(isIPv4: Bool) -> Int { tree.index(of: isIPv4 ? .allIPv4 : .allIPv6) ?? 0 }

    func number(at index: Int) -> UInt32 { entries[index].number }

    func families(at index: Int) -> Families { entries[index].families }

    func ports(at index: Int) -> [NamedPort] { entries[index].ports }

    /// Identities of the pods of these classes; sorted, each once.
    func ofClasses(_ classes: [Int]) -> [Int] {
        if classes.count == 1 { return byClass[classes[0]] }
        return Set(classes.flatMap { byClass[$0] }).sorted()
    }

    /// Identities of addresses inside the block and outside of the exceptions; sorted.
    func inside(_ block: IPPrefix, except: [IPPrefix]) -> [Int] {
        guard let index = tree.index(of: block) else { return [] }
        let holes = except.compactMap { tree.index(of: $0) }.map { $0..<tree.ends[$0] }
        var found: [Int] = []
        for each in index..<tree.ends[index] where !holes.contains(where: { $0.contains(each) }) {
            found += byBlock[each]
        }
        return found.sorted()
    }

    // MARK: Making

    /// An identity whose addresses all had one number keeps it, unless another's all had it, too:
    /// rows of the sets that an agent before this one has left name it, and decide until pods name
    /// the new sets. (By a number that those rows do not know a new flow would be denied.)
    private mutating func keepNumbers(_ held: [IPPrefix: UInt32]) {
        // Of the new number: the old one; 0 where there are several, or none.
        var olds: [UInt32: UInt32] = [:]
        for (address, number) in addresses {
            let old = held[address] ?? 0
            olds[number] = olds[number, default: old] == old ? old : 0
        }
        var users: [UInt32: Int] = [:]
        for old in olds.values { users[old, default: 0] += 1 }
        let kept = olds.filter { number, old in
            users[old] == 1 && Self.range(of: number) == Self.range(of: old)
                && old >= ReservedIdentity.firstOfHost
        }
        numbersOfPods.renumber(kept)
        numbersOfBlocks.renumber(kept)
        numbersOfHost.renumber(kept)
        addresses = addresses.mapValues { kept[$0] ?? $0 }
        for index in entries.indices {
            guard let old = kept[entries[index].number] else { continue }
            entries[index].number = old
            identities[index].number = old
        }
    }

    /// Numbers tell the kernel of which kind an identity is.
    private static func range(of number: UInt32) -> Int {
        [
            ReservedIdentity.firstOfHost, ReservedIdentity.firstOfPods,
            ReservedIdentity.firstOfBlocks,
        ].count { $0 <= number }
    }

    private mutating func append(
        _ key: Key, number: UInt32, ports: [NamedPort], block: Int
    ) -> Int {
        let index = entries.count
        entries.append(Entry(number: number, ports: ports))
        identities.append(
            PolicyIdentity(number: number, kind: key.kind, labels: key.labels, block: key.block))
        byBlock[block].append(index)
        if !ports.isEmpty { withPorts.append(index) }
        return index
    }

    private mutating func addBlocks() {
        for (index, block) in tree.blocks.enumerated() {
            let key = Key(kind: .world, labels: [], block: tree.isNamed[index] ? block : nil)
            let number =
                block == .allIPv4
                ? ReservedIdentity.worldIPv4
                : block == .allIPv6
                    ? ReservedIdentity.worldIPv6 : numbersOfBlocks.number(for: key)
            let entry = append(key, number: number, ports: [], block: index)
            entries[entry].families.insert(block.isIPv4)
            addresses[block] = number
        }
    }

    /// Those that the Node names, and those of its interfaces. A service's address stays one where
    /// an interface has it (IPVS).
    private static func ofHost(_ mesh: Mesh, _ node: String) -> [IPAddress] {
        let named = mesh.nodes.first { $0.name == node }?.addresses ?? []
        var others = Set(mesh.hostAddresses).subtracting(named)
        if !others.isEmpty {
            for service in mesh.services {
                for address in service.addresses { others.remove(address) }
            }
        }
        return named + others.sorted()
    }

    /// The node's own addresses; other nodes' are addresses like any.
    private mutating func addHost(_ own: [IPAddress]) {
        var known: [IPPrefix?: Int] = [:]
        for address in own {
            let narrowest = tree.narrowest(address)
            let block = tree.isNamed[narrowest] ? tree.blocks[narrowest] : nil
            let index: Int
            if let found = known[block] {
                index = found
            } else {
                let key = Key(kind: .host, labels: [], block: block)
                let number =
                    block == nil ? ReservedIdentity.host : numbersOfHost.number(for: key)
                index = append(key, number: number, ports: [], block: narrowest)
                known[block] = index
            }
            entries[index].families.insert(address.isIPv4)
            addresses[IPPrefix(address)] = entries[index].number
        }
    }

    private mutating func addPods(_ mesh: Mesh, _ classes: PodClasses, _ words: PolicyWords) {
        var namespaceReduction = LabelReduction()
        var podReduction = LabelReduction()
        for selection in words.peerSelections {
            namespaceReduction.mention(selection.namespaceSelector)
            podReduction.mention(selection.pods)
        }
        let marks = classes.classes.values.enumerated().map { index, each in
            let pod = mesh.workloads[classes.examples[index]]
            return Mark(
                labels: podReduction.reduced(pod.labels),
                namespace: namespaceReduction.reduced(
                    mesh.labels(ofNamespace: pod.name.namespace)),
                ports: classes.ports.values[each.ports].filter {
                    words.egressPortNames.contains($0.name)
                }, block: nil)
        }
        var known: [Mark: Int] = [:]
        // Of a class and a block; most pods are in few blocks.
        var indices: [[Int?: Int]] = Array(repeating: [:], count: marks.count)
        for (workload, found) in classes.classOfPod.enumerated() {
            for address in mesh.workloads[workload].addresses {
                let narrowest = tree.narrowest(address)
                let block = tree.isNamed[narrowest] ? narrowest : nil
                if let index = indices[found][block] {
                    entries[index].families.insert(address.isIPv4)
                    addresses[IPPrefix(address)] = entries[index].number
                    continue
                }
                var mark = marks[found]
                mark.block = block
                let index = known[mark] ?? addPod(mark, narrowest, namespaceReduction, podReduction)
                known[mark] = index
                indices[found][block] = index
                byClass[found].append(index)
                entries[index].families.insert(address.isIPv4)
                addresses[IPPrefix(address)] = entries[index].number
            }
        }
        for index in byClass.indices where byClass[index].count > 1 { byClass[index].sort() }
    }

    private mutating func addPod(
        _ mark: Mark, _ narrowest: Int, _ namespaces: LabelReduction, _ pods: LabelReduction
    ) -> Int {
        let labels =
            namespaces.texts(mark.namespace).map { "namespace:" + $0 }
            + pods.texts(mark.labels).map { "pod:" + $0 }
            + mark.ports.map { "port:\($0.name)=\($0.transport.rawValue)/\($0.number)" }
        let key = Key(
            kind: .pod, labels: labels, block: mark.block.map { tree.blocks[$0] })
        return append(
            key, number: numbersOfPods.number(for: key), ports: mark.ports, block: narrowest)
    }
}
