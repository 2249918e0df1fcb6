// malla_space: the network namespaces of pods whose programs are attached and whose rows are all
// there, by cookie. Sockets of every other one below the cgroup are held (bpf/hooks/hold.h).

/// - Owns: the map, and what the kernel said of each interface.
struct PodNamespaces: ~Copyable {
    /// The interface, by cookie.
    private(set) var spaces: CopiedMap<UInt64, UInt32>
    /// By interface: the cookie of the namespace with its other end, as `apply` was told.
    private var cookies: [UInt32: UInt64] = [:]

    init(_ object: borrowing BPFObject) throws(BPFError) {
        spaces = try CopiedMap(object, "malla_space", key: 0, value: 0)
    }

    /// Opens the namespaces behind these interfaces, and no others.
    ///
    /// - Returns: interfaces that have no other end: neither veth nor netkit.
    /// - Complexity: a system call an interface.
    mutating func apply(
        _ interfaces: [UInt32], _ object: borrowing BPFObject
    ) throws(BPFError) -> Set<UInt32> {
        cookies = [:]
        for index in interfaces { cookies[index] = object.namespaceCookie(behind: index) }
        var wanted: [UInt64: UInt32] = [:]
        for (index, cookie) in cookies where cookie != 0 { wanted[cookie] = index }
        try spaces.become(wanted)
        return Set(cookies.filter { $0.value == 0 }.keys)
    }

    /// Closes at once what is behind an interface that there is no more: another may take its place
    /// before the next `apply`.
    ///
    /// - Returns: interfaces whose other end is in another namespace than at the last `apply`.
    mutating func look(
        present: Set<UInt32>, _ object: borrowing BPFObject
    ) -> Set<UInt32> {
        for (cookie, index) in spaces.rows where !present.contains(index) { spaces.take(cookie) }
        var moved: Set<UInt32> = []
        for (index, cookie) in cookies where present.contains(index) {
            if object.namespaceCookie(behind: index) != cookie { moved.insert(index) }
        }
        return moved
    }
}
