// Tight loops over bytes: free functions, no state. Sixteen bytes a step where it pays.

internal import CLinux
internal import MeshModel

/// The first byte at or after `start` that no field value may hold without a second look: a control
/// character (tab too) or DEL; `end` if there is none.
@inline(__always)
func scanValue(_ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> Int {
    var isFound: Int32 = 0
    // Inside: the call reads nothing at or behind `end`.
    var index = unsafe engine_scan_value(base, start, end, &isFound)
    if isFound != 0 { return index }
    while index < end {
        let byte = unsafe base[index]
        if byte < 0x20 || byte == 0x7f { return index }
        index += 1
    }
    return end
}

/// The first byte at or after `start` that is no `tchar`; `end` if there is none. Letters, digits
/// and hyphens, of which names are made, go sixteen a step.
@inline(__always)
func scanToken(_ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> Int {
    var index = start
    var isFound: Int32 = 1
    while isFound != 0 {
        // Inside: as above.
        index = unsafe engine_scan_name(base, index, end, &isFound)
        if isFound == 0 { break }
        guard unsafe isToken(base[index]) else { return index }
        index += 1
    }
    while index < end, unsafe isToken(base[index]) { index += 1 }
    return index
}

/// `tchar` of RFC 9110 section 5.6.2.
@inline(__always)
func isToken(_ byte: UInt8) -> Bool {
    // Bits of !#$%&'*+-. and the digits; of letters ^ _ ` | ~.
    let mask: UInt64 = byte < 64 ? 0x03ff_6cfa_0000_0000 : 0x57ff_ffff_c7ff_fffe
    return byte < 128 && mask >> UInt64(byte & 63) & 1 != 0
}

/// ASCII only.
@inline(__always)
func lowerCase(_ byte: UInt8) -> UInt8 { byte &- 0x41 < 26 ? byte | 0x20 : byte }

/// Whether the range, which holds no control characters but tabs, is the lower-case word of
/// letters, digits, `-`, `/` and `:`, in any case.
@inline(__always)
func isWord(_ base: UnsafePointer<UInt8>, _ range: ByteRange, _ word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    guard range.count == count else { return false }
    let bytes = unsafe UnsafeRawPointer(base + range.lower)
    let wanted = unsafe UnsafeRawPointer(word.utf8Start)
    // Eight bytes a step, the last of which looks at some again. A letter's other case is one bit
    // away, and all else of such words has that bit.
    var index = 0
    while index &+ 8 <= count {
        guard unsafe isSame(bytes, wanted, at: index) else { return false }
        index &+= 8
    }
    if index == count { return true }
    if count > 8 { return unsafe isSame(bytes, wanted, at: count &- 8) }
    while index < count {
        let byte = unsafe bytes.load(fromByteOffset: index, as: UInt8.self) | 0x20
        if unsafe byte != wanted.load(fromByteOffset: index, as: UInt8.self) { return false }
        index &+= 1
    }
    return true
}

@inline(__always)
private func isSame(_ bytes: UnsafeRawPointer, _ wanted: UnsafeRawPointer, at: Int) -> Bool {
    // Inside: both have eight bytes from there on.
    let (given, word) = unsafe (
        bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self),
        wanted.loadUnaligned(fromByteOffset: at, as: UInt64.self)
    )
    return given | 0x2020_2020_2020_2020 == word
}

/// Whether the range is the word, letter for letter.
func isSpelt(_ base: UnsafePointer<UInt8>, _ range: ByteRange, _ word: StaticString) -> Bool {
    guard range.count == word.utf8CodeUnitCount else { return false }
    let wanted = unsafe word.utf8Start
    for offset in 0..<range.count where unsafe base[range.lower + offset] != wanted[offset] {
        return false
    }
    return true
}

/// The items of a comma-separated list, one at a time, without the white space around them.
struct ListItems {
    private var next: Int
    private let end: Int

    init(_ list: ByteRange) {
        next = list.lower
        end = list.upper
    }

    /// `nil` behind the last; empty items are passed over.
    @inline(__always)
    mutating func item(_ base: UnsafePointer<UInt8>) -> ByteRange? {
        while next < end {
            var start = next
            var stop = start
            while stop < end, unsafe base[stop] != 0x2c { stop += 1 }
            next = stop + 1
            while start < stop, unsafe base[start] == 0x20 || base[start] == 9 { start += 1 }
            while stop > start, unsafe base[stop - 1] == 0x20 || base[stop - 1] == 9 { stop -= 1 }
            if start < stop { return ByteRange(start, stop) }
        }
        return nil
    }
}
