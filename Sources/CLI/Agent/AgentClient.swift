// The way to the node's agent: one question, one answer, one connection.

internal import AdminAPI
internal import ArgumentParser
internal import Foundation

/// Asks the agent over its Unix socket.
///
/// - Threads: any; blocks, at most `timeoutMilliseconds` for each read or write.
struct AgentClient {
    let socket: String
    var timeoutMilliseconds: Int32 = 5000

    /// No answer is larger: a node has some ten thousand endpoints at most.
    static let answerBytesMax = 64 << 20

    enum Failure: Error, Equatable {
        /// The socket could not be connected to.
        case unreachable(errno: Int32)
        /// It was connected, then nothing came in time or the connection broke.
        case silent(errno: Int32)
        case notUnderstood(String)
        case refused(status: Int, String)
    }

    init(_ options: ConnectionOptions) {
        socket = options.socket(environment: ProcessInfo.processInfo.environment)
    }

    init(socket: String) { self.socket = socket }

    func get(_ path: String, method: String = "GET") throws(Failure) -> HTTPAnswer {
        let bytes = try exchange(path, method)
        do {
            return try HTTPAnswer(parsing: bytes)
        } catch {
            guard case .malformed(let why) = error else { throw .notUnderstood("malformed") }
            throw .notUnderstood(bytes.isEmpty ? "it closed the connection" : why)
        }
    }

    func list<Item>(
        _ resource: AdminResource<Item>, changes: Bool = false
    ) throws(Failure) -> Listing<Item> {
        let answer = try get(resource.path, method: changes ? "POST" : "GET")
        guard answer.status == 200 else {
            let text = String(decoding: answer.body.prefix(200), as: UTF8.self)
            throw .refused(
                status: answer.status, text.trimmingCharacters(in: .whitespacesAndNewlines))
        }
        do {
            let data = Data(answer.body)
            let listing = try JSONDecoder().decode(Listing<Item>.self, from: data)
            guard listing.apiVersion.hasPrefix("malla.io/v1"), listing.kind == resource.kind else {
                throw Failure.notUnderstood("\(listing.apiVersion) \(listing.kind)")
            }
            return listing
        } catch let failure as Failure {
            throw failure
        } catch let error as DecodingError {
            throw .notUnderstood("\(resource.kind): \(Self.explain(error))")
        } catch {
            throw .notUnderstood("\(resource.kind): \(error)")
        }
    }

    /// The listing, or the end of the program with one line that says what to do.
    ///
    /// - Parameter changes: whether the agent is told to do something.
    func require<Item>(
        _ resource: AdminResource<Item>, changes: Bool = false
    ) throws -> Listing<Item> {
        do {
            return try list(resource, changes: changes)
        } catch {
            throw fail(describe(error), exitCode(error))
        }
    }

    /// Ends the program unless `pod` is NAMESPACE/NAME of a pod of the mesh, or an address.
    func requirePod(_ pod: String) throws {
        let isIPv4 = pod.allSatisfy { $0.isNumber || $0 == "." }
        if isIPv4 || pod.contains(":") { return }
        let pods = try require(AdminAPI.endpoints).items.map { "\($0.namespace)/\($0.name)" }
        guard !pods.contains(pod) else { return }
        throw fail("there is no pod \(pod); see `malla endpoints`", .validationFailure)
    }

    private func connect() throws(Failure) -> UnixSocket {
        do {
            return try UnixSocket(connectingTo: socket, timeoutMilliseconds: timeoutMilliseconds)
        } catch {
            throw .unreachable(errno: error.number)
        }
    }

    private static func request(_ path: String, _ method: String, version: String) -> String {
        """
        \(method) \(path) HTTP/\(version)\r
        Host: malla-agent\r
        User-Agent: malla/\(mallaVersion)\r
        Accept: application/json\r
        Connection: close\r
        Content-Length: 0\r
        \r

        """
    }

