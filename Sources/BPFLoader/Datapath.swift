// The façade of the datapath: load (or adopt), attach, apply a snapshot, count, detach. Nothing of
// C or of the kernel's records leaves this module.

internal import CBPF
internal import CLinux
internal import CMallaABI
internal import Glibc
public import MeshModel

public struct VerdictCount: Sendable, Equatable {
    /// The hook's name (`connect4`, `from_pod`, …) and the verdict's, as the docs name them.
    public var hook: String
    public var verdict: String
    public var count: UInt64
}

public struct MapUsage: Sendable, Equatable {
    public var name: String
    public var type: String
    public var entries: UInt64
    public var entriesMax: UInt64
    /// Rows that were refused because the map was full: since this agent started, but of what
    /// programs write (`malla_flow`, `malla_snat`, `malla_asked`) since the maps were made.
    public var refused: UInt64
}

public struct ProgramState: Sendable, Equatable {
    public var name: String
    public var id: UInt32
    /// `cgroup PATH`, `tcx ingress IFNAME`, `netns engine`.
    public var attachedTo: String
    public var isPinned: Bool
    /// `true`: taken over from the agent before this one.
    public var isAdopted: Bool
    public var runCount: UInt64
    public var runNanoseconds: UInt64
}

/// What `apply` could not do; the rest is in force.
public struct ApplyProblem: Sendable, Equatable {
    /// `pod shop/cart`, `service shop/catalog`, `map malla_service`.
    public var subject: String
    public var message: String
    /// Applying again mends nothing until the interfaces are others; `lookAtInterfaces` says when.
    public var isWaiting = false
}

/// The node's eBPF programs and maps. What it attaches stays in force when the process ends;
/// `remove(bpffsPath:)` takes it away.
///
/// - Owns: the loaded object, the links, the agent's copy of the kernel's rows.
/// - Threads: one at a time (the agent's reconcile loop), in the node's network namespace.
public final class Datapath {
    private(set) var options: DatapathOptions
    let object: BPFObject
    var links: AttachedLinks
    var rows: KernelRows
    var services: ServiceRows
    private var stale: StaleEndpoints
    private var staleSockets: [StaleSocket] = []
    /// `KernelRows.changes` by which known flows are judged.
    private var changesJudged: UInt32 = 0
    private var hasApplied = false
    /// What was connected to before the first `apply`, until it is compared with what is to be.
    private var leftOver: Set<GivenEnd>?
    private var isKept = false
    private var startLock: Descriptor?
    /// The last one that is in force without a problem that applying again might mend.
    private(set) var inForce: Snapshot?
    /// What the last `apply` that looked at all could not do, but for services.
    private var others: [ApplyProblem] = []
    private var serviceProblems: [ApplyProblem] = []
    /// How long the last `apply` was about programs; for each new one the kernel waits for all
    /// processors (`GracePeriods`).
    public private(set) var attachDuration = Duration.zero
    /// Of all pods of the mesh that `apply` was last told of.
    private var podAddresses: Set<malla_address> = []
    /// Interfaces that `apply` attached to, by index.
    private(set) var podIndices: Set<UInt32> = []
    private(set) var uplinkIndices: Set<UInt32> = []
    var known: KnownAddresses
    var namespaces: PodNamespaces
    /// malla_uplinks: the interfaces that carry the uplink's programs. A connection is routed past
    /// the node's stack only by one of them, because its answers are met there (bpf/lib/far.h).
    private var uplinkRows: CopiedMap<UInt32, UInt32>
    /// Of local pods at whose interfaces the last `apply` attached.
    private(set) var attachedAddresses: Set<malla_address> = []
    private let settings: BPFMap<UInt32, malla_setting>
    var flows: FlowTable
    var denied = DeniedFlows()
    private(set) var translations: TranslationTable
    private let listeners: SocketMap
    private let counters: PerCPUArray
    let events: EventMaps
    private(set) var setting: malla_setting
    let pins: PinDirectory
    /// Of the cgroup, open as long as something may have to be attached to it again.
    let cgroup: Descriptor
    /// Pins of what `init` attached, which `apply` keeps.
    private(set) var fixed: Set<String> = []
    /// The interfaces that the last `apply` looked for, by name; index 0: there was none.
    private(set) var places: [String: PodPlace] = [:]

