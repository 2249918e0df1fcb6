internal import CLinux
internal import Glibc

/// A workload that is not served, because the engine has died of serving it.
struct Quarantine: Equatable {
    /// Of the account.
    let name: String
    /// On CLOCK_MONOTONIC; 0: nobody has said. A child that starts after it serves it again.
    let untilMilliseconds: UInt64
}

/// The engine's side of the black box: whom each worker serves now, and whom not to serve because
/// the engine has died of serving it.
///
/// - Owns: a mapping that lives as long as the process.
/// - Threads: each worker writes its own slot; names are written by `Engine.adopt`'s thread.
@safe final class BlackBox: @unchecked Sendable {
    private let page: OpaquePointer
    /// Accounts that two crashes have named.
    let suspects: [Quarantine]

    /// `nil`: the page cannot be mapped; the engine works without.
    init?(descriptor: Int32) {
        guard let page = unsafe malla_blackbox_map(descriptor) else { return nil }
        unsafe self.page = page
        var suspects: [Quarantine] = []
        let count = unsafe malla_blackbox_suspects(page)
        for place in 0..<count {
            var count = 0
            // The call answers text of `count` bytes inside of the page.
            let text = unsafe malla_blackbox_suspect(page, place, &count)
            let bytes = (0..<count).map { unsafe UInt8(bitPattern: text![$0]) }
            suspects.append(
                Quarantine(
                    name: String(decoding: bytes, as: UTF8.self),
                    untilMilliseconds: unsafe malla_blackbox_until(page, place)))
        }
        self.suspects = suspects
    }

    /// A name as the page keeps it. Pods' names may be longer than its places: those that begin
    /// alike are one there.
    static func kept(_ name: String) -> String {
        let max = Int(MALLA_BLACKBOX_NAME_BYTES) - 1
        guard name.utf8.count > max else { return name }
        return String(decoding: name.utf8.prefix(max), as: UTF8.self)
    }

    /// From now on a trap of a worker is noted before it ends the process.
    func watch() { unsafe malla_blackbox_watch(page) }

    /// Says whose number is whose; `names[i]` is account `i`.
    func name(_ names: [String]) {
        for (number, name) in names.enumerated() where number > 0 {
            // The text outlives the call, which copies it.
            unsafe malla_blackbox_set_name(page, UInt32(number), name, name.utf8.count)
        }
    }

    func slot(_ worker: Int) -> BlackBoxSlot {
        unsafe BlackBoxSlot(
            malla_blackbox_slot(page, UInt32(worker)),
            server: malla_blackbox_server(page, UInt32(worker)),
            pulse: malla_blackbox_pulse(page, UInt32(worker)))
    }

    /// The agent's own thread lives.
    func agentLives() { unsafe malla_blackbox_bump(malla_blackbox_agent_pulse(page)) }
}

/// One worker's words in the page, or words of nobody's.
@safe struct BlackBoxSlot: @unchecked Sendable {
    private let word: UnsafeMutablePointer<UInt64>
    private let server: UnsafeMutablePointer<UInt64>
    private let pulse: UnsafeMutablePointer<UInt64>?

    init(
        _ word: UnsafeMutablePointer<UInt64>, server: UnsafeMutablePointer<UInt64>,
        pulse: UnsafeMutablePointer<UInt64>? = nil
    ) {
        unsafe self.word = word
        unsafe self.server = server
        unsafe self.pulse = pulse
    }

    /// Milliseconds between two signs of life at most; `nil`: nobody looks.
    var restMax: Int32? { unsafe pulse == nil ? nil : 1_000 }

    /// The worker lives: one store a turn.
    @inline(__always)
    func beat() {
        if let pulse = unsafe pulse { unsafe malla_blackbox_bump(pulse) }
    }

    /// Where there is no page.
    static func blank() -> BlackBoxSlot {
        let words = UnsafeMutablePointer<UInt64>.allocate(capacity: 2)
        unsafe words.initialize(repeating: 0, count: 2)
        return unsafe BlackBoxSlot(words, server: words + 1)
    }

    /// Two stores an event, into one cache line: whoever looks after a crash finds who was served.
    @inline(__always)
    func serve(_ account: Int32) {
        unsafe malla_blackbox_serve(server, 0)
        unsafe malla_blackbox_serve(word, UInt64(truncatingIfNeeded: account) &+ 1)
    }

    /// It is a server's bytes that are read meanwhile (`Worker.blame`): a trap is its doing. The
    /// memory stays that of whoever is served.
    @inline(__always)
    func reads(_ account: Int32) {
        unsafe malla_blackbox_serve(server, UInt64(truncatingIfNeeded: account) &+ 1)
    }

    /// A trap is the doing of whoever is served again.
    @inline(__always)
    func endReading() { unsafe malla_blackbox_serve(server, 0) }

    @inline(__always)
    func rest() {
        unsafe malla_blackbox_serve(server, 0)
        unsafe malla_blackbox_serve(word, 0)
    }
}
