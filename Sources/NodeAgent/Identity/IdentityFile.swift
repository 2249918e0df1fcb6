// Files of identity: what tells one content from another, PEM read into DER, and a file that
// appears whole or not at all.

internal import CLinux
internal import Foundation
internal import Glibc
internal import SwiftASN1

enum IdentityFile {
    /// Bundles hold some hundred certificates at most.
    static let bytesMax = 4 << 20

    /// One content of a file, or of none.
    struct Mark: Equatable {
        var inode: UInt64 = 0
        var bytes: UInt64 = 0
        var modified: Int64 = 0
        var changed: Int64 = 0
    }

    static func mark(_ path: String) -> Mark {
        var found = malla_file_mark()
        // Safe: the call reads the path and fills in the record.
        guard unsafe malla_file_mark(path, &found) == 0 else { return Mark() }
        return Mark(
            inode: found.inode, bytes: found.bytes, modified: found.modified_ns,
            changed: found.changed_ns)
    }

    static func exists(_ path: String) -> Bool { mark(path) != Mark() }

    /// Names in a directory, sorted; none where it cannot be listed.
    static func names(in directory: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? [])
            .filter { !$0.hasPrefix(".") }.sorted()
    }

    /// The PEM blocks of one kind in a file, as DER.
    ///
    /// - Parameter kind: `CERTIFICATE` or `X509 CRL`.
    static func pem(_ path: String, _ kind: String) throws(SVIDFailure) -> [[UInt8]] {
        guard mark(path).bytes <= bytesMax, let bytes = FileManager.default.contents(atPath: path)
        else {
            throw SVIDFailure(.unreadable, "\(path) cannot be read: \(reason(path))")
        }
        guard let text = String(validating: bytes, as: UTF8.self),
            let blocks = try? PEMDocument.parseMultiple(pemString: text)
        else { throw SVIDFailure(.invalid, "\(path) is no PEM") }
        let found = blocks.filter { $0.discriminator == kind }.map(\.derBytes)
        guard !found.isEmpty else { throw SVIDFailure(.invalid, "\(path) holds no \(kind)") }
        return found
    }

    static func systemText(_ number: Int32) -> String {
        NSError(domain: NSPOSIXErrorDomain, code: Int(number)).localizedDescription
    }

    private static func reason(_ path: String) -> String {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return systemText(errno) }
        close(descriptor)
        return "larger than \(bytesMax >> 20) MiB"
    }

    /// Reads a file by descriptor, which is closed afterwards.
    static func withDescriptor<Value>(
        _ path: String, _ body: (Int32) throws -> Value
    ) throws(SVIDFailure) -> Value {
        // The path outlives the call.
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw SVIDFailure(.unreadable, "\(path) cannot be read: \(systemText(errno))")
        }
        defer { close(descriptor) }
        do {
            return try body(descriptor)
        } catch {
            throw SVIDFailure(.invalid, "\(path) holds no unencrypted PEM private key (\(error))")
        }
    }

    /// Makes a file of mode 0600 that was not there, whole or not at all: written beside it,
    /// synced, then linked, which of two writers only one can.
    ///
    /// - Returns: whether it was this caller; if not, somebody else's is there now.
    static func publish(
        _ path: String, _ write: (Int32) throws -> Void
    ) throws(SVIDFailure) -> Bool {
        let directory = (path as NSString).deletingLastPathComponent
        let name = (path as NSString).lastPathComponent
        let temporary = "\(directory)/.\(name).\(UUID().uuidString)"
        func failure(_ doing: String) -> SVIDFailure {
            SVIDFailure(.unreadable, "cannot \(doing) \(path): \(systemText(errno))")
        }
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW
        // The path outlives the call.
        let descriptor = unsafe open(temporary, flags, 0o600 as mode_t)
        guard descriptor >= 0 else { throw failure("make") }
        defer {
            close(descriptor)
            _ = unsafe unlink(temporary)
        }
        do {
            try write(descriptor)
        } catch {
            throw SVIDFailure(.unreadable, "cannot write \(path): \(error)")
        }
        guard fsync(descriptor) == 0 else { throw failure("sync") }
        // Both paths outlive the call.
        guard unsafe link(temporary, path) == 0 else {
            if errno == EEXIST { return false }
            throw failure("make")
        }
        sync(directory)
        return true
    }

    private static func sync(_ directory: String) {
        // The path outlives the call.
        let descriptor = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }

    static func write(_ text: String, to descriptor: Int32) throws {
        try FileHandle(fileDescriptor: descriptor, closeOnDealloc: false)
            .write(contentsOf: Data(text.utf8))
    }
}
