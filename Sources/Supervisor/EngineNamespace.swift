internal import CLinux
internal import Glibc

/// The engine's own network namespace: every address is local in it, all that leaves goes by one
/// veth to the node. Nothing pins it by name: it ends with the supervisor.
///
/// - Owns: the namespace's descriptor and the captured listeners.
/// - Source: rtnetlink(7), veth(4), `ip-rule(8)`; bpf_redirect_peer needs Linux 5.10.
public struct EngineNamespace: ~Copyable {
    public static let nodeInterface = "malla0"
    public static let engineInterface = "eth0"
    /// Only the sk_lookup program sends anything here.
    public static let listenPort: UInt16 = 15001

    let descriptor: Descriptor
    /// Index of `malla0` in the node's namespace.
    public private(set) var interfaceIndex: UInt32
    /// One listening socket a worker; AF_INET6 and bound to ::ffff:127.0.0.1, so that it takes
    /// both families and, but for the sk_lookup program, nothing.
    let listeners: [Int32]
    /// The longest packet that may leave, bytes; 0: what the veth says; `nil`: not known.
    private var mtu: UInt32?

    /// Makes the namespace, its routes and its listeners; the veth's end on the node stays down
    /// until the programs are attached.
    public init(workers: Int) throws(SupervisorError) {
        let made = malla_netns_create()
        guard made >= 0 else {
            throw .refused(doing: "make the engine's network namespace", errno: -made)
        }
        let descriptor = Descriptor(adopting: made)

        // What the veth's end is made with, before there is one.
        let inherited = Self.inherited.map { ($0, Sysctl.value($0)) }
        try Self.inside(made) { () throws(SupervisorError) in
            try Self.setSysctls()
            for (name, value) in inherited where !value.isEmpty { _ = Sysctl.set(name, value) }
        }
        try Self.createVeth(made)
        let listeners = try Self.inside(made) { () throws(SupervisorError) -> [Int32] in
            try Self.setRoutes()
            return try Self.listen(workers)
        }

        interfaceIndex = unsafe if_nametoindex(Self.nodeInterface)
        self.descriptor = descriptor
        self.listeners = listeners
    }

    /// What another supervisor of the same node made.
    init(descriptor: Int32, interfaceIndex: UInt32, listeners: [Int32]) {
        self.descriptor = Descriptor(adopting: descriptor)
        self.interfaceIndex = interfaceIndex
        self.listeners = listeners
    }

    deinit { for one in listeners { close(one) } }

    /// Brings the node's end up: what leaves the engine flows from now on.
    public static func setLinkUp() -> Int32 {
        -(unsafe malla_link_set_up(nodeInterface, true))
    }

    /// Says how long packets may be that leave: as short as the shortest of the node's uplinks
    /// takes, because the engine's TCP does not see those.
    mutating func setMTU(_ bytes: UInt32) throws(SupervisorError) {
        guard bytes != mtu else { return }
        try Self.inside(descriptor.number) { () throws(SupervisorError) in
            // The least that IPv6 allows is 1280.
            for (family, most) in [(AF_INET, bytes), (AF_INET6, bytes == 0 ? 0 : max(bytes, 1280))]
            {
                let result = unsafe malla_engine_mtu(family, Self.engineInterface, most)
                if family == AF_INET6, result == -EAFNOSUPPORT || result == -EOPNOTSUPP { continue }
                guard result == 0 else {
                    throw .refused(doing: "set the MTU of the engine's routes", errno: -result)
                }
            }
        }
        mtu = bytes
    }

    /// Puts right what somebody took away: the veth, links that are down, rules, routes, settings.
    ///
    /// - Returns: what was wrong. With `.veth` in it the index is another one, and the node's end
    ///   is down until its programs are attached.
    mutating func repair() throws(SupervisorError) -> EngineRepairs {
        var repairs: EngineRepairs = []
        let namespace = descriptor.number
        if unsafe if_nametoindex(Self.nodeInterface) != interfaceIndex {
            // What is left of the pair would be in the way.
            try Self.inside(namespace) { () throws(SupervisorError) in
                _ = unsafe malla_link_remove(Self.engineInterface)
            }
            try Self.createVeth(namespace)
            interfaceIndex = unsafe if_nametoindex(Self.nodeInterface)
            repairs.insert(.veth)
        } else if unsafe malla_link_is_up(Self.nodeInterface) == 0 {
            _ = Self.setLinkUp()
            repairs.insert(.link)
        }
        let inner = try Self.inside(namespace) { () throws(SupervisorError) -> EngineRepairs in
            try Self.repairInside()
        }
        if !repairs.union(inner).isEmpty, let bytes = mtu {
            mtu = nil
            try setMTU(bytes)
        }
        return repairs.union(inner)
    }

    private static func repairInside() throws(SupervisorError) -> EngineRepairs {
        var repairs: EngineRepairs = []
        for (name, value) in mustSettings where Sysctl.value(name) != value {
            let error = Sysctl.set(name, value)
            guard error == 0 else {
                throw .refused(doing: "set net/\(name) in the engine's namespace", errno: error)
            }
            repairs.insert(.settings)
        }
        for device in ["lo", engineInterface] where unsafe malla_link_is_up(device) == 0 {
            _ = unsafe malla_link_set_up(device, true)
            repairs.insert(.link)
        }
        for family in [AF_INET, AF_INET6] {
            let result = unsafe malla_engine_routes_repair(family, engineInterface)
            if family == AF_INET6, result == -EAFNOSUPPORT || result == -EOPNOTSUPP { continue }
            guard result >= 0 else {
                throw .refused(doing: "repair the engine's routes", errno: -result)
            }
            if result > 0 { repairs.insert(.routes) }
        }
        return repairs
    }

