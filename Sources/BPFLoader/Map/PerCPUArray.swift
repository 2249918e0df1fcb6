// malla_count: one 64-bit counter a processor for each hook and verdict.

internal import CBPF
internal import CMallaABI
internal import Glibc

/// - Owns: one descriptor.
/// - Threads: one at a time.
struct PerCPUArray: ~Copyable {
    let name: String
    let entriesMax: UInt32
    private let descriptor: Descriptor
    private let processors: Int

    init(adopting descriptor: consuming Descriptor, name: String) throws(BPFError) {
        let shape = try MapShape(of: descriptor.number, name: name)
        try shape.require(.value, MemoryLayout<UInt64>.size)
        let processors = libbpf_num_possible_cpus()
        guard processors > 0 else {
            throw .refused(call: .inspect, object: "the number of processors", errno: -processors)
        }
        self.name = name
        entriesMax = shape.entriesMax
        self.processors = Int(processors)
        self.descriptor = descriptor
    }

    /// The sum over all processors.
    func sum(_ index: UInt32) -> UInt64 {
        var index = index
        var values = [UInt64](repeating: 0, count: processors)
        // The kernel writes eight bytes for each possible processor.
        let result = unsafe values.withUnsafeMutableBytes { bytes in
            unsafe bpf_map_lookup_elem(descriptor.number, &index, bytes.baseAddress)
        }
        return result == 0 ? values.reduce(0, &+) : 0
    }

    /// How often it happened, at whatever hook.
    func count(_ verdict: malla_verdict) -> UInt64 {
        (0..<UInt32(MALLA_HOOKS_MAX)).reduce(0) {
            $0 + sum($1 * UInt32(MALLA_VERDICTS_MAX) + verdict.rawValue)
        }
    }

    /// Every verdict that happened, by hook.
    func verdictCounts() -> [VerdictCount] {
        var counts: [VerdictCount] = []
        for hook in 0..<UInt32(MALLA_HOOKS_MAX) {
            guard let hookName = hookName(hook) else { continue }
            for verdict in 0..<UInt32(MALLA_VERDICTS_MAX) {
                guard let verdictName = verdictName(verdict) else { continue }
                let count = sum(hook * UInt32(MALLA_VERDICTS_MAX) + verdict)
                if count > 0 {
                    counts.append(VerdictCount(hook: hookName, verdict: verdictName, count: count))
                }
            }
        }
        return counts
    }
}

/// The name of a hook; `nil`: there is none of that number.
func hookName(_ number: UInt32) -> String? {
    // A pointer to static text, or null.
    unsafe malla_hook_name(number).map { unsafe String(cString: $0) }
}

/// The name of a verdict; `nil`: there is none of that number.
func verdictName(_ number: UInt32) -> String? {
    unsafe malla_verdict_name(number).map { unsafe String(cString: $0) }
}

/// The names of verdicts: what `reason` of a flow event may be.
public enum VerdictName {
    public static let all = Set((0..<UInt32(MALLA_VERDICTS_MAX)).compactMap(verdictName))
}
