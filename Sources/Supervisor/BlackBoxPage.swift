internal import CLinux
internal import Glibc

/// The supervisor's side of one child's black box.
///
/// - Owns: the page's descriptor and a mapping.
@safe struct BlackBoxPage: ~Copyable {
    let descriptor: Descriptor
    private let page: OpaquePointer

    /// `nil`: the system gives no memory; the child runs without.
    init?(suspects: [Suspect]) {
        let descriptor = Descriptor(adopting: malla_blackbox_create())
        guard descriptor.number >= 0, let page = unsafe malla_blackbox_map(descriptor.number) else {
            return nil
        }
        for (place, suspect) in suspects.enumerated() {
            let name = suspect.name
            // The text outlives the call, which copies it.
            unsafe malla_blackbox_set_suspect(
                page, UInt32(place), name, name.utf8.count, UInt64(max(0, suspect.until)))
        }
        self.descriptor = descriptor
        unsafe self.page = page
    }

    deinit { unsafe malla_blackbox_unmap(page) }

    /// What goes up with each sign of life of a worker, and its thread; 0: it has none yet.
    func pulse(ofWorker worker: UInt32) -> (count: UInt64, thread: Int32) {
        unsafe (
            malla_blackbox_count(malla_blackbox_pulse(page, worker)),
            malla_blackbox_thread_of(page, worker)
        )
    }

    var agentPulse: UInt64 { unsafe malla_blackbox_count(malla_blackbox_agent_pulse(page)) }

    /// Whom a child that is dead served: the worker that trapped, else every worker.
    ///
    /// - Parameter isForMemory: those whose memory it was; else those whose bytes were read.
    func served(isForMemory: Bool = false) -> [String] {
        let trapped = unsafe malla_blackbox_trapped(page)
        return served(
            by: trapped > 0 ? [trapped - 1] : Array(0..<UInt32(MALLA_BLACKBOX_WORKERS)),
            isForMemory: isForMemory)
    }

    func served(by workers: [UInt32], isForMemory: Bool = false) -> [String] {
        var names: [String] = []
        for worker in workers {
            // A child that went mad may have written any number: the calls check it.
            let server = unsafe malla_blackbox_server(page, worker).pointee
            let account =
                server == 0 || isForMemory
                ? unsafe malla_blackbox_slot(page, worker).pointee : server
            guard account > 0, account <= UInt64(UInt32.max) else { continue }
            var count = 0
            let text = unsafe malla_blackbox_name(page, UInt32(account - 1), &count)
            let bytes = (0..<count).map { unsafe UInt8(bitPattern: text![$0]) }
            let name = String(decoding: bytes, as: UTF8.self)
            if !name.isEmpty, !names.contains(name) { names.append(name) }
        }
        return names
    }
}
