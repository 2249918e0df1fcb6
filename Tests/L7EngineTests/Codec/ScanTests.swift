import Testing

@testable import L7Engine

@Suite("What goes sixteen bytes a step finds what goes one by one (RFC 9110 section 5.6.2)")
struct ScanTests {
    /// Letters, digits and signs in between, and whatever is no token.
    private static let around = Array("Aa0-Zz9x~_.!|^`#$%&'*+".utf8)

    private func plain(_ bytes: [UInt8], _ isWanted: (UInt8) -> Bool) -> Int {
        bytes.firstIndex { !isWanted($0) } ?? bytes.count
    }

    @Test func `a name ends at the first byte that is no token, wherever it stands`() {
        for byte in UInt8.min...UInt8.max {
            for place in 0..<40 {
                for shift in stride(from: 0, to: Self.around.count, by: 3) {
                    var bytes = (0..<40).map { Self.around[($0 + shift) % Self.around.count] }
                    bytes[place] = byte
                    // Safe: the calls read as many bytes as the array has.
                    let end = unsafe bytes.withUnsafeBufferPointer {
                        unsafe scanToken($0.baseAddress!, 0, $0.count)
                    }
                    #expect(end == plain(bytes, isToken), "\(bytes)")
                }
            }
        }
    }

    @Test func `a value ends at the first control character, wherever it stands`() {
        for byte in UInt8.min...UInt8.max {
            for place in 0..<40 {
                var bytes = [UInt8](repeating: 0xe4, count: 40)
                bytes[place] = byte
                let end = unsafe bytes.withUnsafeBufferPointer {
                    unsafe scanValue($0.baseAddress!, 0, $0.count)
                }
                #expect(end == plain(bytes) { $0 >= 0x20 && $0 != 0x7f }, "\(bytes)")
            }
        }
    }
}
