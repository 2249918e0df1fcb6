// The reader's end of malla_event. The kernel writes, one process reads: a directory's lock sees to
// it that the child of a restart or an upgrade begins when the one before has ended reading.

internal import CBPF
internal import CLinux
internal import CMallaABI
internal import Glibc

/// What it takes to open the ring on another thread.
public struct EventSource: Sendable {
    /// A descriptor of the map, which `EventRing` takes over.
    let descriptor: Int32
    /// Of the pins.
    let directory: String
    /// An eventfd; it lives as long as the process.
    private let bell = engine_bell(0)

    init(descriptor: Int32, directory: String) {
        self.descriptor = descriptor
        self.directory = directory
    }

    /// Ends the ring's `wait`, for good.
    public func stop() { engine_ring(bell) }

    fileprivate var stopped: Int32 { bell }
}

/// - Owns: the ring's pages, two descriptors.
/// - Threads: one, the reader's.
@safe public struct EventRing: ~Copyable {
    private let ring: OpaquePointer  // Freed only in `deinit`; never leaves this type.
    private let inbox: Inbox
    private let map: Descriptor
    private let lock: Descriptor
    private let stopped: Int32

    /// Waits until no other process reads the ring.
    public init(_ source: EventSource) throws(BPFError) {
        let map = Descriptor(adopting: source.descriptor)
        let opened = unsafe open(source.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else {
            throw .refused(call: .open, object: source.directory, errno: errno)
        }
        let lock = Descriptor(adopting: opened)
        while flock(lock.number, LOCK_EX) != 0 {
            guard errno == EINTR else {
                throw .refused(call: .open, object: source.directory, errno: errno)
            }
        }
        let inbox = Inbox()
        // `inbox` lives as long as this value, and so longer than the ring's last call.
        let context = unsafe Unmanaged.passUnretained(inbox).toOpaque()
        guard let ring = unsafe ring_buffer__new(map.number, takeRecord, context, nil) else {
            throw .refused(call: .open, object: "map malla_event", errno: errno)
        }
        unsafe self.ring = ring
        self.inbox = inbox
        self.map = map
        self.lock = lock
        stopped = source.stopped
    }

    deinit { unsafe ring_buffer__free(ring) }

    /// Waits until there are events; `false`: the source is stopped.
    public func wait() -> Bool {
        var events = [
            pollfd(fd: unsafe ring_buffer__epoll_fd(ring), events: Int16(POLLIN), revents: 0),
            pollfd(fd: stopped, events: Int16(POLLIN), revents: 0),
        ]
        // The array outlives the call, which fills in two records.
        _ = unsafe poll(&events, 2, -1)
        return events[1].revents == 0
    }

    /// Every event that waits, in the order of each processor.
    public func take() -> [FlowEvent] {
        _ = unsafe ring_buffer__consume(ring)
        defer { inbox.events = [] }
        guard !inbox.events.isEmpty else { return [] }
        let offset = FlowClock.unixOffset()
        return inbox.events.map { FlowEvent($0, monotonicOffset: offset) }
    }

    /// Bytes that are written and not read; `nil`: the kernel does not say.
    ///
    /// - Source: ring buffers show the consumer's position in their first page, the producer's in
    ///   the second.
    static func unreadBytes(_ map: borrowing Descriptor) -> UInt64? {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        func position(_ index: Int) -> UInt64? {
            let start = unsafe mmap(nil, page, PROT_READ, MAP_SHARED, map.number, index * page)
            guard let start = unsafe start, unsafe start != MAP_FAILED else { return nil }
            defer { unsafe munmap(start, page) }
            // The page begins with the position.
            return unsafe start.load(as: UInt64.self)
        }
        // The consumer's first: it never passes the producer's.
        guard let read = position(0), let written = position(1) else { return nil }
        return written &- read
    }
}

/// What libbpf has handed over since the last `take`.
private final class Inbox {
    var events: [malla_event] = []
}

/// libbpf's callback: one record of the ring.
private func takeRecord(
    _ context: UnsafeMutableRawPointer?, _ bytes: UnsafeMutableRawPointer?, _ count: Int
) -> CInt {
    // The context is the ring's own inbox, which outlives it; the record has `count` bytes.
    guard let context = unsafe context, let bytes = unsafe bytes,
        count >= MemoryLayout<malla_event>.size
    else { return 0 }
    let inbox = unsafe Unmanaged<Inbox>.fromOpaque(context).takeUnretainedValue()
    inbox.events.append(unsafe bytes.loadUnaligned(as: malla_event.self))
    return 0
}
