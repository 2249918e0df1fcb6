// Sockets of the node's namespace for workers that live in the engine's: one small thread stayed
// behind, makes them in advance and hands their descriptors over pipes.

internal import CLinux
internal import Glibc
internal import Synchronization

/// - Owns: the thread's eventfd and pipes; they live as long as the process.
/// - Threads: `Stock` is a worker's own.
final class NodeSockets: Sendable {
    static let stockMax = 64

    /// One worker's end.
    final class Stock: Sendable {
        fileprivate let bell: Int32
        fileprivate let pipes: (v4: (read: Int32, write: Int32), v6: (read: Int32, write: Int32))
        fileprivate let taken4 = Atomic<Int>(0)
        fileprivate let taken6 = Atomic<Int>(0)
        /// The thread could not make more: descriptors are out.
        fileprivate let isShort = Atomic(false)

        fileprivate init(bell: Int32) throws(EngineError) {
            self.bell = bell
            pipes = (try Self.pipe(), try Self.pipe())
        }

        private static func pipe() throws(EngineError) -> (read: Int32, write: Int32) {
            var write: Int32 = -1
            // Safe: the call writes one number.
            let read = unsafe engine_pipe(&write)
            guard read >= 0 else { throw .refused(call: "pipe2", errno: -read) }
            return (read, write)
        }

        /// A socket of the node's namespace; -EAGAIN when the thread has not kept up for 20 ms
        /// (the one wait that a worker may do: it happens only after a burst of new dials),
        /// -EMFILE when it had no descriptors the last time.
        func take(isV4: Bool) -> Int32 {
            let end = isV4 ? pipes.v4.read : pipes.v6.read
            var descriptor: Int32 = -1
            // Safe: the call writes one number.
            var isThere = unsafe engine_get_number(end, &descriptor) != 0
            if !isThere {
                engine_ring(bell)
                if isShort.load(ordering: .relaxed) { return -EMFILE }
                _ = engine_await(end, 20)
                isThere = unsafe engine_get_number(end, &descriptor) != 0
            }
            guard isThere else { return -EAGAIN }
            let taken =
                isV4
                ? taken4.add(1, ordering: .releasing).newValue
                : taken6.add(1, ordering: .releasing).newValue
            if taken % 16 == 0 { engine_ring(bell) }
            return descriptor
        }
    }

    let stocks: [Stock]
    private let bell: Int32
    private let limits: Limits

    /// Must be called in the node's namespace.
    init(workers: Int, limits: Limits) throws(EngineError) {
        let bell = engine_bell(1)
        guard bell >= 0 else { throw .refused(call: "eventfd", errno: -bell) }
        var stocks: [Stock] = []
        for _ in 0..<workers { stocks.append(try Stock(bell: bell)) }
        self.bell = bell
        self.stocks = stocks
        self.limits = limits
    }

    /// Serves until the process ends.
    func run() {
        // Safe: a constant string.
        unsafe engine_name_thread("malla-sockets")
        var given = Array(repeating: (0, 0), count: stocks.count)
        while true {
            let most = limits.descriptorsMax
            for (index, stock) in stocks.enumerated() {
                let has4 = Self.fill(
                    AF_INET, stock.pipes.v4.write, stock.taken4, &given[index].0, below: most)
                let has6 = Self.fill(
                    AF_INET6, stock.pipes.v6.write, stock.taken6, &given[index].1, below: most)
                stock.isShort.store(!has4 || !has6, ordering: .relaxed)
            }
            engine_hear(bell)
        }
    }

    /// Gives until as many lie there as may; `false`: there were no more to be had.
    private static func fill(
        _ family: Int32, _ end: Int32, _ taken: borrowing Atomic<Int>, _ given: inout Int,
        below descriptorsMax: Int32
    ) -> Bool {
        while given - taken.load(ordering: .acquiring) < stockMax {
            guard give(family, end, below: descriptorsMax) else { return false }
            given += 1
        }
        return true
    }

    private static func give(_ family: Int32, _ end: Int32, below descriptorsMax: Int32) -> Bool {
        let descriptor = engine_socket(family)
        guard descriptor >= 0 else { return false }
        if descriptor < descriptorsMax, engine_put_number(end, descriptor) != 0 { return true }
        close(descriptor)
        return false
    }
}
