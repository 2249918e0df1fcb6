internal import Foundation

/// The machine's files as the checks read them; another `root` lets tests give their own.
struct Machine {
    var root = ""

    /// A whole small file, or `nil` where it cannot be read.
    func read(_ path: String) -> String? {
        guard let data = FileManager.default.contents(atPath: root + path) else { return nil }
        return String(decoding: data, as: UTF8.self)
    }

    func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: root + path) }

    /// Names in a directory, sorted; none where it cannot be read.
    func names(in path: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: root + path)) ?? []).sorted()
    }

    /// Running programs: pid and `comm` (at most 15 characters).
    func processes() -> [(pid: String, name: String)] {
        names(in: "/proc").filter { $0.allSatisfy(\.isNumber) }.compactMap { pid in
            read("/proc/\(pid)/comm").map { (pid, $0.trimmingCharacters(in: .newlines)) }
        }
    }

    /// Where file systems of a type are mounted. Source: proc(5), mountinfo.
    func mounts(ofType type: String) -> [String] {
        (read("/proc/self/mountinfo") ?? "").split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard let dash = words.firstIndex(of: "-"), dash + 1 < words.count, words.count > 4
            else { return nil }
            return words[dash + 1] == type ? String(words[4]) : nil
        }
    }

    /// The program that listens at a TCP port of this network namespace; `nil`: none, or its
    /// owner is not ours to see.
    func listener(at port: UInt16) -> String? {
        let hexadecimal = String(port, radix: 16, uppercase: true)
        let suffix = ":" + String(repeating: "0", count: 4 - hexadecimal.count) + hexadecimal
        var sockets: Set<String> = []
        for file in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            for line in (read(file) ?? "").split(separator: "\n").dropFirst() {
                let words = line.split(separator: " ")
                // 0A: TCP_LISTEN.
                guard words.count > 9, words[1].hasSuffix(suffix), words[3] == "0A" else {
                    continue
                }
                sockets.insert("socket:[\(words[9])]")
            }
        }
        guard !sockets.isEmpty else { return nil }
        return processes().first { holds($0.pid, anyOf: sockets) }?.name
    }

    private func holds(_ pid: String, anyOf sockets: Set<String>) -> Bool {
        let directory = "/proc/\(pid)/fd"
        return names(in: directory).contains { name in
            let link = "\(root)\(directory)/\(name)"
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: link)
            return target.map(sockets.contains) ?? false
        }
    }

    /// What a program prints, or `nil` where it is not installed, fails, or takes over 5 s.
    static func outputOf(_ program: String, _ arguments: [String]) -> String? {
        let directories = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        let path = directories.map { "\($0)/\(program)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
        guard let path else { return nil }
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["5", path] + arguments
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return nil }
        let output = (try? pipe.fileHandleForReading.readToEnd()) ?? nil
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { return nil }
        return String(decoding: output ?? Data(), as: UTF8.self)
    }
}
