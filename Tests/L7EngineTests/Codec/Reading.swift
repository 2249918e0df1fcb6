// A parsed head as values that can be compared.

import MeshModel

@testable import L7Engine

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

    /// With small limits, so that tests reach them; `limit` is for a whole head, in bytes.
    static func of(
        _ bytes: [UInt8], isResponse: Bool = false, named: Bool = false, limit: Int = 2048
    ) -> Reading {
        let fieldsMax = limit / 128
        let fields = UnsafeMutablePointer<FieldRange>.allocate(capacity: fieldsMax)
        defer { unsafe fields.deallocate() }
        var head = unsafe MessageHead(
            fields: fields, fieldsMax: fieldsMax, bytesMax: limit, targetBytesMax: limit / 4)
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
