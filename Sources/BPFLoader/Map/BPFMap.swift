// A typed view of one hash or array map.

internal import CBPF
internal import Glibc

/// - Owns: one descriptor. The map in the kernel outlives this value while it is pinned.
/// - Threads: one at a time.
/// - Source: bpf(2).
struct BPFMap<Key: BitwiseCopyable, Value: BitwiseCopyable>: ~Copyable {
    let name: String
    let entriesMax: UInt32
    /// Rows that did not fit, since this value was made.
    var refused: UInt64 = 0
    private let descriptor: Descriptor

    /// Takes the map over; refuses it unless its record sizes are ours.
    init(adopting descriptor: consuming Descriptor, name: String) throws(BPFError) {
        let kernel = try MapShape(of: descriptor.number, name: name)
        try kernel.require(.key, MemoryLayout<Key>.size)
        try kernel.require(.value, MemoryLayout<Value>.size)
        self.name = name
        self.entriesMax = kernel.entriesMax
        self.descriptor = descriptor
    }

    /// Inserts or replaces one record.
    func set(_ key: Key, to value: Value) throws(BPFError) {
        var key = key
        var value = value
        // The sizes were checked when the map was opened.
        let result = unsafe bpf_map_update_elem(descriptor.number, &key, &value, UInt64(BPF_ANY))
        guard result == 0 else {
            throw .refused(call: .update, object: "map \(name)", errno: -result)
        }
    }

    /// Replaces one record; nothing happens where it is gone already.
    func replace(_ key: Key, with value: Value) {
        var key = key
        var value = value
        // As above.
        _ = unsafe bpf_map_update_elem(descriptor.number, &key, &value, UInt64(BPF_EXIST))
    }

    /// Removes one record; that it is gone already is no error.
    func remove(_ key: Key) throws(BPFError) {
        var key = key
        let result = unsafe bpf_map_delete_elem(descriptor.number, &key)
        guard result == 0 || result == -ENOENT else {
            throw .refused(call: .remove, object: "map \(name)", errno: -result)
        }
    }

    /// Removes one record; `false`: it was gone already.
    func take(_ key: Key) -> Bool {
        var key = key
        return unsafe bpf_map_delete_elem(descriptor.number, &key) == 0
    }

    func value(of key: Key, placeholder: Value) -> Value? {
        var key = key
        var value = placeholder
        return unsafe bpf_map_lookup_elem(descriptor.number, &key, &value) == 0 ? value : nil
    }

    /// Every record, in no order.
    ///
    /// - Complexity: two system calls a record.
    func forEach(key: Key, value: Value, _ body: (Key, Value) -> Void) {
        var current = key
        var next = key
        var row = value
        var isFirst = true
        for _ in 0...entriesMax {
            let result =
                isFirst
                ? unsafe bpf_map_get_next_key(descriptor.number, nil, &next)
                : unsafe bpf_map_get_next_key(descriptor.number, &current, &next)
            guard result == 0 else { return }
            isFirst = false
            current = next
            if unsafe bpf_map_lookup_elem(descriptor.number, &current, &row) == 0 {
                body(current, row)
            }
        }
    }

    /// How many records there are now; other processors may add and remove meanwhile.
    func count() -> UInt64 {
        var total: UInt64 = 0
        var position = BatchPosition()
        repeat {
            total += UInt64(forEachInBatch(4096, at: &position) { _, _ in })
        } while !position.isAtEnd && total <= UInt64(entriesMax)
        return total
    }

    /// Whether a hash map has no record.
    var isEmpty: Bool {
        // Any key will do for the callee to write to.
        unsafe withUnsafeTemporaryAllocation(of: Key.self, capacity: 1) { key in
            unsafe bpf_map_get_next_key(descriptor.number, nil, key.baseAddress) != 0
        }
    }

