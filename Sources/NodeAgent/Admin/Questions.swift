internal import Glibc
internal import NIOCore
internal import Synchronization

/// What a request is answered with.
struct AdminAnswer: Sendable, Equatable {
    var status: Int
    var contentType: String
    var body: [UInt8]

    static func text(
        _ status: Int, _ text: String, _ type: String = "text/plain; charset=utf-8"
    ) -> AdminAnswer {
        AdminAnswer(status: status, contentType: type, body: Array(text.utf8))
    }

    static func json(_ body: [UInt8]) -> AdminAnswer {
        AdminAnswer(status: 200, contentType: "application/json", body: body)
    }
}

/// One request that waits for the agent's thread.
struct Question: Sendable {
    var path: String
    /// What follows `?`, as it came.
    var query = ""
    var answer: EventLoopPromise<AdminAnswer>
}

/// The way from NIO's thread to the agent's: a queue and a pipe that wakes it.
///
/// - Threads: `ask` any; `take` the agent's.
final class Questions: Sendable {
    private let waiting = Mutex<[Question]>([])
    private let readEnd: Int32
    private let writeEnd: Int32

    init() throws(StartError) {
        var ends: [Int32] = [-1, -1]
        // The call writes two descriptors into an array of two.
        guard unsafe pipe(&ends) == 0 else {
            throw .engine("cannot make a pipe: errno \(errno)")
        }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        readEnd = ends[0]
        writeEnd = ends[1]
    }

    /// Readable while questions wait.
    var descriptor: Int32 { readEnd }

    func ask(_ question: Question) {
        waiting.withLock { $0.append(question) }
        wake()
    }

    /// Ends a wait of the agent's thread.
    func wake() {
        var byte: UInt8 = 1
        // One byte is read. A full pipe has woken it already.
        _ = unsafe write(writeEnd, &byte, 1)
    }

    func take() -> [Question] {
        var bytes = [UInt8](repeating: 0, count: 256)
        // The call writes at most `bytes.count` bytes.
        while unsafe read(readEnd, &bytes, bytes.count) > 0 {}
        return waiting.withLock { list in
            defer { list = [] }
            return list
        }
    }
}
