internal import CLinux
internal import Glibc
internal import MeshModel

/// Bytes waiting in a pooled block; `isEmpty` buffers hold no block.
///
/// - Owns: its block, which `BufferPool` takes back.
@safe struct ByteBuffer: BitwiseCopyable {
    fileprivate(set) var base: UnsafeMutablePointer<UInt8>?
    fileprivate(set) var capacity = 0
    var start = 0
    var end = 0

    init() { unsafe base = nil }

    var count: Int { end - start }
    var isEmpty: Bool { end == start }
    var room: Int { capacity - end }
}

/// Blocks of five sizes, kept in lists of one worker. The smallest holds most requests, so that
/// several of them share a page.
///
/// - Threads: one worker's.
@safe struct BufferPool: ~Copyable {
    /// The first free block of each size; the next one is written in the first word of each.
    private var free: [5 of UnsafeMutableRawPointer?]
    private var kept: [5 of Int]
    /// The fewest that were kept since `giveBack` looked: nobody needed them.
    private var leastKept: [5 of Int]
    /// Of each size, free.
    private static let keptBytesMax = 4 << 20
    /// Of the largest size: these are not had from malloc, which would keep them.
    private static let keptLargeBytesMax = 16 << 20
    /// Free, of all sizes.
    private var keptBytes = 0
    /// Bytes of blocks that are in use.
    private(set) var heldBytes = 0
    /// Whose account they are charged to now.
    var charged: UnsafeMutablePointer<UInt64>

    init(charged: UnsafeMutablePointer<UInt64>) {
        unsafe free = .init(repeating: nil)
        kept = .init(repeating: 0)
        leastKept = .init(repeating: 0)
        unsafe self.charged = unsafe charged
    }

    deinit {
        for index in 0..<5 {
            var next = unsafe free[index]
            while let current = unsafe next {
                unsafe next = unsafe current.load(as: UnsafeMutableRawPointer?.self)
                unsafe Self.end(current, index)
            }
        }
    }

    /// A new block. Large ones are pages of their own, so that the kernel gets them back.
    private static func make(_ index: Int) -> UnsafeMutableRawPointer {
        var block: UnsafeMutableRawPointer?
        if index < 2 {
            unsafe block = malloc(size(index))
        } else {
            // Safe: fresh pages of nobody else's.
            unsafe block = mmap(
                nil, size(index), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            if unsafe block == MAP_FAILED { unsafe block = nil }
        }
        guard let block = unsafe block else { fatalError("out of memory") }
        return unsafe block
    }

    private static func end(_ block: UnsafeMutableRawPointer, _ index: Int) {
        if index < 2 { unsafe Glibc.free(block) } else { unsafe _ = munmap(block, size(index)) }
    }

    @inline(__always)
    private static func size(_ index: Int) -> Int {
        switch index {
        case 0: 1024
        case 1: 4 * 1024
        case 2: 20 * 1024
        // The longest head, and room for what is behind it.
        case 3: 36 * 1024
        default: 136 * 1024
        }
    }

    @inline(__always)
    private static func index(_ capacity: Int) -> Int {
        capacity <= size(0)
            ? 0
            : capacity <= size(1) ? 1 : capacity <= size(2) ? 2 : capacity <= size(3) ? 3 : 4
    }

    /// The smallest block, which a connection may always have.
    static var leastBytes: Int { size(0) }

    private mutating func take(_ index: Int) -> UnsafeMutableRawPointer {
        heldBytes += Self.size(index)
        unsafe charged.pointee &+= UInt64(Self.size(index))
        guard let block = unsafe free[index] else { return unsafe Self.make(index) }
        unsafe free[index] = unsafe block.load(as: UnsafeMutableRawPointer?.self)
        kept[index] -= 1
        keptBytes -= Self.size(index)
        if kept[index] < leastKept[index] { leastKept[index] = kept[index] }
        return unsafe block
    }

    private mutating func give(_ block: UnsafeMutableRawPointer, _ index: Int) {
        heldBytes -= Self.size(index)
        unsafe charged.pointee &-= UInt64(Self.size(index))
        let most = index < 4 ? Self.keptBytesMax : Self.keptLargeBytesMax
        if kept[index] * Self.size(index) > most {
            unsafe Self.end(block, index)
            return
        }
        unsafe block.storeBytes(of: free[index], as: UnsafeMutableRawPointer?.self)
        unsafe free[index] = unsafe block
        kept[index] += 1
        keptBytes += Self.size(index)
    }

    /// More is kept than a worker at rest should.
    var keepsMuch: Bool { keptBytes > 1 << 20 }

    /// Gives the system half of what nobody has needed since the last call: once a second.
    mutating func giveBack() {
        for index in 0..<5 {
            if keepsMuch {
                for _ in 0..<(leastKept[index] + 1) / 2 {
                    guard let block = unsafe free[index] else { break }
                    unsafe free[index] = unsafe block.load(as: UnsafeMutableRawPointer?.self)
                    kept[index] -= 1
                    keptBytes -= Self.size(index)
                    unsafe Self.end(block, index)
                }
            }
            leastKept[index] = kept[index]
        }
    }

    /// Makes room for `count` more bytes; `false`: more than the largest block holds.
    mutating func reserve(_ buffer: inout ByteBuffer, _ count: Int) -> Bool {
        if buffer.room >= count { return true }
        let held = buffer.count
        guard held + count <= Self.size(4) else { return false }
        if held + count <= buffer.capacity, let base = unsafe buffer.base {
            unsafe memmove(base, base + buffer.start, held)
        } else {
            let index = Self.index(held + count)
            let block = unsafe take(index).assumingMemoryBound(to: UInt8.self)
            if let base = unsafe buffer.base {
                unsafe memcpy(block, base + buffer.start, held)
                unsafe give(base, Self.index(buffer.capacity))
            }
            unsafe buffer.base = unsafe block
            buffer.capacity = Self.size(index)
        }
        buffer.start = 0
        buffer.end = held
        return true
    }

    /// Puts bytes behind what the buffer holds; `false`: no room, nothing was taken.
    mutating func append(
        _ buffer: inout ByteBuffer, _ bytes: UnsafePointer<UInt8>, _ count: Int
    ) -> Bool {
        if count == 0 { return true }
        guard reserve(&buffer, count), let base = unsafe buffer.base else { return false }
        unsafe memcpy(base + buffer.end, bytes, count)
        buffer.end += count
        return true
    }

    mutating func release(_ buffer: inout ByteBuffer) {
        if let base = unsafe buffer.base { unsafe give(base, Self.index(buffer.capacity)) }
        buffer = ByteBuffer()
    }
}

/// Builds a head in a block that the worker keeps for that.
@safe struct ByteWriter {
    let base: UnsafeMutablePointer<UInt8>
    let capacity: Int
    private(set) var count = 0
    /// Something did not fit; what is written is incomplete.
    private(set) var isOver = false

