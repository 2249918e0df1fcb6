// The kernel's rows, compared with what they should be, some at each look: whoever may write maps
// may write ours, and such a row would stay wrong until the agent's next start.

internal import CMallaABI

/// Which rows come next. A round that has ended begins anew with those that there are then.
struct RowRound<Key> {
    private var keys: [Key] = []
    private var next = 0

    /// The next ones, at most `count`.
    mutating func take(_ count: Int, of all: () -> [Key]) -> ArraySlice<Key> {
        if next >= keys.count {
            keys = all()
            next = 0
        }
        let end = min(keys.count, next + count)
        defer { next = end }
        return keys[next..<end]
    }
}

/// Writes one row again if the kernel does not hold it. Whether that was so.
func mend<Key: BitwiseCopyable, Value: BitwiseCopyable & Equatable>(
    _ map: borrowing BPFMap<Key, Value>, _ key: Key, _ value: Value, placeholder: Value
) -> Bool {
    if map.value(of: key, placeholder: placeholder) == value { return false }
    return (try? map.set(key, to: value)) != nil
}

extension KernelRows {
    /// Names of the maps in which rows were put right, a name for each row.
    ///
    /// - Complexity: a system call a row, at most `count` rows of each kind.
    mutating func mend(_ count: Int) -> [String] {
        var mended: [String] = []
        for key in podRound.take(count, of: { Array(current.pods.keys) }) {
            guard let pod = current.pods[key] else { continue }
            if BPFLoader.mend(pods, key, pod, placeholder: malla_pod()) { mended.append(pods.name) }
            guard let endpoint = placed[pod.interface] else { continue }
            if BPFLoader.mend(places, pod.interface, endpoint, placeholder: 0) {
                mended.append(places.name)
            }
        }
        return mended + policies.mend(count) + tunnels.mend(count)
    }
}
