/// The first message of a client that knows TLS 1.3 with X25519, by hand: any name, and no work.
enum ClientHello {
    /// Without a share of a key it is answered with a HelloRetryRequest.
    static func bytes(_ name: String, hasShare: Bool = true) -> [UInt8] {
        let host = Array(name.utf8)
        let names = sized([0] + sized(host))
        let key: [UInt8] = [0, 0x1d, 0, 32, 9] + [UInt8](repeating: 0, count: 31)
        let share = sized(hasShare ? key : [])
        let extensions =
            field(0x00, names) + field(0x0a, [0, 2, 0, 0x1d])
            + field(0x0d, [0, 6, 4, 3, 8, 4, 5, 3]) + field(0x2b, [2, 3, 4]) + field(0x33, share)
        let body =
            [3, 3] + [UInt8](repeating: 7, count: 32) + [0, 0, 2, 0x13, 0x01, 1, 0]
            + sized(extensions)
        let message = [1, UInt8(body.count >> 16)] + two(body.count) + body
        return stride(from: 0, to: message.count, by: 16_000).flatMap { start in
            [22, 3, 1] + sized(Array(message[start..<min(start + 16_000, message.count)]))
        }
    }

    private static func two(_ count: Int) -> [UInt8] {
        [UInt8(truncatingIfNeeded: count >> 8), UInt8(truncatingIfNeeded: count)]
    }

    private static func sized(_ bytes: [UInt8]) -> [UInt8] { two(bytes.count) + bytes }

    private static func field(_ number: Int, _ bytes: [UInt8]) -> [UInt8] {
        two(number) + sized(bytes)
    }
}
