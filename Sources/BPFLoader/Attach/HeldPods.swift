// Which pods are silent, and until when: what `apply` does once programs and rows are in force, and
// what is said of pods that they are not.

internal import CMallaABI
internal import MeshModel

extension Datapath {
    /// Opens the namespaces of pods whose programs and rows are there, then holds all others.
    ///
    /// - Parameter interfaces: of pods, by name, that have all of their programs.
    func hold(
        _ snapshot: Snapshot, _ interfaces: [String: UInt32], _ wanted: inout Set<String>,
        _ problems: inout [ApplyProblem]
    ) throws(BPFError) {
        // Refused sockets are named by them too.
        let ready = BPFObject.canHold ? interfaces.values.filter { rows.placed[$0] != nil } : []
        let endless = try namespaces.apply(ready, object)
        try known.apply(
            snapshot, endless: Set(interfaces.filter { endless.contains($0.value) }.keys))
        guard try known.hold(options.heldPods, of: snapshot) else { return }
        guard BPFObject.canHold else {
            guard options.mustHold else { return }
            let message = "new pods are not held: that needs Linux 6.15; --hold-new-pods off"
            problems.append(ApplyProblem(subject: "agent", message: message))
            return
        }
        let inode = OwnSockets.inode(of: options.cgroupPath)
        for each in HoldAttachment.all(
            path: options.cgroupPath, descriptor: cgroup.number, inode: inode)
        {
            try links.join(each, object)
            wanted.insert(each.pin)
        }
    }

    /// Whether sockets with this address are held while their namespace is not known.
    private func isHeld(_ address: IPAddress) -> Bool {
        BPFObject.canHold && known.holds(address)
    }

    /// What becomes of a local pod that has no row of malla_pod: its packets end at its own
    /// interface, or in the socket; else nobody judges them.
    func isSilent(_ address: IPAddress) -> Bool {
        attachedAddresses.contains(malla_address(address)) || isHeld(address)
    }

    /// Of a pod that names an interface that there is not.
    func missing(_ interface: String) -> String {
        let rest =
            options.heldPods == .none || !BPFObject.canHold
            ? "; nothing is attached to it, and none of its policies is in force"
            : "; what has its address is silent until it does"
        return "its interface \(interface) does not exist\(rest)"
    }

    /// Why an interface cannot be a pod's: programs there would judge what is not of the pod.
    /// `nil`: it can.
    ///
    /// - Parameters:
    ///   - owned: indices of those that carry the node's InternalIPs.
    ///   - isTaken: another pod has it.
    func unfit(_ link: NetworkLink, _ owned: Set<UInt32>, isTaken: Bool) -> String? {
        let whose: String? =
            if link.isLoopback {
                "loopback"
            } else if link.index == options.engineInterface {
                "the engine's"
            } else if owned.contains(link.index) || options.uplinks.contains(link.name) {
                "the node's own, with its InternalIP or among --uplink"
            } else if isTaken {
                "another pod's"
            } else {
                nil
            }
        return whose.map { "its interface \(link.name) is \($0): nothing is attached to it" }
    }

    /// The local pods at whose interfaces the last `apply` looked, `NAMESPACE/NAME` by index.
    public var podsByInterface: [UInt32: String] {
        Dictionary(
            places.values.map { ($0.index, String($0.subject.dropFirst("pod ".count))) },
            uniquingKeysWith: { first, _ in first })
    }

    /// Interfaces of pods that came, went, or are others than at the last `apply`, which is to be
    /// called again then.
    ///
    /// - Complexity: a dump of all interfaces, and a system call a pod.
    public func lookAtInterfaces() -> [Repair] { interfaces(NetworkLink.all()) }
}