    /// Names of the uplinks that the last `apply` chose.
    private var uplinkNames: [String] = []
    /// While links come or go.
    private var hurry: GracePeriods?

    /// Loads the programs, adopting what is pinned, and attaches all that does not depend on the
    /// configuration: the sockets' hooks, the engine's interface and namespace.
    public init(_ options: DatapathOptions) throws(BPFError) {
        let opened = unsafe open(options.cgroupPath, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else { throw .notCgroup(path: options.cgroupPath, errno: errno) }
        let cgroup = Descriptor(adopting: opened)
        let directory = try PinDirectory(bpffsPath: options.bpffsPath)
        GracePeriods.settle(bpffsPath: options.bpffsPath)
        let object = try BPFObject.load(
            sizes: options.limits.byMap, directory: directory.path, bpffsPath: options.bpffsPath)
        let rows = try KernelRows(object)
        let settings = try BPFMap<UInt32, malla_setting>(
            adopting: object.map("malla_setting"), name: "malla_setting")
        let flows = try FlowTable(object, quotaMax: options.limits.flowsPerPodMax)
        let translations = try TranslationTable(object)
        let services = try ServiceRows(object)
        let known = try KnownAddresses(object)
        let namespaces = try PodNamespaces(object)
        let uplinkRows = try CopiedMap<UInt32, UInt32>(
            object, "malla_uplinks", key: 0, value: 0)
        let listeners = try SocketMap(adopting: object.map("malla_listen"), name: "malla_listen")
        let counters = try PerCPUArray(adopting: object.map("malla_count"), name: "malla_count")
        let events = try EventMaps(object)
        let older = object.older.flatMap { $0.isAdopted ? $0.links : nil }

        self.options = options
        self.object = object
        stale = StaleEndpoints(pods: rows.podAddresses)
        self.rows = rows
        self.flows = flows
        self.translations = translations
        self.services = services
        self.known = known
        self.namespaces = namespaces
        self.uplinkRows = uplinkRows
        self.listeners = listeners
        self.counters = counters
        self.events = events
        // The number of listeners stays: the supervisor's sockets outlive the agent before this
        // one.
        setting = settings.value(of: 0, placeholder: malla_setting()) ?? malla_setting()
        self.settings = settings
        links = AttachedLinks(directory: directory.links, older: older)
        pins = directory
        self.cgroup = cgroup
        // By these the agent before knows that what differs from now on is no fault.
        startLock = directory.lockStart()
        try self.object.pinProgram(Self.witness, directory: directory.programs)
        try describeNode()
        try attachFixed()
        // When they are in force: until then the pins are those of the agent before.
        try self.object.pinPrograms(directory: directory.programs)
    }

    /// Attaches to the pods' interfaces and reconciles the maps: writes before removals.
    ///
    /// - Parameter isKept: it is what an agent before this one kept of the configuration. What it
    ///   does not list may be new, and is left alone.
    /// - Throws: what concerns all; what concerns one pod, service or map is in the answer.
    /// - Complexity: what changed, where that is endpoints and nothing else, and all was in force
    ///   before; else linear in pods and services.
    public func apply(
        _ snapshot: Snapshot, isKept: Bool = false
    ) throws(BPFError) -> [ApplyProblem] {
        let isNext = snapshot.follows(inForce)
        inForce = nil
        self.isKept = isKept
        attachDuration = .zero
        if isNext {
            try applyServices(snapshot)
        } else {
            others = try applyAll(snapshot)
        }
        endDenied()
        let problems = others + serviceProblems
        if problems.allSatisfy(\.isWaiting) { inForce = snapshot }
        return problems
    }

    /// The other agent has never come to serve: what it has left in the maps is read, so that the
    /// next `apply` takes out what is not ours; our programs are pinned again, for `verify`.
    public func resume() throws(BPFError) {
        (inForce, leftOver, changesJudged) = (nil, nil, 0)
        rows = try KernelRows(object)
        services = try ServiceRows(object)
        known = try KnownAddresses(object)
        namespaces = try PodNamespaces(object)
        uplinkRows = try CopiedMap(object, "malla_uplinks", key: 0, value: 0)
        try object.pinPrograms(directory: pins.programs)
    }

    private func applyServices(_ snapshot: Snapshot) throws(BPFError) {
        let outcome = try services.apply(snapshot)
        serviceProblems = outcome.problems
        // What went while no agent ran is found by what is connected to it yet.
        let before = leftOver ?? services.maps.givenEnds.union(flows.givenEnds)
        var (gone, left) = (outcome.gone, outcome.left)
        if !isKept, !before.isEmpty {
            gone += Set(before.map(\.endpoint)).filter { !services.ends.isAlive($0) }
            left = LeftEnds(left.pairs + services.left(before, orGone: false))
        }
        leftOver = isKept ? before : []
        end(gone, left)
    }

    /// What it could not do, but for services.
    private func applyAll(_ snapshot: Snapshot) throws(BPFError) -> [ApplyProblem] {
        var problems: [ApplyProblem] = []
        var wanted = fixed
        let all = NetworkLink.all()
        let ids = NetworkLink.namespaces()
        let byName = Dictionary(all.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        podAddresses = Set(snapshot.mesh.workloads.flatMap(\.addresses).map { malla_address($0) })
        // What the programs look for is there before them: else they would drop what pods that
        // exist already send, until their rows come.
        let isFirst = !hasApplied
        if isFirst {
            _ = try project(
                MapRows(
                    snapshot, interfaces: byName.mapValues(\.index), namespaces: ids,
                    after: rows.current, hasTunnels: options.capturesHBONE))
            try applyServices(snapshot)
        }
        if isFirst { try upgrade(isDone: false) }
        defer { hurry = nil }
        let begun = ContinuousClock.now
        var interfaces: [String: UInt32] = [:]
        let own = NetworkLink.addresses().filter { snapshot.nodeAddresses.contains($0.address) }
        let owned = Set(own.map(\.index))
        places = [:]
        attachedAddresses = []
        for workload in snapshot.mesh.workloads where snapshot.isLocal(workload) {
            guard let name = workload.interface else { continue }
            let subject = "pod \(workload.name)"
            places[name] = PodPlace(subject: subject, index: byName[name]?.index ?? 0)
            guard let link = byName[name] else {
                problems.append(
                    ApplyProblem(subject: subject, message: missing(name), isWaiting: true))
                continue
            }
            if let reason = unfit(link, owned, isTaken: interfaces[name] != nil) {
                problems.append(ApplyProblem(subject: subject, message: reason))
                continue
            }
            guard attach(TCXAttachment.pod(link), &wanted, subject, &problems) else { continue }
            interfaces[name] = link.index
            attachedAddresses.formUnion(workload.addresses.map { malla_address($0) })
        }
        podIndices = Set(interfaces.values)
        let chosen = uplinks(snapshot, all, &problems)
        uplinkNames = chosen.map(\.name)
        try attachUplinks(chosen, &wanted, &problems)
        attachDuration = .now - begun
        let desired = MapRows(
            snapshot, interfaces: interfaces, namespaces: ids, after: rows.current,
            hasTunnels: options.capturesHBONE)
        problems += desired.problems
        problems += try project(desired)
        if !isFirst { try applyServices(snapshot) }
        try hold(snapshot, interfaces, &wanted, &problems)
        let left = links.others(than: wanted)
        if !left.isEmpty { hasten() }
        try links.remove(left)
        if isFirst { try upgrade(isDone: true) }
        return problems
    }

    private func attachUplinks(
        _ chosen: [NetworkLink], _ wanted: inout Set<String>, _ problems: inout [ApplyProblem]
    ) throws(BPFError) {
        uplinkIndices = []
        var ready: [UInt32: UInt32] = [:]
        for link in chosen {
            uplinkIndices.insert(link.index)
            let subject = "uplink \(link.name)"
            if attach(TCXAttachment.uplink(link), &wanted, subject, &problems) {
                ready[link.index] = 1
            }
        }
        try uplinkRows.become(ready)
    }

    /// Flows of an agent of an older ABI come here. Where its links become ours that is before and
    /// after they do, so that none is missing; else it serves by its programs until all is in
    /// force here.
    private func upgrade(isDone: Bool) throws(BPFError) {
        if let older = object.older, older.isAdopted || isDone {
            flows.admit(try older.copyFlows(to: object, owners: rows.placed))
        }
        guard isDone else { return }
        try pins.removeOthers()
        if setting.flags & UInt32(MALLA_SETTING_JOINS) != 0 {
            setting.flags &= ~UInt32(MALLA_SETTING_JOINS)
            try settings.set(0, to: setting)
        }
        hasApplied = true
        startLock = nil
    }

    /// Known flows are judged anew where rows have changed.
    private func project(_ desired: MapRows) throws(BPFError) -> [ApplyProblem] {
        do throws(BPFError) {
            let problems = try rows.apply(desired)
            if rows.changes != changesJudged { try countGeneration() }
            changesJudged = rows.changes
            return problems
        } catch {
            // By the rows that are in force; again once all are.
            judgeAgain()
            throw error
        }
    }

    private func countGeneration() throws(BPFError) {
        denied.begin()
        setting.generation &+= 1
        try settings.set(0, to: setting)
    }

    /// What was judged by rows that were wrong is judged anew.
    func judgeAgain() { try? countGeneration() }

    /// Sockets whose endpoints went since the last call; the caller resets them.
    public func takeStaleSockets() -> [StaleSocket] {
        defer { staleSockets = [] }
        return staleSockets
    }

    private func end(_ gone: [malla_end], _ left: LeftEnds) {
        let whole = stale.take(
            gone: gone, ends: services.ends, pods: podAddresses,
            isNodes: { services.isNodes($0) })
        let ended = EndedEnds(whole: whole, left: left)
        guard !ended.isEmpty else { return }
        staleSockets += services.maps.takeSockets(to: ended)
        services.maps.dropFlows(to: ended)
        flows.endTranslated(ended)
        denied.begin()
    }

    /// The listening sockets that captured connections go to, one a worker; empty: none.
    ///
    /// - Limits: 256; those beyond are refused.
    public func serve(listeners descriptors: [Int32]) throws(BPFError) {
        guard descriptors.count <= Int(listeners.entriesMax) else {
            throw .refused(call: .update, object: "map malla_listen", errno: E2BIG)
        }
        let count = UInt32(descriptors.count)
        let before = setting.listeners
        if let first = descriptors.first {
            setting.engine_cookie = malla_socket_netns_cookie(first)
            try settings.set(0, to: setting)
        }
        // Fewer than before: the count shrinks first, so that no row without a socket is chosen.
        if count < before { try setListeners(count) }
        for (index, descriptor) in descriptors.enumerated() {
            try listeners.set(UInt32(index), to: descriptor)
        }
        if count > before { try setListeners(count) }
        for index in count..<max(count, before) { listeners.remove(index) }
    }

    /// Takes out flows that are over, asks for those that are silent for long, and ends those that
    /// may not go on; to be called every few seconds.
    public func collect() {
        // A number that means something to an end is another one at the next time.
        flows.collect { key in
            _ = object.nudge(key, sequence: .random(in: 0...UInt32.max), keeps: true)
        }
        endDenied()
        translations.collect()
        services.rest()
    }

    /// Flows that were over and taken out, since this agent started.
    public var flowsCollected: UInt64 { flows.collected + translations.collected }

    private func setListeners(_ count: UInt32) throws(BPFError) {
        setting.listeners = count
        try settings.set(0, to: setting)
    }

    /// Numbers of policies that the kernel holds since before the first `apply`.
    public var policyNumbersInUse: PolicyNumbersInUse { rows.policies.numbersInUse }

    /// The engine's veth was made anew: attaches to its new end on the node.
    public func moveEngine(to interface: UInt32) throws(BPFError) {
        options.engineInterface = interface
        fixed = fixed.filter { !$0.hasPrefix("from_engine_") }
        try describeNode()
        try attachEngine()
    }

    /// Of the uplink that takes the shortest packets, bytes; 0: there is none.
    public var uplinkMTU: UInt32 {
        uplinkNames.map { UInt32(max(0, NetworkLink.mtu(of: $0))) }.filter { $0 > 0 }.min() ?? 0
    }

    public func verdictCounts() -> [VerdictCount] { counters.verdictCounts() }

    /// - Complexity: counts the rows of the flow table, some milliseconds when it is full.
    public func mapUsage() -> [MapUsage] {
        let current = rows.current
        func line(
            _ name: String, _ type: String, _ count: UInt64, _ max: UInt32, _ refused: UInt64
        ) -> MapUsage {
            MapUsage(
                name: name, type: type, entries: count, entriesMax: UInt64(max), refused: refused)
        }
        let usage =
            services.usage() + [
                line(
                    "malla_pod", "hash", UInt64(current.pods.count), rows.pods.entriesMax,
                    rows.pods.refused),
                line("malla_place", "hash", UInt64(rows.placed.count), rows.places.entriesMax, 0),
                line(
                    "malla_exclude", "lpm_trie", UInt64(current.exclusions.count),
                    rows.exclusions.entriesMax, rows.exclusions.refused),
                line(
                    "malla_mode", "hash", UInt64(rows.tunnels.heldModes.count),
                    rows.tunnels.modes.entriesMax, rows.tunnels.modes.refused),
                line(
                    "malla_peer", "hash", UInt64(rows.tunnels.heldPeers.count),
                    rows.tunnels.peers.entriesMax, rows.tunnels.peers.refused),
                line(
                    "malla_unlisted", "lpm_trie", UInt64(rows.tunnels.heldUnlisted.count),
                    rows.tunnels.unlisted.entriesMax, 0),
                line(
                    "malla_ipcache", "lpm_trie", UInt64(rows.policies.identityCount),
                    rows.policies.identities.entriesMax, rows.policies.identities.refused),
                line(
                    "malla_policy", "lpm_trie", UInt64(rows.policies.rowCount),
                    rows.policies.policies.entriesMax, rows.policies.policies.refused),
                line(
                    "malla_set", "hash", UInt64(rows.policies.setCount),
                    rows.policies.sets.entriesMax, rows.policies.sets.refused),
                line("malla_flow", "hash", flows.flows.count(), flows.flows.entriesMax, 0),
                line("malla_known", "hash", known.addresses.count, known.addresses.entriesMax, 0),
                line("malla_held", "lpm_trie", known.blocks.count, known.blocks.entriesMax, 0),
                line("malla_uplinks", "hash", uplinkRows.count, uplinkRows.entriesMax, 0),
                line("malla_listen", "sockmap", listeners.count(), listeners.entriesMax, 0),
                line("malla_setting", "array", 1, settings.entriesMax, 0),
                line(
                    "malla_count", "percpu_array", UInt64(counters.entriesMax), counters.entriesMax,
                    0),
            ] + namespaces.usage() + events.usage() + programMapUsage()
        // What programs find full, they count as a verdict.
        let full = [
            "malla_flow": MALLA_VERDICT_FLOW_REFUSED, "malla_snat": MALLA_VERDICT_SNAT_FULL,
            "malla_asked": MALLA_VERDICT_DEVICES_FULL,
        ]
        return usage.map { map in
            var map = map
            if let verdict = full[map.name] { map.refused = counters.count(verdict) }
            return map
        }
    }

    public func programs() -> [ProgramState] {
        links.all.map { link in
            let statistics = object.statistics(ofProgram: link.attachment.program)
            return ProgramState(
                name: link.attachment.program, id: statistics?.id ?? 0,
                attachedTo: link.attachment.description,
                isPinned: PinDirectory.isPinned("\(pins.programs)/\(link.attachment.program)"),
                isAdopted: link.isAdopted,
                runCount: statistics?.runs ?? 0, runNanoseconds: statistics?.nanoseconds ?? 0)
        }
    }

    /// Takes away every program, link and map that agents pinned below `bpffsPath`, and what of
    /// Malla's is attached to the cgroup.
    public static func remove(bpffsPath: String, cgroupPath: String?) throws(BPFError) {
        try PinDirectory.removeAll(bpffsPath: bpffsPath)
        if let cgroupPath { try LeftLinks.remove(cgroupPath: cgroupPath) }
    }
}

extension Datapath {
    /// Tells the programs where they are, before they are attached.
    private func describeNode() throws(BPFError) {
        setting.node_cookie = malla_netns_cookie()
        setting.engine = options.engineInterface
        setting.flags =
            (options.isHostAllowed ? UInt32(MALLA_SETTING_HOST_ALLOWED) : 0)
            | (options.capturesHBONE ? UInt32(MALLA_SETTING_HBONE) : 0)
            | (options.takesRoutes ? UInt32(MALLA_SETTING_ROUTES) : 0)
            | (pins.hasOthers ? UInt32(MALLA_SETTING_JOINS) : 0)
        setting.flow_sample = options.flowSample
        // A flow that another agent's rows judged is judged by this one's.
        setting.generation &+= 1
        denied.begin()
        let engine = NetworkLink.all().first { $0.index == options.engineInterface }
        if let engine { setting.engine_mac = engine.mac }
        let namespace = NetworkLink.namespaces()[options.engineInterface] ?? 0
        setting.engine_netns = UInt16(exactly: namespace) ?? 0
        let own = OwnSockets(cgroupPath: options.cgroupPath)
        setting.agent_process = own.process
        setting.agent_cgroup = own.cgroup
        try settings.set(0, to: setting)
    }

    private func attachEngine() throws(BPFError) {
        if options.engineInterface != 0 {
            guard let link = NetworkLink.all().first(where: { $0.index == options.engineInterface })
            else {
                let name = "the engine's interface, index \(options.engineInterface)"
                throw .refused(call: .attach, object: name, errno: ENODEV)
            }
            for each in TCXAttachment.engine(link) { try attachFixed(each) }
        }
    }

    private func attachFixed() throws(BPFError) {
        try attachEngine()
        if let namespace = options.engineNamespace {
            var status = stat()
            guard unsafe fstat(namespace, &status) == 0 else {
                throw .refused(call: .attach, object: "the engine's namespace", errno: errno)
            }
            let inode = UInt64(status.st_ino)
            try attachFixed(LookupAttachment.engine(descriptor: namespace, inode: inode))
        }
        let path = options.cgroupPath
        let inode = OwnSockets.inode(of: path)
        for each in CgroupAttachment.all(path: path, descriptor: cgroup.number, inode: inode) {
            try attachFixed(each)
        }
    }

    private func attachFixed(_ attachment: Attachment) throws(BPFError) {
        try links.join(attachment, object)
        fixed.insert(attachment.pin)
    }

    /// Until `apply` is done.
    private func hasten() {
        if hurry == nil { hurry = GracePeriods(hurriedBy: options.bpffsPath) }
    }

    /// Whether all of them are attached; a problem of `subject` otherwise.
    private func attach(
        _ attachments: [Attachment], _ wanted: inout Set<String>, _ subject: String,
        _ problems: inout [ApplyProblem]
    ) -> Bool {
        for attachment in attachments {
            wanted.insert(attachment.pin)
            if !links.hold(attachment) { hasten() }
            do throws(BPFError) {
                try links.join(attachment, object)
            } catch {
                problems.append(ApplyProblem(subject: subject, message: error.description))
                return false
            }
        }
        return true
    }

    func uplinks(
        _ snapshot: Snapshot, _ all: [NetworkLink], _ problems: inout [ApplyProblem]
    ) -> [NetworkLink] {
        guard options.uplinks.isEmpty else {
            return options.uplinks.compactMap { name in
                if let link = all.first(where: { $0.name == name }) { return link }
                problems.append(
                    ApplyProblem(
                        subject: "uplink \(name)", message: "the interface does not exist"))
                return nil
            }
        }
        let others = snapshot.mesh.nodes.filter { $0.name != snapshot.node }.flatMap(\.addresses)
        return Uplinks.choose(
            links: all, own: snapshot.nodeAddresses, others: others,
            pods: snapshot.mesh.workloads.filter { !snapshot.isLocal($0) }.flatMap(\.addresses),
            excluded: podIndices.union([options.engineInterface]))
    }
}