    /// Every record of a hash map, in no order.
    func walk(_ body: (Key, Value) -> Void) {
        var position = BatchPosition()
        var total = 0
        repeat {
            total += forEachInBatch(4096, at: &position, body)
        } while !position.isAtEnd && total <= Int(entriesMax)
    }

    /// The next records of a hash map, and how many they are; the position moves on. Records that
    /// come or go meanwhile may be missed or met twice.
    ///
    /// - Parameter rows: at most so many; more than share one hash bucket.
    /// - Source: BPF_MAP_LOOKUP_BATCH (Linux 5.6).
    func forEachInBatch(
        _ rows: Int, at position: inout BatchPosition, _ body: (Key, Value) -> Void
    ) -> Int {
        var count = UInt32(rows)
        var next: UInt32 = 0
        // Both buffers hold `rows` records, which is what the kernel is told.
        let keys = UnsafeMutablePointer<Key>.allocate(capacity: rows)
        let values = UnsafeMutablePointer<Value>.allocate(capacity: rows)
        defer {
            unsafe keys.deallocate()
            unsafe values.deallocate()
        }
        let result =
            position.isAtStart
            ? unsafe bpf_map_lookup_batch(descriptor.number, nil, &next, keys, values, &count, nil)
            : unsafe bpf_map_lookup_batch(
                descriptor.number, &position.bucket, &next, keys, values, &count, nil)
        guard result == 0 || result == -ENOENT else {
            position.isAtEnd = true
            return 0
        }
        position = BatchPosition(bucket: next, isAtStart: false, isAtEnd: result != 0)
        // The kernel has filled `count` of them.
        for index in 0..<Int(count) { body(unsafe keys[index], unsafe values[index]) }
        return Int(count)
    }
}

/// How far a walk through a hash map has come.
struct BatchPosition {
    fileprivate(set) var bucket: UInt32 = 0
    fileprivate(set) var isAtStart = true
    fileprivate(set) var isAtEnd = false
}

/// What the kernel says of a map.
struct MapShape {
    let name: String
    /// enum bpf_map_type.
    let type: UInt32
    let keyBytes: UInt32
    let valueBytes: UInt32
    let entriesMax: UInt32

    init(name: String, type: UInt32, keyBytes: UInt32, valueBytes: UInt32) {
        self.name = name
        self.type = type
        self.keyBytes = keyBytes
        self.valueBytes = valueBytes
        entriesMax = 0
    }

    init(of descriptor: CInt, name: String) throws(BPFError) {
        var kernel = bpf_map_info()
        var bytes = UInt32(MemoryLayout<bpf_map_info>.size)
        // The kernel writes at most `bytes`.
        let result = unsafe bpf_obj_get_info_by_fd(descriptor, &kernel, &bytes)
        guard result == 0 else {
            throw .refused(call: .inspect, object: "map \(name)", errno: -result)
        }
        self.name = name
        type = kernel.type
        keyBytes = kernel.key_size
        valueBytes = kernel.value_size
        entriesMax = kernel.max_entries
    }

    /// Whether a map of the one shape can do what one of the other does, however many rows it has.
    func isSame(as other: MapShape) -> Bool {
        type == other.type && keyBytes == other.keyBytes && valueBytes == other.valueBytes
    }

    /// Whether it is our map, however many rows it has.
    func require(_ ours: MapShape) throws(BPFError) {
        try require(.key, Int(ours.keyBytes))
        try require(.value, Int(ours.valueBytes))
        guard type == ours.type else {
            throw .typeMismatch(map: name, kernelType: type, ourType: ours.type)
        }
    }

    func require(_ part: RecordPart, _ ourBytes: Int) throws(BPFError) {
        let kernelBytes = part == .key ? keyBytes : valueBytes
        guard Int(kernelBytes) == ourBytes else {
            throw .layoutMismatch(
                map: name, part: part, kernelBytes: kernelBytes, ourBytes: ourBytes)
        }
    }
}