    init(_ base: UnsafeMutablePointer<UInt8>, capacity: Int) {
        unsafe self.base = base
        self.capacity = capacity
    }

    mutating func reset() {
        count = 0
        isOver = false
    }

    @inline(__always)
    mutating func append(_ bytes: UnsafePointer<UInt8>, _ length: Int) {
        guard length <= capacity - count else {
            isOver = true
            return
        }
        unsafe memcpy(base + count, bytes, length)
        count += length
    }

    /// Takes back the last `length` bytes that were appended.
    mutating func takeBack(_ length: Int) { count -= length }

    /// Takes back the element of a list that begins at `start`, and the ", " before it, where the
    /// element before that says the same.
    mutating func takeBackRepeated(from start: Int) {
        let length = count - start
        let before = start - 2 - length
        guard length > 0, before > 0, !isOver else { return }
        let isListed = unsafe [0x20, 0x2c].contains(base[before - 1])
        // Inside: both elements lie in `base[..<count]`.
        guard isListed, unsafe memcmp(base + before, base + start, length) == 0 else { return }
        takeBack(length + 2)
    }

    @inline(__always)
    mutating func append(_ text: StaticString) {
        unsafe append(text.utf8Start, text.utf8CodeUnitCount)
    }

    @inline(__always)
    mutating func append(_ bytes: Bytes, _ range: ByteRange) {
        unsafe append(bytes.pointer + range.lower, range.count)
    }

    mutating func append(_ text: [UInt8], _ range: ByteRange) {
        // Safe: the pointer does not leave the closure, and ranges of a table are of its text.
        unsafe text.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress, range.upper <= buffer.count else { return }
            unsafe append(base + range.lower, range.count)
        }
    }

    mutating func append(byte: UInt8) {
        guard count < capacity else {
            isOver = true
            return
        }
        unsafe base[count] = byte
        count += 1
    }

    mutating func append(decimal value: Int) {
        if value >= 10 { append(decimal: value / 10) }
        append(byte: 48 + UInt8(value % 10))
    }

    /// An IPv4 address: every request has one in it.
    mutating func append(dotted address: UInt32) {
        guard capacity - count >= 16 else {
            isOver = true
            return
        }
        var end = count
        var shift: UInt32 = 32
        repeat {
            shift -= 8
            let number = UInt8(truncatingIfNeeded: address >> shift)
            // Inside: four numbers of three digits at most, and a dot behind each.
            if number >= 100 {
                unsafe base[end] = 48 + number / 100
                end += 1
            }
            if number >= 10 {
                unsafe base[end] = 48 + number / 10 % 10
                end += 1
            }
            unsafe base[end] = 48 + number % 10
            unsafe base[end + 1] = UInt8(ascii: ".")
            end += 2
        } while shift > 0
        count = end - 1
    }

    /// Allocates: not for the path of every request.
    mutating func append(text: String) {
        for byte in text.utf8 { append(byte: byte) }
    }
}

extension ByteWriter {
    /// In lower case, without leading zeros.
    mutating func append(hexadecimal value: Int) {
        if value >= 16 { append(hexadecimal: value >> 4) }
        let digit = UInt8(value & 15)
        append(byte: digit < 10 ? 48 + digit : 87 + digit)
    }

    /// Two bytes as hexadecimal digits without leading zeros, as a group of an IPv6 address.
    mutating func append(hexadecimal high: UInt8, _ low: UInt8) {
        let value = UInt16(high) << 8 | UInt16(low)
        var isLeading = true
        for index in 0..<4 {
            let shift = UInt16(12 - 4 * index)
            let digit = UInt8(value >> shift & 15)
            if digit == 0, isLeading, shift > 0 { continue }
            isLeading = false
            append(byte: digit < 10 ? 48 + digit : 87 + digit)
        }
    }
}
