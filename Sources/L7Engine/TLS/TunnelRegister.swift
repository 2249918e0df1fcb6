// Who has proved what to whom: tunnels that are open, and those that ended lately, out of the
// workers to the agent. A worker writes when a handshake is done and when a tunnel ends.

public import MeshModel
internal import Synchronization

/// Tunnels between the same two ends, with the same identities, as their handshakes verified them.
public struct TunnelRecord: Sendable, Hashable {
    public struct Ends: Sendable, Hashable {
        /// This node accepted it; else it dialled.
        public var isServer: Bool
        /// Who dialled; `::` where this node did for a Gateway.
        public var source: IPAddress
        public var target: IPAddress
        /// What this node has shown.
        public var own: SPIFFEID
        /// What the peer's certificate says, verified.
        public var peer: String
        /// As RFC 8446 numbers them.
        public var version: UInt16
        public var suite: UInt16

        public init(
            isServer: Bool, source: IPAddress, target: IPAddress, own: SPIFFEID, peer: String,
            version: UInt16 = 0x0304, suite: UInt16 = 0x1301
        ) {
            self.isServer = isServer
            self.source = source
            self.target = target
            self.own = own
            self.peer = peer
            self.version = version
            self.suite = suite
        }

        public var versionName: String { version == 0x0304 ? "TLSv1.3" : "0x\(hex(version))" }
        public var suiteName: String {
            switch suite {
            case 0x1301: "TLS_AES_128_GCM_SHA256"
            case 0x1302: "TLS_AES_256_GCM_SHA384"
            case 0x1303: "TLS_CHACHA20_POLY1305_SHA256"
            default: "0x\(hex(suite))"
            }
        }

        private func hex(_ number: UInt16) -> String { String(number, radix: 16) }
    }

    public var ends: Ends
    /// How many are open now.
    public var open: Int
    /// When the last one ended, seconds since 1970; 0: none has.
    public var endedAt: Int64

    public init(ends: Ends, open: Int = 1, endedAt: Int64 = 0) {
        self.ends = ends
        self.open = open
        self.endedAt = endedAt
    }
}

/// - Threads: any; a worker holds the lock once a tunnel's beginning and once its end.
/// - Limits: `recordsMax`; more are not shown.
final class TunnelRegister: Sendable {
    static let recordsMax = 8192
    /// Of those that ended.
    static let keptSeconds: Int64 = 300

    let refusals = RefusalRegister()
    private let records = Mutex<[TunnelRecord.Ends: TunnelRecord]>([:])

    func opened(_ ends: TunnelRecord.Ends) {
        records.withLock { records in
            if records[ends] == nil, records.count >= Self.recordsMax {
                records = records.filter { $0.value.open > 0 }
                guard records.count < Self.recordsMax else { return }
            }
            records[ends, default: TunnelRecord(ends: ends, open: 0)].open += 1
        }
    }

    /// - Parameter now: seconds since 1970.
    func ended(_ ends: TunnelRecord.Ends, at now: Int64) {
        records.withLock { records in
            guard let record = records[ends], record.open > 0 else { return }
            records[ends]?.open = record.open - 1
            records[ends]?.endedAt = now
        }
    }

    func all(at now: Int64) -> [TunnelRecord] {
        records.withLock { records in
            records = records.filter {
                $0.value.open > 0 || now - $0.value.endedAt < Self.keptSeconds
            }
            return Array(records.values)
        }
    }
}

extension Worker {
    private func ends(of carrier: Link) -> TunnelRecord.Ends? {
        guard let own = shownIDs[carrier.token], let peer = peerID(of: carrier) else { return nil }
        let (version, suite) = agreement(of: carrier)
        let source = carrier.it.isServer ? carrier.it.peer.address : carrier.it.pool.it.source
        let target = carrier.it.isServer ? carrier.it.target.address : carrier.it.peer.address
        return TunnelRecord.Ends(
            isServer: carrier.it.isServer, source: source, target: target, own: own, peer: peer,
            version: version, suite: suite)
    }

    func noteOpened(_ carrier: Link) {
        if let ends = ends(of: carrier) { register.opened(ends) }
    }

    func noteEnded(_ carrier: Link) {
        guard let ends = ends(of: carrier) else { return }
        register.ended(ends, at: Int64((now &+ wallOffset) / 1_000_000_000))
    }
}
