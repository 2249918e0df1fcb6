// What the conformance tables are judged by: one case, parsed in one piece and at every split.

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
