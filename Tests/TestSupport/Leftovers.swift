// Takes beds away: a closed one, and what a crash left.

internal import Foundation
internal import Glibc

/// Removal of beds by name, from what the system shows, so that it works for half-made ones too.
public enum Leftovers {
    /// Removes every bed whose owner is dead; answers their names. Standing beds stay.
    @discardableResult
    public static func removeAbandoned() throws -> [String] {
        let abandoned = names().filter { isAbandoned($0) }
        for name in abandoned { remove(name) }
        return abandoned
    }

    /// The beds that there are.
    public static func names() -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: Testbed.root)) ?? []).sorted()
    }

    /// Removes one bed whole: processes, namespaces (with their links), mounts, cgroups, files.
    public static func remove(_ name: String) {
        let directory = "\(Testbed.root)/\(name)"
        if let root = try? CgroupTree.mount() { CgroupTree.remove("\(root)/malla-\(name)") }
        let spaces = (try? FileManager.default.contentsOfDirectory(atPath: "/run/netns")) ?? []
        for space in spaces where space.hasPrefix("malla-\(name)-") {
            _ = try? Command.run(["ip", "netns", "del", space], seconds: 10)
        }
        for line in Command.text("/proc/mounts").split(separator: "\n") {
            let target = line.split(separator: " ")[1]
            if target.hasPrefix(directory + "/") {
                _ = try? Command.run(["umount", "-l", String(target)], seconds: 10)
            }
        }
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// What the owner file says: this process, by id and start time, or that the bed stands alone.
    static func owner(isStanding: Bool) -> String {
        isStanding ? "standing" : "\(getpid()) \(startTime(getpid()) ?? "")"
    }

    private static func isAbandoned(_ name: String) -> Bool {
        let owner = Command.text("\(Testbed.root)/\(name)/owner")
        if owner == "standing" { return false }
        let parts = owner.split(separator: " ").map(String.init)
        guard parts.count == 2, let pid = pid_t(parts[0]) else {
            // The file is written right after the directory: without it the maker may be at work
            // this moment, so it counts as abandoned only by the process id in its name.
            let pid = name.dropFirst().prefix { $0 != "x" }
            return pid_t(pid).map { startTime($0) == nil } ?? false
        }
        return startTime(pid) != parts[1]
    }

    /// Field 22 of /proc/PID/stat, in clock ticks since boot; `nil` if there is no such process.
    private static func startTime(_ pid: pid_t) -> String? {
        let text = Command.text("/proc/\(pid)/stat")
        guard let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[end...].split(separator: " ")
        return fields.count > 20 ? String(fields[20]) : nil
    }
}

/// The cgroups of a bed.
enum CgroupTree {
    /// Where cgroup v2 is mounted.
    static func mount() throws -> String {
        for line in Command.text("/proc/mounts").split(separator: "\n") {
            let fields = line.split(separator: " ")
            if fields.count > 2, fields[2] == "cgroup2" { return String(fields[1]) }
        }
        throw CommandFailure(description: "cgroup v2 is not mounted")
    }

    /// Kills every process below `path` and removes the groups.
    static func remove(_ path: String) {
        guard FileManager.default.fileExists(atPath: path) else { return }
        try? write("1", to: path + "/cgroup.kill")
        try? eventually("\(path) is empty", within: 10) {
            Command.text(path + "/cgroup.events").contains("populated 0")
        }
        removeGroups(path)
    }

    /// A cgroup file takes one write, and no file may be made beside it.
    static func write(_ text: String, to path: String) throws {
        guard let file = FileHandle(forWritingAtPath: path) else {
            throw CommandFailure(description: "\(path) cannot be opened")
        }
        defer { try? file.close() }
        try file.write(contentsOf: Data(text.utf8))
    }

    private static func removeGroups(_ path: String) {
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        for entry in entries {
            var isDirectory: ObjCBool = false
            let child = "\(path)/\(entry)"
            let exists = unsafe FileManager.default.fileExists(
                atPath: child, isDirectory: &isDirectory)
            if exists && isDirectory.boolValue { removeGroups(child) }
        }
        // The path is a string that the call copies.
        _ = unsafe rmdir(path)
    }
}
