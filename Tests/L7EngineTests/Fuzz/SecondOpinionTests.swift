// llhttp, which serves Node.js, as a second reader: what both accept they must read alike, for a
// difference between two readers is what a smuggled request is made of.

import Foundation
import Testing

@testable import L7Engine

@Suite("A second opinion (llhttp)")
struct SecondOpinionTests {
    private struct Opinion: Decodable {
        var complete: Int
        var early: Int
        var body: Int
        var fields: [[String]]
        var method: String?
        var status: Int?
    }

    /// A message that our parser accepts and that ends inside of `bytes`.
    private struct Accepted {
        let reading: Reading
        let bytes: [UInt8]
        let content: Int
    }

    private static func accept(_ bytes: [UInt8], isResponse: Bool) -> Accepted? {
        let reading = Reading.of(bytes, isResponse: isResponse)
        guard reading.result == .complete else { return nil }
        // Normal forms are ours; an upgrade's end is in the eye of the reader.
        let hasUpgrade = reading.fields.contains { $0.lowercased().hasPrefix("upgrade") }
        if hasUpgrade || reading.method == "CONNECT" || (isResponse && reading.status < 200) {
            return nil
        }
        var end = reading.end
        var content = 0
        let isEmpty = reading.status == 204 || reading.status == 304
        if reading.isChunked, !isEmpty {
            let row = ChunkCase("body", bytes: Array(bytes[end...]))
            let body = row.feed([], decodes: true)
            guard body.end >= 0 else { return nil }
            end += body.end
            content = body.content.count
        } else if !isEmpty {
            // Until the end of the connection: no end to compare.
            if isResponse, reading.length < 0 { return nil }
            content = Int(max(0, reading.length))
            guard content <= bytes.count - end else { return nil }
            end += content
        }
        return Accepted(reading: reading, bytes: Array(bytes[..<end]), content: content)
    }

    private static var root: URL {
        URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../..")
            .standardizedFileURL
    }

    private static func ask(_ messages: [Accepted], isResponse: Bool) throws -> [Opinion?] {
        let python = root.appending(path: "build/venv/bin/python")
        let kind = isResponse ? "response" : "request"
        let input = messages.map { message in
            let hex = message.bytes.map { byte in
                let text = String(byte, radix: 16)
                return text.count < 2 ? "0" + text : text
            }
            return kind + " " + hex.joined() + "\n"
        }
        let file = FileManager.default.temporaryDirectory.appending(
            path: "malla-opinion-\(kind)-\(ProcessInfo.processInfo.processIdentifier)")
        try input.joined().write(to: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: file) }
        let process = Process()
        let output = Foundation.Pipe()
        process.executableURL = python
        process.arguments = [root.appending(path: "Tests/Fuzz/second_opinion.py").path]
        process.standardInput = try FileHandle(forReadingFrom: file)
        process.standardOutput = output
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return try text.split(separator: 10).map {
            try JSONDecoder().decode(Opinion?.self, from: Data($0))
        }
    }

    private static let seeds = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
        "POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "PUT /a HTTP/1.1\r\nHost: a:80\r\nContent-Length: 10\r\nX: y\r\n\r\n0123456789",
    ].map { Array($0.utf8) }

    private static let isThere = FileManager.default.fileExists(
        atPath: root.appending(path: "build/venv/.llhttp").path)

    @Test(
        .enabled(if: isThere, "llhttp is not installed: make build/venv/.llhttp"),
        arguments: [false, true])
    func `what both accept they read alike`(isResponse: Bool) throws {
        let inputs = try CorpusTests.corpus(isResponse ? .response : .request)
        var mutator = FuzzMutator(seed: 42)
        var messages: [Accepted] = []
        // Mutations of what is whole are more often whole than others.
        let whole = inputs.filter { Self.accept($0, isResponse: isResponse) != nil } + Self.seeds
        for input in whole
            + (0..<40_000).map({ _ in
                mutator.mutate(whole[mutator.next(whole.count)], with: inputs)
            })
        {
            if let message = Self.accept(input, isResponse: isResponse) { messages.append(message) }
        }

        let opinions = try Self.ask(messages, isResponse: isResponse)

        try #require(opinions.count == messages.count)
        var agreed = 0
        for (message, opinion) in zip(messages, opinions) {
            guard let opinion else { continue }
            let text = "\(String(decoding: message.bytes, as: UTF8.self))"
            #expect(opinion.complete == 1 && opinion.early == 0, "\(text)")
            #expect(opinion.body == message.content, "\(text)")
            let fields = opinion.fields.prefix(message.reading.fields.count).map {
                $0.joined(separator: ": ")
            }
            #expect(fields == message.reading.fields, "\(text)")
            if isResponse {
                #expect(opinion.status == message.reading.status)
            } else {
                #expect(opinion.method == message.reading.method)
            }
            agreed += 1
        }
        #expect(agreed > 1_000, "too few were accepted by both to say anything")
    }
}
