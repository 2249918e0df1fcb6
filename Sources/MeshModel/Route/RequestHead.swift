// A request head as ranges over bytes that the engine holds: what RouteTable.find reads, so that
// matching copies and allocates nothing.

/// Bytes that somebody else keeps alive while this value is used.
///
/// - Owns: nothing. The maker promises `count` readable bytes for as long as the value lives.
/// - Threads: as the bytes.
@safe public struct Bytes {
    @usableFromInline let base: UnsafePointer<UInt8>
    public let count: Int

    public init(_ base: UnsafePointer<UInt8>, count: Int) {
        unsafe self.base = base
        self.count = count
    }

    @inlinable public subscript(index: Int) -> UInt8 {
        assert(index >= 0 && index < count, "a byte outside the buffer")
        // In range: every range over these bytes was made by the parser from their count.
        return unsafe base[index]
    }

    /// For `memcpy` and the kernel.
    public var pointer: UnsafePointer<UInt8> { unsafe base }
}

/// Where some bytes are in a buffer of at most 4 GiB.
public struct ByteRange: Hashable, Sendable, BitwiseCopyable {
    public var start: UInt32
    public var end: UInt32

    @inlinable public init(_ start: Int, _ end: Int) {
        self.start = UInt32(truncatingIfNeeded: start)
        self.end = UInt32(truncatingIfNeeded: end)
    }

    @inlinable public var lower: Int { Int(start) }
    @inlinable public var upper: Int { Int(end) }
    @inlinable public var count: Int { Int(end) - Int(start) }
    @inlinable public var isEmpty: Bool { end == start }

    public static let empty = ByteRange(0, 0)
}

/// One header field: its name without the colon, its value without the white space around it.
public struct FieldRange: BitwiseCopyable, Sendable {
    public var name: ByteRange
    public var value: ByteRange
    /// What the engine's parser recognised; means nothing here.
    public var kind: UInt8

    public init(name: ByteRange, value: ByteRange, kind: UInt8) {
        self.name = name
        self.value = value
        self.kind = kind
    }
}

/// What a request is matched by.
@safe public struct RequestHead {
    public let bytes: Bytes
    public var method: ByteRange
    /// Normalised; begins with `/` (or is `*`).
    public var path: ByteRange
    /// Without the `?`.
    public var query: ByteRange
    /// Without the port, any case.
    public var host: ByteRange
    private let fields: UnsafePointer<FieldRange>
    public let fieldsCount: Int

    public init(
        bytes: Bytes, method: ByteRange, path: ByteRange, query: ByteRange, host: ByteRange,
        fields: UnsafePointer<FieldRange>, fieldsCount: Int
    ) {
        self.bytes = bytes
        self.method = method
        self.path = path
        self.query = query
        self.host = host
        unsafe self.fields = fields
        self.fieldsCount = fieldsCount
    }

    public func field(_ index: Int) -> FieldRange {
        assert(index >= 0 && index < fieldsCount, "a field outside the head")
        // In range: the parser wrote `fieldsCount` of them.
        return unsafe fields[index]
    }
}

@inlinable func lowered(_ byte: UInt8) -> UInt8 {
    byte &- 0x41 < 26 ? byte | 0x20 : byte
}

/// FNV-1a, 32 bits. The keys of our tables come from the configuration, so nobody can choose
/// colliding ones by sending requests.
func hash(_ bytes: Bytes, _ start: Int, _ end: Int, ignoringCase: Bool) -> UInt32 {
    var hash: UInt32 = 0x811c_9dc5
    var index = start
    while index < end {
        let byte = bytes[index]
        hash = (hash ^ UInt32(ignoringCase ? lowered(byte) : byte)) &* 0x0100_0193
        index += 1
    }
    return hash
}
