// The maps of flow events as the datapath sees them: how full, how much was lost.

internal import CMallaABI
internal import Glibc

/// - Owns: three descriptors.
/// - Threads: one at a time.
struct EventMaps: ~Copyable {
    private let ring: Descriptor
    private let ringBytes: UInt32
    private let denied: BPFMap<malla_flow_key, malla_denied>
    private let meters: PerCPUArray

    init(_ object: borrowing BPFObject) throws(BPFError) {
        let ring = try object.map("malla_event")
        let shape = try MapShape(of: ring.number, name: "malla_event")
        let denied = try BPFMap<malla_flow_key, malla_denied>(
            adopting: object.map("malla_denied"), name: "malla_denied")
        let meters = try PerCPUArray(adopting: object.map("malla_meter"), name: "malla_meter")
        self.ring = ring
        ringBytes = shape.entriesMax
        self.denied = denied
        self.meters = meters
    }

    /// A descriptor of the ring for whoever reads it.
    func source(directory: String) throws(BPFError) -> EventSource {
        let copy = fcntl(ring.number, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else {
            throw .refused(call: .open, object: "map malla_event", errno: errno)
        }
        return EventSource(descriptor: copy, directory: directory)
    }

    func counts() -> FlowEventCounts {
        var counts = FlowEventCounts()
        counts.written = meters.sum(MALLA_METER_WRITTEN.rawValue)
        counts.ringFull = meters.sum(MALLA_METER_RING_FULL.rawValue)
        counts.rate = meters.sum(MALLA_METER_RATE.rawValue)
        counts.repeated = meters.sum(MALLA_METER_REPEATED.rawValue)
        return counts
    }

    /// Of the ring in bytes, and refused are the events that it had no room for.
    func usage() -> [MapUsage] {
        [
            MapUsage(
                name: "malla_event", type: "ringbuf", entries: EventRing.unreadBytes(ring) ?? 0,
                entriesMax: UInt64(ringBytes), refused: counts().ringFull),
            MapUsage(
                name: "malla_denied", type: "lru_hash", entries: denied.count(),
                entriesMax: UInt64(denied.entriesMax), refused: 0),
        ]
    }
}

extension Datapath {
    /// For the one reader of the ring; `EventRing` waits until the one before has ended.
    public func eventSource() throws(BPFError) -> EventSource {
        try events.source(directory: pins.path)
    }

    public func eventCounts() -> FlowEventCounts { events.counts() }
}
