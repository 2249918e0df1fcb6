// What supervisor and child say to each other: one fixed record a packet, descriptors beside it.
// Both are the same binary, so the record has no version; it is read whole or refused.

/// One packet of the control socket.
///
/// - Units: 40 bytes: kind, flags, number, count, port, code as little-endian words of 4 bytes,
///   then the address.
public struct ControlMessage: Equatable, Sendable {
    public enum Kind: UInt32, Sendable {
        /// Child: what did I inherit? Answered by `inheritance` with the descriptors.
        case hello = 1
        case inheritance
        /// Child: open (or give me again) the sockets of `address`:`port`. Answered by `sockets`.
        case open
        case sockets
        /// Child: close them.
        case close
        /// Child: which do you hold? Answered by one `held` each and `end`.
        case list
        case held
        case end
        /// Child: I serve. No answer.
        case serving
        /// Child: the programs are attached, bring the veth up; what leaves has at most `number`
        /// bytes (0: what the veth says). Answered by `end`.
        case linkUp
        /// Child: put the engine's namespace right; `number` as of `linkUp`. Answered by
        /// `verified`: `number` is the index of the veth's end on the node, `count` an
        /// `EngineRepairs`, `code` why all is not right.
        case verify
        case verified
        /// Child: a sock_diag socket of the network namespace of process `number`, or, for 0, of
        /// the pinned one with this `cookie`. Answered by `sockets`.
        case diagnose
        /// A second supervisor: give me all that you hold. Answered by `inheritance`, one `held`
        /// each and `end`; `number` is `takeoverVersion`. Here two binaries meet, so this number
        /// and those of the answers never change.
        case takeover = 100
    }

    /// Of what two supervisors say to each other; goes up with any change of it.
    public static let takeoverVersion: UInt32 = 1

    /// Of `open`: who asks. Sockets of different purposes are never the same.
    public enum Purpose: UInt32, Sendable {
        /// One socket a worker, sharing the port.
        case gateway
        /// One socket.
        case admin
    }

    public var kind: Kind
    /// `isDual` bit 0; purpose above it.
    var flags: UInt32
    /// `open`: sockets wanted. `inheritance`: index of the veth's end on the node.
    public var number: UInt32
    /// Descriptors in this packet. `inheritance`: restarts so far.
    public var count: UInt32
    /// `inheritance`: 1 where a black box is handed over.
    public var port: UInt16
    /// A positive errno, 0 for success. `inheritance`: microseconds since the child was started.
    public var code: Int32
    /// IPv6 or IPv4-mapped, network order.
    public var address: [UInt8]

    public static let bytesCount = 40

    public init(
        _ kind: Kind, number: UInt32 = 0, count: UInt32 = 0, port: UInt16 = 0, code: Int32 = 0,
        address: [UInt8] = [UInt8](repeating: 0, count: 16), isDual: Bool = false,
        purpose: Purpose = .gateway
    ) {
        precondition(address.count == 16, "an address is sixteen bytes")
        self.kind = kind
        self.flags = (isDual ? 1 : 0) | purpose.rawValue << 1
        self.number = number
        self.count = count
        self.port = port
        self.code = code
        self.address = address
    }

    public var isDual: Bool { flags & 1 == 1 }
    public var purpose: Purpose { Purpose(rawValue: flags >> 1) ?? .gateway }

    /// `inheritance`: children that were killed because they hung; the first four bytes of
    /// `address`.
    var hangs: UInt32 {
        get { address.prefix(4).reduce(0) { $0 << 8 | UInt32($1) } }
        set {
            for index in 0..<4 {
                address[index] = UInt8(truncatingIfNeeded: newValue >> (24 - 8 * UInt32(index)))
            }
        }
    }

    /// Of a network namespace: the first eight bytes of `address`.
    var cookie: UInt64 { address.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } }

    static func diagnose(cookie: UInt64) -> ControlMessage {
        let bytes = (0..<8).map { UInt8(truncatingIfNeeded: cookie >> (56 - 8 * UInt64($0))) }
        return ControlMessage(.diagnose, address: bytes + [UInt8](repeating: 0, count: 8))
    }

    /// What names a listener: the same key is the same sockets.
    struct Key: Hashable {
        var address: [UInt8]
        var port: UInt16
        var flags: UInt32
    }
    var key: Key { Key(address: address, port: port, flags: flags) }

    /// The record as it goes over the socket.
    public var bytes: [UInt8] {
        var out: [UInt8] = []
        func put(_ value: UInt32) {
            for shift in [0, 8, 16, 24] as [UInt32] {
                out.append(UInt8(truncatingIfNeeded: value >> shift))
            }
        }
        put(kind.rawValue)
        put(flags)
        put(number)
        put(count)
        put(UInt32(port))
        put(UInt32(bitPattern: code))
        return out + address
    }

    /// `nil`: not one of ours.
    public init?(bytes: [UInt8]) {
        guard bytes.count == Self.bytesCount else { return nil }
        func word(_ index: Int) -> UInt32 {
            (0..<4).reduce(0) { $0 | UInt32(bytes[4 * index + $1]) << (8 * UInt32($1)) }
        }
        guard let kind = Kind(rawValue: word(0)), Purpose(rawValue: word(1) >> 1) != nil,
            let port = UInt16(exactly: word(4))
        else { return nil }
        self.kind = kind
        flags = word(1)
        number = word(2)
        count = word(3)
        self.port = port
        code = Int32(bitPattern: word(5))
        address = Array(bytes[24..<40])
    }
}
