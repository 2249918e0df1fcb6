import Glibc
import TestSupport

/// What lies in the memory of this process.
enum OwnMemory {
    /// How often the bytes whose complement is given lie in memory that can be written.
    ///
    /// - Parameter hidden: 8 bytes at least, so that the search does not find itself.
    static func count(of hidden: [UInt8]) -> Int {
        let maps = Command.text("/proc/self/maps")
        // Safe: a string that lives through the call.
        let memory = unsafe open("/proc/self/mem", O_RDONLY)
        defer { close(memory) }
        let step = 1 << 20
        let room = UnsafeMutableRawPointer.allocate(byteCount: step + 64, alignment: 64)
        defer { unsafe room.deallocate() }
        let own = UInt(bitPattern: room)
        var found = 0
        for line in maps.split(separator: "\n") where line.contains(" rw") {
            let ends = line.prefix { $0 != " " }.split(separator: "-")
            guard ends.count == 2, var at = UInt(ends[0], radix: 16),
                let end = UInt(ends[1], radix: 16)
            else { continue }
            while at < end {
                // Pieces overlap, so that none lies between two.
                let wanted = Int(min(end - at, UInt(step + 64)))
                let count = unsafe pread(memory, room, wanted, off_t(at))
                if count > 0 {
                    found += unsafe matches(
                        UnsafeRawBufferPointer(start: room, count: count), at, hidden,
                        besides: own..<own + UInt(step + 64))
                }
                at += UInt(step)
            }
        }
        return found
    }

    private static func matches(
        _ bytes: UnsafeRawBufferPointer, _ address: UInt, _ hidden: [UInt8], besides: Range<UInt>
    ) -> Int {
        var first: UInt64 = 0
        for index in (0..<8).reversed() { first = first << 8 | UInt64(hidden[index]) }
        var found = 0
        for at in 0..<max(0, bytes.count - hidden.count + 1) {
            let word = unsafe bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            guard ~word == first, !besides.contains(address + UInt(at)) else { continue }
            var isSame = true
            for index in hidden.indices {
                isSame = isSame && (unsafe ~bytes[at + index]) == hidden[index]
            }
            if isSame { found += 1 }
        }
        return found
    }
}
