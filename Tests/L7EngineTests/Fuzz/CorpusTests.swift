// The saved corpus, and some thousands of its mutations, in every run of the tests.

import Foundation
import Testing

@testable import L7Engine

@Suite("Any bytes at all (Tests/Fuzz)", .serialized)
struct CorpusTests {
    /// One input a line, in hexadecimal.
    static func corpus(_ check: FuzzCheck) throws -> [[UInt8]] {
        let path = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../Fuzz/Corpus/\(check.rawValue).hex")
        return try String(contentsOf: path, encoding: .utf8).split(separator: "\n").map { line in
            var bytes: [UInt8] = []
            var rest = line[...]
            while let byte = UInt8(rest.prefix(2), radix: 16) {
                bytes.append(byte)
                rest = rest.dropFirst(2)
            }
            return bytes
        }
    }

    @Test(arguments: [
        (FuzzCheck.request, 20_000), (.response, 20_000), (.chunks, 5_000), (.relay, 500),
    ])
    func `keep the promises`(check: FuzzCheck, mutations: Int) throws {
        let inputs = try Self.corpus(check)
        #expect(inputs.count > 20)
        for input in inputs { check.run(input) }
        var mutator = FuzzMutator(seed: 4711)
        for _ in 0..<mutations {
            let input = inputs[mutator.next(inputs.count)]
            check.run(mutator.mutate(input, with: inputs))
        }
    }
}
