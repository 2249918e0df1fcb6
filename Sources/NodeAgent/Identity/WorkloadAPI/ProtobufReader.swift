/// Reads the wire format of Protocol Buffers, as far as messages of bytes and texts need it.
///
/// - Source: protobuf.dev, "Encoding". Groups, which are deprecated, end the reading.
struct ProtobufReader {
    enum Field {
        case bytes(ArraySlice<UInt8>)
        /// Of another wire type; passed over.
        case other
    }

    struct Malformed: Error {}

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    /// The next field with its number; `nil` at the end.
    mutating func next() throws(Malformed) -> (number: Int, field: Field)? {
        guard !rest.isEmpty else { return nil }
        let tag = try varint()
        let number = Int(tag >> 3)
        guard number > 0, number <= 0x1fff_ffff else { throw Malformed() }
        switch tag & 7 {
        case 0:
            _ = try varint()
            return (number, .other)
        case 1:
            _ = try take(8)
            return (number, .other)
        case 2:
            let count = try varint()
            guard count <= UInt64(rest.count) else { throw Malformed() }
            return (number, .bytes(try take(Int(count))))
        case 5:
            _ = try take(4)
            return (number, .other)
        default:
            throw Malformed()
        }
    }

    private mutating func varint() throws(Malformed) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), through: 63, by: 7) {
            guard let byte = rest.popFirst() else { throw Malformed() }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw Malformed()
    }

    private mutating func take(_ count: Int) throws(Malformed) -> ArraySlice<UInt8> {
        guard count <= rest.count else { throw Malformed() }
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count)
    }
}