    private func exchange(_ path: String, _ method: String) throws(Failure) -> [UInt8] {
        let connection = try connect()
        let request = Self.request(path, method, version: "1.1")
        do {
            try connection.send(Array(request.utf8))
            var answer: [UInt8] = []
            while answer.count < Self.answerBytesMax {
                let more = try connection.receive()
                if more.isEmpty { return answer }
                answer += more
            }
        } catch {
            throw .silent(errno: error.number)
        }
        throw .notUnderstood("more than \(Self.answerBytesMax >> 20) MiB")
    }

    private static func explain(_ error: DecodingError) -> String {
        switch error {
        case .keyNotFound(let key, _): "no field `\(key.stringValue)`"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            "field `\(context.codingPath.map(\.stringValue).joined(separator: "."))`"
        default: "no JSON"
        }
    }
}

extension AgentClient {
    /// Hands on each item of an answer that does not end, and its line, until the agent ends it;
    /// then the program ends with one line that says so.
    func follow<Item>(
        _ resource: AdminResource<Item>, _ body: (_ item: Item, _ line: String) throws -> Void
    ) throws -> Never {
        let failure: Failure
        do throws(Failure) {
            let connection = try connect()
            failure = try Self.follow(connection, resource, body)
        } catch {
            failure = error
        }
        throw fail(describe(failure), exitCode(failure))
    }

    /// Asked as HTTP/1.0, which frames nothing: after the head there are lines only. Answers how it
    /// ended.
    private static func follow<Item>(
        _ connection: borrowing UnixSocket, _ resource: AdminResource<Item>,
        _ body: (_ item: Item, _ line: String) throws -> Void
    ) throws(Failure) -> Failure {
        var lines = FollowedLines()
        do {
            try connection.send(Array(request(resource.path, "GET", version: "1.0").utf8))
        } catch {
            throw .silent(errno: error.number)
        }
        while true {
            guard let bytes = try receive(connection) else { continue }
            guard !bytes.isEmpty else {
                guard let status = lines.status, status != 200 else {
                    return .silent(errno: ECONNRESET)
                }
                return .refused(status: status, lines.rest)
            }
            for line in lines.take(bytes) {
                do {
                    try body(JSONDecoder().decode(Item.self, from: Data(line.utf8)), line)
                } catch {
                    throw .notUnderstood("a line of \(resource.kind)")
                }
            }
        }
    }

    /// `nil`: nothing came for a while, which is no failure here.
    private static func receive(
        _ connection: borrowing UnixSocket
    ) throws(Failure) -> [UInt8]? {
        do {
            return try connection.receive()
        } catch {
            guard error.number == EAGAIN else { throw .silent(errno: error.number) }
            return nil
        }
    }

    /// One line: which socket, what is wrong, what to do.
    func describe(_ failure: Failure) -> String {
        switch failure {
        case .unreachable(EACCES), .unreachable(EPERM):
            "no permission for the agent's socket \(socket); run as root"
        case .unreachable(ENOENT):
            "no agent at \(socket); start `malla-agent run`, or name its socket by --socket"
        case .unreachable(ECONNREFUSED):
            "nobody listens at \(socket); the agent has ended: start `malla-agent run`"
        case .unreachable(let number):
            "cannot reach the agent at \(socket): \(Self.text(number)); see --socket"
        case .silent(EAGAIN):
            "the agent at \(socket) did not answer within \(timeoutMilliseconds / 1000) s; "
                + "see its log"
        case .silent(let number):
            "the agent at \(socket) broke off: \(Self.text(number)); see its log"
        case .notUnderstood(let what):
            "the answer of \(socket) was not understood (\(what)); are malla and malla-agent "
                + "of one version?"
        case .refused(400, let text): text
        case .refused(let status, let text):
            "the agent at \(socket) refused: \(status) \(text)"
        }
    }

    func exitCode(_ failure: Failure) -> ExitCode {
        switch failure {
        case .unreachable, .silent: .unavailable
        // It did not like the question.
        case .refused(400, _): .validationFailure
        case .notUnderstood, .refused: .notUnderstood
        }
    }

    /// strerror's words.
    static func text(_ number: Int32) -> String {
        // Safe: strerror answers a C string that no other thread of this program replaces.
        unsafe String(cString: strerror(number))
    }
}
