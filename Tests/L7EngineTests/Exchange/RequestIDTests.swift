import Testing

@testable import L7Engine

@Suite("Request ids (RFC 9562 section 5.4)")
struct RequestIDTests {
    private func text(_ high: UInt64, _ low: UInt64) -> String {
        var bytes = [UInt8](repeating: 0x21, count: 37)
        // Safe: room for 36 bytes and one that must stay.
        unsafe bytes.withUnsafeMutableBufferPointer {
            unsafe RequestID.make($0.baseAddress!, high, low)
        }
        #expect(bytes[36] == 0x21)
        return String(decoding: bytes[..<36], as: UTF8.self)
    }

    @Test(
        arguments: [
            (0, 0, "00000000-0000-4000-8000-000000000000"),
            (.max, .max, "ffffffff-ffff-4fff-bfff-ffffffffffff"),
            (
                0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, "01234567-89ab-4def-bedc-ba9876543210"
            ),
        ] as [(UInt64, UInt64, String)])
    func `are written with their version and variant`(_ high: UInt64, _ low: UInt64, _ id: String) {
        #expect(text(high, low) == id)
    }

    @Test func `bear all their random bits`() {
        for bit in 0..<64 where !(12..<16).contains(bit) {
            let high: UInt64 = 1 << UInt64(bit)
            let id = text(high, 0).filter { $0 != "-" }
            #expect(UInt64(id.prefix(16), radix: 16) == high | 0x4000)
        }
        for bit in 0..<62 {
            let low: UInt64 = 1 << UInt64(bit)
            let id = text(0, low).filter { $0 != "-" }
            #expect(UInt64(id.suffix(16), radix: 16) == low | 1 << 63)
        }
    }
}
