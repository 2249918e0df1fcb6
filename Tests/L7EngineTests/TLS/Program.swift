import Foundation
import MeshModel
import TestSupport

/// A program run to its end, with a limit.
enum Program {
    struct Result {
        var status: Int32
        /// Both streams.
        var output: String
    }

    /// `input` is written at once, then the stream is closed unless `keepsInput`.
    static func run(
        _ words: [String], in directory: URL? = nil, input: String = "", seconds: Int = 20
    ) -> Result {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["timeout", "-s", "KILL", "\(seconds)"] + words
        process.currentDirectoryURL = directory
        let (output, stdin) = (Foundation.Pipe(), Foundation.Pipe())
        process.standardOutput = output
        process.standardError = output
        process.standardInput = stdin
        do {
            try process.run()
        } catch {
            return Result(status: -1, output: "\(error)")
        }
        stdin.fileHandleForWriting.write(Data(input.utf8))
        try? stdin.fileHandleForWriting.close()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Result(
            status: process.terminationStatus, output: String(decoding: bytes, as: UTF8.self))
    }
}

/// A server in Python that shows a certificate of `back.example`, for what others do not do.
struct PythonServer {
    let port: UInt16
    private let process: pid_t

    /// - Parameter script: for the files of the certificate, and the port to listen on.
    init(
        _ authority: TestAuthority,
        _ script: ((chain: String, key: String), UInt16) -> String
    ) throws {
        let files = try authority.write(try authority.issue("DNS:back.example"), "back")
        let (descriptor, port) = Loopback.listen()
        Loopback.end(descriptor)
        self.port = port
        let log = authority.directory.appendingPathComponent("python.log").path
        process = try Command.start(
            ["python3", "-c", script(files, port)], output: log, errors: log)
        do {
            try eventually("python listens") {
                let client = Loopback.connect(port)
                defer { Loopback.end(client) }
                return Loopback.isConnected(client)
            }
        } catch {
            stop()
            throw error
        }
    }

    func stop() { kill(process, SIGKILL) }

    /// It does nothing until `resume`; its kernel takes connections.
    func pause() throws {
        kill(process, SIGSTOP)
        let threads = "/proc/\(process)/task"
        try eventually("all threads of python stand still") {
            try FileManager.default.contentsOfDirectory(atPath: threads).allSatisfy { thread in
                let stat = try String(contentsOfFile: "\(threads)/\(thread)/stat", encoding: .utf8)
                return stat.contains(") T ")
            }
        }
    }

    func resume() { kill(process, SIGCONT) }
}

extension TestAuthority.Pair {
    func certificate(_ name: String = "cert") -> Certificate {
        Certificate(name: ObjectName("shop", name), chain: chain, key: PrivateKey(pem: key))
    }
}
