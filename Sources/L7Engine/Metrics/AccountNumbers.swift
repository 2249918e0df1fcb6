// Who has which account: this node's workloads first, then others as far as accounts last; clients
// outside of the mesh share some by their address, so that one of them is not all of them.

internal import MeshModel

/// Numbers of accounts from one configuration to the next.
///
/// - Threads: the one that adopts configurations.
struct AccountNumbers: Sendable {
    /// Accounts of clients outside of the mesh; the first is nobody's.
    static let outsideCount: Int32 = 256

    struct Holder: Sendable {
        let source: MetricNames.Source
        /// What the account had counted when this workload got it; see `Accounts.words`.
        let base: [UInt64]
        /// The configuration since which the workload is gone.
        var goneSince: UInt64?

        /// As the black box knows it.
        var name: String { "\(source.namespace)/\(source.workload)" }
    }

    /// By number, from `outsideCount` on.
    private(set) var holders: [Holder] = []
    /// Workloads of this node without an account of their own.
    private(set) var shortage = 0
    private var numbers: [MetricNames.Source: Int32] = [:]

    /// The account of a client outside of the mesh: IPv4 by address, IPv6 by its /64.
    static func outside(_ address: IPAddress) -> Int32 {
        let word = address.isIPv4 ? address.low : address.high
        let mixed = word &* 0x9e37_79b9_7f4a_7c15
        return 1 + Int32(truncatingIfNeeded: (mixed >> 32) % UInt64(outsideCount - 1))
    }

    /// Gives every workload of the snapshot its number.
    ///
    /// - Parameters:
    ///   - max: accounts of workloads.
    ///   - isFree: whether nothing is open for an account that is to be another's.
    ///   - words: what an account has counted, over all workers.
    /// - Returns: by `Mesh.workloads`' index; 0: no account of its own.
    mutating func follow(
        _ snapshot: Snapshot, max: Int, isFree: (Int32, Holder) -> Bool, words: (Int32) -> [UInt64]
    ) -> [Int32] {
        let sources = snapshot.mesh.workloads.map { MetricNames.Source($0) }
        var present = Set(sources)
        for (index, holder) in holders.enumerated() {
            let isHere = present.remove(holder.source) != nil
            holders[index].goneSince = isHere ? nil : holder.goneSince ?? snapshot.version
        }
        // What is left has no number yet.
        var free: [Int] = []
        for (index, holder) in holders.enumerated() {
            guard let since = holder.goneSince, since < snapshot.version else { continue }
            if isFree(Self.outsideCount + Int32(index), holder) { free.append(index) }
        }
        shortage = 0
        for isLocal in [true, false] {
            for (index, source) in sources.enumerated() where present.contains(source) {
                guard snapshot.isLocal(snapshot.mesh.workloads[index]) == isLocal else { continue }
                present.remove(source)
                if !give(source, max, &free, words), isLocal { shortage += 1 }
            }
        }
        return sources.map { numbers[$0] ?? 0 }
    }

    private mutating func give(
        _ source: MetricNames.Source, _ max: Int, _ free: inout [Int], _ words: (Int32) -> [UInt64]
    ) -> Bool {
        let index: Int
        if holders.count < max {
            index = holders.count
        } else if let old = free.popLast() {
            index = old
            numbers[holders[old].source] = nil
        } else {
            return false
        }
        let number = Self.outsideCount + Int32(index)
        let holder = Holder(source: source, base: words(number), goneSince: nil)
        if index == holders.count { holders.append(holder) } else { holders[index] = holder }
        numbers[source] = number
        return true
    }

    /// By number, for the black box.
    var names: [String] {
        (0..<Int(Self.outsideCount)).map(Self.outsideName) + holders.map(\.name)
    }

    static func outsideName(_ number: Int) -> String { "outside/group-\(number)" }
}
