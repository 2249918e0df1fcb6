// hot.order beside the agent that was linked by it. A name that no function has any more is passed
// over by the linker without a word, and its function lies somewhere.

import Foundation
import Testing

@Suite("The layout of the agent")
struct OrderTests {
    /// Pages, of 4096 bytes, from the first of the functions to the end of the last.
    private static let pagesMax = 10

    @Test func `what a request runs through is there, and lies side by side`() throws {
        let text = try String(
            contentsOf: Repository.root.appendingPathComponent(
                "Sources/Programs/malla-agent/hot.order"), encoding: .utf8)
        let names = text.split(separator: "\n").filter { !$0.hasPrefix("#") }
            .map { String($0.dropFirst(".text.".count)) }
        #expect(names.count > 40)
        let places = try self.places(of: Set(names))

        #expect(
            names.filter { places[$0] == nil } == [],
            "take them out of hot.order, or write what they are called now")

        let starts = names.compactMap { places[$0]?.lowerBound }
        #expect(starts == starts.sorted())
        let end = try #require(places.values.map(\.upperBound).max())
        #expect(end - starts[0] <= Self.pagesMax * 4096)
    }

    /// Where the agent has the functions of these names.
    private func places(of names: Set<String>) throws -> [String: Range<Int>] {
        let symbols = try Program.run(
            "/usr/bin/env", ["nm", "-S", "--defined-only", Program.built("malla-agent")])
        try #require(symbols.status == 0, "\(symbols.output)")
        var places: [String: Range<Int>] = [:]
        for line in symbols.output.split(separator: "\n") {
            // Address, size, kind, name.
            let words = line.split(separator: " ")
            guard words.count == 4, names.contains(String(words[3])),
                let address = Int(words[0], radix: 16), let size = Int(words[1], radix: 16)
            else { continue }
            places[String(words[3])] = address..<address + size
        }
        return places
    }
}