    /// Runs `body` with this thread in the namespace.
    static func inside<Result>(
        _ namespace: Int32, _ body: () throws(SupervisorError) -> Result
    ) throws(SupervisorError) -> Result {
        let before = malla_netns_enter(namespace)
        guard before >= 0 else {
            throw .refused(doing: "enter the engine's network namespace", errno: -before)
        }
        // A thread that cannot come back must not go on in the wrong namespace.
        defer { if malla_netns_leave(before) != 0 { exit(71) } }
        return try body()
    }

    private static func createVeth(_ namespace: Int32) throws(SupervisorError) {
        var result = unsafe malla_veth_create(nodeInterface, namespace, engineInterface)
        // The caller holds the node's lock, so a veth of this name is left from a supervisor that
        // was killed: its namespace is about to be removed by the kernel.
        if result == -EEXIST {
            _ = unsafe malla_link_remove(nodeInterface)
            result = unsafe malla_veth_create(nodeInterface, namespace, engineInterface)
        }
        guard result == 0 else {
            throw .refused(doing: "make the veth \(nodeInterface)", errno: -result)
        }
        // No link-local address and no router solicitations: only TCP of the engine goes there.
        _ = Sysctl.set("ipv6/conf/\(nodeInterface)/addr_gen_mode", "1")
    }

    private static let mustSettings = [
        // IP_LOCAL_PORT_RANGE is ignored unless the namespace's own range contains it.
        ("ipv4/ip_local_port_range", "61000 65535"),
        // 4 536 ports for each client and destination: TIME_WAIT must not hold them.
        ("ipv4/tcp_tw_reuse", "1"),
    ]

    /// What the node's TCP is set to holds for the engine's: a new namespace starts with some of it
    /// from the machine's first one, with the rest as the kernel was built.
    private static let inherited = [
        "ipv4/tcp_congestion_control", "ipv4/tcp_rmem", "ipv4/tcp_wmem", "ipv4/tcp_ecn",
        "ipv4/tcp_sack", "ipv4/tcp_timestamps", "ipv4/tcp_window_scaling",
        "ipv4/tcp_mtu_probing", "ipv4/tcp_notsent_lowat", "ipv4/tcp_slow_start_after_idle",
        "ipv4/tcp_syn_retries", "ipv4/tcp_synack_retries", "ipv4/tcp_retries2",
        "ipv4/tcp_keepalive_time", "ipv4/tcp_keepalive_intvl", "ipv4/tcp_keepalive_probes",
        "ipv4/tcp_fin_timeout", "ipv4/tcp_syncookies",
    ]

    private static func setSysctls() throws(SupervisorError) {
        let may = [
            ("core/somaxconn", "8192"),
            ("ipv4/tcp_max_syn_backlog", "8192"),
            ("ipv6/conf/all/disable_ipv6", "0"),
            ("ipv6/conf/default/disable_ipv6", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/addr_gen_mode", "1"),
            ("ipv6/conf/default/router_solicitations", "0"),
            ("ipv6/ip_nonlocal_bind", "1"),
        ]
        for (name, value) in mustSettings {
            let error = Sysctl.set(name, value)
            guard error == 0 else {
                throw .refused(doing: "set net/\(name) in the engine's namespace", errno: error)
            }
        }
        // Absent in a kernel without IPv6; IPv4 works all the same.
        for (name, value) in may { _ = Sysctl.set(name, value) }
    }

    private static func setRoutes() throws(SupervisorError) {
        for (device, doing) in [("lo", "bring lo up"), (engineInterface, "bring eth0 up")] {
            let result = unsafe malla_link_set_up(device, true)
            guard result == 0 else {
                throw .refused(doing: "\(doing) in the engine's namespace", errno: -result)
            }
        }
        for family in [AF_INET, AF_INET6] {
            let result = unsafe malla_engine_routes(family, engineInterface)
            if family == AF_INET6, result == -EAFNOSUPPORT || result == -EOPNOTSUPP { continue }
            guard result == 0 else {
                throw .refused(
                    doing: "set the engine's IPv\(family == AF_INET ? 4 : 6) routes",
                    errno: -result)
            }
        }
    }

    private static func listen(_ workers: Int) throws(SupervisorError) -> [Int32] {
        let loopback: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1]
        var listeners: [Int32] = []
        for _ in 0..<workers {
            let flags = MALLA_LISTEN_DUAL | MALLA_LISTEN_REUSEPORT
            // The array of sixteen bytes outlives the call.
            let one = unsafe malla_listen(loopback, listenPort, flags, HeldSockets.backlogMax)
            guard one >= 0 else {
                for each in listeners { close(each) }
                throw .refused(doing: "listen in the engine's namespace", errno: -one)
            }
            listeners.append(one)
        }
        return listeners
    }
}
