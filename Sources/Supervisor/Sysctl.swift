internal import CLinux
internal import Glibc

/// /proc/sys/net of the network namespace that the calling thread is in.
enum Sysctl {
    /// - Returns: 0 or a positive errno.
    static func set(_ name: String, _ value: String) -> Int32 {
        let error = write(name, value)
        // In a container /proc/sys is read-only, even for who may make network namespaces.
        guard error == EROFS, malla_proc_sys_unlock() == 0 else { return error }
        return write(name, value)
    }

    /// The value with single blanks between its words; empty where it cannot be read.
    static func value(_ name: String) -> String {
        let number = unsafe open("/proc/sys/net/\(name)", O_RDONLY | O_CLOEXEC)
        guard number >= 0 else { return "" }
        let file = Descriptor(adopting: number)
        var bytes = [UInt8](repeating: 0, count: 256)
        // The call writes at most `bytes.count` bytes.
        let got = unsafe read(file.number, &bytes, bytes.count)
        return bytes.prefix(max(0, got)).split { $0 <= 32 }
            .map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    }

    private static func write(_ name: String, _ value: String) -> Int32 {
        let number = unsafe open("/proc/sys/net/\(name)", O_WRONLY | O_CLOEXEC)
        guard number >= 0 else { return errno }
        let file = Descriptor(adopting: number)
        let bytes = Array(value.utf8)
        // The array outlives the call, which reads `bytes.count` bytes.
        return unsafe Glibc.write(file.number, bytes, bytes.count) == bytes.count ? 0 : errno
    }
}
