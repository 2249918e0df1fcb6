// What the conformance tables are judged by: one case, parsed in one piece and at every split.

import MeshModel
import Testing

@testable import L7Engine

/// One line of a table.
struct Case: CustomTestStringConvertible, Sendable {
    let rule: String
    let bytes: [UInt8]
    /// `nil`: accepted.
    let refusal: Refusal?
    var isResponse = false

    init(_ rule: String, _ text: String, _ refusal: Refusal? = nil, isResponse: Bool = false) {
        self.init(rule, bytes: Array(text.utf8), refusal, isResponse: isResponse)
    }

    init(_ rule: String, bytes: [UInt8], _ refusal: Refusal? = nil, isResponse: Bool = false) {
        self.rule = rule
        self.bytes = bytes
        self.refusal = refusal
        self.isResponse = isResponse
    }

    var testDescription: String { rule }
    var wanted: ParseResult { refusal.map { .refused($0) } ?? .complete }
}

/// What the parser made of a head, as values that can be compared.
struct Reading: Equatable {
    var result: ParseResult
    var method = ""
    var path = ""
    var query: String?
    var authority = ""
    var host = ""
    var status = 0
    var minor: UInt8 = 0
    var length: Int64 = -1
    var isChunked = false
    var fields: [String] = []
    var kinds: [UInt8] = []
    var end = 0
    var head: [Bool] = []

    static func of(_ bytes: [UInt8], isResponse: Bool = false, named: Bool = false) -> Reading {
        let fields = UnsafeMutablePointer<FieldRange>.allocate(capacity: 16)
        defer { unsafe fields.deallocate() }
        var head = unsafe MessageHead(
            fields: fields, fieldsMax: 16, bytesMax: 2048, targetBytesMax: 512)
        // The exact size: a read behind the end is one that a sanitizer would see.
        var copy = bytes
        return unsafe copy.withUnsafeMutableBufferPointer { buffer in
            var nothing: UInt8 = 0
            return unsafe withUnsafeMutablePointer(to: &nothing) { empty in
                let base = unsafe buffer.baseAddress ?? empty
                let result =
                    unsafe isResponse
                    ? HTTP1Parser.response(base, 0, bytes.count, &head)
                    : HTTP1Parser.request(base, 0, bytes.count, &head)
                if named, result == .complete { unsafe FieldReader.markNamed(base, &head) }
                return unsafe Reading(result, base, head)
            }
        }
    }

    init(result: ParseResult) { self.result = result }

    init(_ result: ParseResult, _ base: UnsafeMutablePointer<UInt8>, _ found: MessageHead) {
        self.result = result
        guard result == .complete else { return }
        func text(_ range: ByteRange) -> String {
            String(
                (range.lower..<range.upper).map { unsafe Character(Unicode.Scalar(base[$0])) })
        }
        method = text(found.method)
        path = text(found.path)
        query = found.hasQuery ? text(found.query) : nil
        authority = text(found.authority)
        host = text(found.host)
        status = found.status
        minor = found.minor
        length = found.contentLength
        isChunked = found.isChunked
        for index in 0..<found.fieldsCount {
            let field = found.field(index)
            fields.append(text(field.name) + ": " + text(field.value))
            kinds.append(field.kind)
        }
        end = found.end
        head = [
            found.isHead, found.closes, found.keepsAlive, found.wantsUpgrade, found.hasHost,
            found.expects, found.takesTrailers, found.prefersJSON, found.namesFields,
        ]
    }
}

extension Case {
    /// In one piece; then growing byte by byte: the first decision is the same decision.
    func judge() {
        let whole = Reading.of(bytes, isResponse: isResponse)
        #expect(whole.result == wanted, "\(rule)")
        for count in 0..<bytes.count {
            let part = Reading.of(Array(bytes[..<count]), isResponse: isResponse)
            if part.result == .incomplete { continue }
            #expect(part == whole, "\(rule), after \(count) bytes")
            return
        }
    }
}
