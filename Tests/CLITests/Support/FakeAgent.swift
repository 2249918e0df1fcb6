import Foundation

/// A Unix socket that answers HTTP with what it was given: the agent's side, with no agent.
///
/// - Owns: one listening socket, its path, and a thread that ends with it.
final class FakeAgent: Sendable {
    let path: String
    private let descriptor: Int32
    private let answers: [String: String]

    /// `answers`: path of the request to the whole response; any other path gets 404.
    init(_ answers: [String: String]) throws {
        path =
            FileManager.default.temporaryDirectory.path
            + "/malla-\(UUID().uuidString.prefix(8)).sock"
        self.answers = answers
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        // 108 bytes of path in the struct, which was zeroed; the name is far shorter.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        // `address` lives for the call and begins as every sockaddr does.
        let bound = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(descriptor, $0, size)
            }
        }
        guard bound == 0, listen(descriptor, 8) == 0 else { throw POSIXError(.EADDRINUSE) }
        Thread.detachNewThread { [self] in serve() }
    }

    /// An `application/json` response of status 200.
    static func json(_ body: String) -> String {
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            + "Content-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n\(body)"
    }

    /// Ends the thread and takes the socket's name away.
    func stop() {
        shutdown(descriptor, Int32(SHUT_RDWR))
        try? FileManager.default.removeItem(atPath: path)
    }

    private func serve() {
        while true {
            let client = accept(descriptor, nil, nil)
            guard client >= 0 else { break }
            let connection = FileHandle(fileDescriptor: client, closeOnDealloc: true)
            let request = String(decoding: connection.availableData, as: UTF8.self)
            let target = request.split(separator: " ").dropFirst().first.map(String.init) ?? ""
            let none = "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found"
            try? connection.write(contentsOf: Data((answers[target] ?? none).utf8))
        }
        close(descriptor)
    }
}
