import MeshModel
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

    @Test func `what stands before and behind what is scanned does not count`() {
        for count in 0...40 {
            for start in 0...count {
                for place in start...count {
                    // Behind the last one stand sixteen that would go on.
                    var bytes = (0..<count + 16).map { UInt8($0 < start ? 13 : 0x61) }
                    if place < count { bytes[place] = 13 }
                    // Safe: the calls read `count` bytes, and the array has more.
                    let (name, value) = unsafe bytes.withUnsafeBufferPointer {
                        unsafe (
                            scanToken($0.baseAddress!, start, count),
                            scanValue($0.baseAddress!, start, count)
                        )
                    }
                    #expect(name == place, "\(start), \(place) of \(count)")
                    #expect(value == place, "\(start), \(place) of \(count)")
                }
            }
        }
    }

    @Test func `a word is the same in any case, and with another byte it is another`() {
        let words: [StaticString] = [
            "te", "via", "host", "close", "expect", "upgrade", "http://", "https://", "x-real-ip",
            "keep-alive", "content-length", "x-forwarded-for", "application/json",
            "transfer-encoding", "x-forwarded-client-cert",
        ]
        for word in words {
            let lower = Array(String(describing: word).utf8)
            let upper = Array(String(describing: word).uppercased().utf8)
            #expect(isSame(lower, word) && isSame(upper, word), "\(word)")
            for place in lower.indices {
                for byte in UInt8(0x20)...UInt8.max {
                    var other = lower
                    other[place] = byte
                    let isLetter = byte == lower[place] || byte == upper[place]
                    #expect(isSame(other, word) == isLetter, "\(byte) at \(place) of \(word)")
                }
            }
        }
    }

    private func isSame(_ bytes: [UInt8], _ word: StaticString) -> Bool {
        // Safe: the range is the array's.
        unsafe bytes.withUnsafeBufferPointer {
            unsafe isWord($0.baseAddress!, ByteRange(0, $0.count), word)
        }
    }
}
