internal import Glibc

/// The capabilities of this process.
///
/// - Source: capabilities(7); `CapEff` of /proc/self/status.
public enum Privileges {
    /// What the datapath needs, with the bit of each.
    static let needed: [(name: String, bit: UInt64)] = [
        ("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_PERFMON", 38), ("CAP_BPF", 39),
    ]

    /// Names of `needed` that `effective` lacks.
    static func missing(_ effective: UInt64) -> [String] {
        needed.filter { effective >> $0.bit & 1 == 0 }.map(\.name)
    }

    /// What this process lacks for `--datapath on`.
    public static func missing() -> [String] { missing(effective()) }

    static func effective() -> UInt64 {
        let lines = textFile("/proc/self/status").split(separator: "\n")
        for line in lines where line.hasPrefix("CapEff:") {
            return UInt64(line.dropFirst(7).drop { $0 == "\t" || $0 == " " }, radix: 16) ?? 0
        }
        return 0
    }
}

/// A small file of /proc, empty when it cannot be read.
func textFile(_ path: String, bytesMax: Int = 65_536) -> String {
    let number = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard number >= 0 else { return "" }
    let file = Descriptor(adopting: number)
    var bytes = [UInt8](repeating: 0, count: bytesMax)
    var count = 0
    while count < bytes.count {
        let room = bytes.count - count
        // The call writes at most `room` bytes behind the `count` that are there.
        let got = unsafe bytes.withUnsafeMutableBytes {
            unsafe read(file.number, $0.baseAddress! + count, room)
        }
        guard got > 0 else { break }
        count += got
    }
    return String(decoding: bytes.prefix(count), as: UTF8.self)
}
