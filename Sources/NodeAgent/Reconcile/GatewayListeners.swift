internal import CLinux
internal import Glibc
internal import MeshModel
internal import Supervisor

/// The listening sockets of this node's Gateways, one a worker each, as the supervisor lends them.
///
/// - Owns: this process's copies of the descriptors.
/// - Threads: the agent's.
struct GatewayListeners {
    private struct Key: Hashable {
        var address: IPAddress?
        var port: UInt16
    }
    private struct Opened {
        var sockets: [Int32]
        /// Why it could not be opened, 0 if it is open.
        var errno: Int32
    }

    /// How long handshakes that were begun at what is to be closed are waited for: a round trip to
    /// most clients. Others have to begin anew.
    static let handshakeMax = Duration.milliseconds(250)

    private let link: ChildLink
    private let workers: Int
    private var opened: [Key: Opened] = [:]
    /// What to close once the workers have let go.
    private var leaving: [Key: Opened] = [:]

    init(_ link: ChildLink, workers: Int) {
        self.link = link
        self.workers = workers
    }

    /// Opens what `wanted` asks for and tries again what failed before. What is to be closed goes
    /// on until the workers have the new ones: the port is never without a listener.
    ///
    /// - Returns: the descriptors of each, none where it could not be opened.
    mutating func follow(_ wanted: [GatewaySocket]) -> [[Int32]] {
        let keys = wanted.map { Key(address: $0.address, port: $0.port) }
        var left: [Key] = []
        for (key, value) in opened where !keys.contains(key) {
            opened[key] = nil
            leaving[key] = value
            if value.errno == 0 { left.append(key) }
        }
        let sockets = keys.map { key in
            if let known = opened[key] ?? takeBack(key), known.errno == 0 {
                opened[key] = known
                return known.sockets
            }
            let message = Self.request(key)
            let (errno, sockets) = link.open(
                message.address, port: key.port, count: workers, isDual: message.isDual)
            // An agent that went before it closed them may have left them deaf.
            for socket in sockets where errno == 0 { _ = malla_listener_unhush(socket) }
            opened[key] = Opened(sockets: sockets, errno: errno)
            return sockets
        }
        // Who comes meanwhile comes again, to what listens in their place: what waited in their
        // queues when they are closed would be reset.
        for socket in leaving.values.flatMap(\.sockets) { _ = malla_listener_hush(socket) }
        let end = ContinuousClock.now + Self.handshakeMax
        for key in left {
            while .now < end, Self.hasHandshake(key) { malla_sleep_ms(2) }
        }
        return sockets
    }

    /// Whether a client is half in: once it is whole it waits in a queue that the workers empty
    /// before they let go, and would be reset else.
    private static func hasHandshake(_ key: Key) -> Bool {
        let message = request(key)
        // The call reads 16 bytes.
        return unsafe malla_port_has_handshake(message.address, key.port, message.isDual) != 0
    }

    /// What was to be closed, and is wanted after all.
    private mutating func takeBack(_ key: Key) -> Opened? {
        guard let known = leaving.removeValue(forKey: key) else { return nil }
        for socket in known.sockets { _ = malla_listener_unhush(socket) }
        return known
    }

    /// Closes what is no longer wanted. Call when the workers have let go.
    mutating func closeLeft() {
        for (key, value) in leaving {
            for socket in value.sockets { close(socket) }
            if value.errno == 0 { link.close(Self.request(key)) }
        }
        leaving = [:]
    }

    /// Closes all of this process's copies: another child serves, and the workers have let go.
    mutating func letGo() {
        for value in Array(leaving.values) + opened.values {
            for socket in value.sockets { close(socket) }
        }
        leaving = [:]
        opened = [:]
    }

    /// Closes what an earlier child opened and this one does not want.
    func closeForeign() {
        let ours = Set(opened.keys.map { Self.request($0).address + Self.bytes($0.port) })
        for held in link.held() where held.purpose == .gateway {
            if !ours.contains(held.address + Self.bytes(held.port)) { link.close(held) }
        }
    }

    /// The errno of a socket that could not be opened, 0 if it serves.
    func errno(address: IPAddress?, port: UInt16) -> Int32 {
        opened[Key(address: address, port: port)]?.errno ?? 0
    }

    var hasFailed: Bool { opened.values.contains { $0.errno != 0 } }

    private static func bytes(_ port: UInt16) -> [UInt8] { [UInt8(port >> 8), UInt8(port & 255)] }

    private static func request(_ key: Key) -> ControlMessage {
        let address = key.address ?? .anyV6
        return ControlMessage(
            .open, port: key.port, address: (0..<16).map { address.byte($0) },
            isDual: key.address == nil)
    }
}
