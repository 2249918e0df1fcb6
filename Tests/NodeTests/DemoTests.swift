import Foundation
import TestSupport
import Testing

@Suite("The demo shows what it says (make demo)", .serialized)
struct DemoTests {
    private static let id = "spiffe://cluster.local/ns/shop/sa/"
    private static let payments = "10.77.2.12"

    /// What a step has printed: titles are bold, and begin with their number.
    private static func step(_ number: Int, of text: String) -> String {
        text.components(separatedBy: "\u{1b}[1m").first { $0.hasPrefix("\(number). ") } ?? ""
    }

    /// What a command has printed that was shown with `$` before it.
    private static func shown(_ command: String, in text: String) -> [String] {
        let lines = text.split(separator: "\n").map(String.init)
        let rest = lines.drop { !$0.hasPrefix("  $ \(command)") }.dropFirst()
        return rest.prefix { $0.hasPrefix("    ") }.map { String($0.dropFirst(4)) }
    }

    /// The number that stands behind these words; -1: there is none.
    private static func number(_ text: String, after words: String) -> Int {
        let rest = text.components(separatedBy: words).dropFirst().first ?? ""
        return Int(rest.prefix { $0.isNumber }) ?? -1
    }

    @Test func `every step holds, and the last show TLS, identities and a refusal`() throws {
        let name = "whole\(getpid())"
        defer { Leftovers.remove(name) }
        let run = try Command.run(
            ["env", "MALLA_DEMO_BED=\(name)", "\(Binaries.repository)/demo/demo.sh"], seconds: 400)
        let said = run.output
        try #require(run.status == 0, "\(said.suffix(4000))\n\(run.errors.suffix(4000))")
        #expect(said.contains("Every step held."), "\(said.suffix(2000))")
        for number in 1...10 { #expect(!Self.step(number, of: said).isEmpty, "step \(number)") }
        expectTunnels(Self.step(9, of: said))
        expectStrict(Self.step(10, of: said))
        #expect(try CrashTests.traces(of: name).isEmpty)
    }

    /// A capture between the nodes that holds TLS only, and who has proved what at both ends.
    private func expectTunnels(_ text: String) {
        let answers = Self.shown("pod client curl -s -H x-note: secret-word", in: text)
        #expect(answers == ["7.40 EUR, paid"], "\(text)")
        #expect(text.contains("x-pod: catalog-v2"), "\(text)")
        let packets = Self.shown("node n1 tcpdump -r fabric.pcap tcp port 15008", in: text)
        // Whichever family the client's libc took.
        let ends = ["> \(Self.payments).15008: ", "> fd00:77:2::12.15008: "]
        let isDialled = packets.contains { line in ends.contains { line.contains($0) } }
        #expect(isDialled, "\(text)")
        #expect(Self.number(text, after: "secret-word is in ") == 0, "\(text)")
        // A plain request is found in it: it was looked for in the right place.
        #expect(Self.number(text, after: "plain-word in ") > 0, "\(text)")
        for (node, peer) in [("n1", "payments"), ("n2", "client")] {
            let pairs = Self.shown("malla \(node) mtls", in: text)
            let isProved = pairs.contains {
                $0.hasPrefix("shop/client ") && $0.contains(" shop/payments ")
                    && $0.contains(" mutual_tls ") && $0.contains(" \(Self.id)\(peer) ")
            }
            #expect(isProved, "\(node): \(text)")
        }
    }

    /// A pod that served plain text refuses it, says why, and serves who has an identity.
    private func expectStrict(_ text: String) {
        let plain = "http://\(Self.payments):8080/"
        let before = Self.shown("outside curl -s -m 3 \(plain)", in: text)
        #expect(before == ["7.40 EUR, paid"], "\(text)")
        #expect(text.contains("mtls: {mode: STRICT}"), "\(text)")
        for place in ["outside", "node n1"] {
            let answer = Self.shown("\(place) sh -c curl -sS -m 3 \(plain)", in: text)
            // Refused at once: no time that has passed, and no answer.
            #expect(answer.count == 1, "\(text)")
            #expect(answer.first?.hasPrefix("curl: (7) ") == true, "\(place): \(text)")
        }
        let reasons = Self.shown("malla n2 observe --verdict plain_refused", in: text)
        #expect(reasons.contains { $0.contains("plain_refused") }, "\(text)")
        let served = Self.shown("pod client curl -s http://payments/", in: text)
        #expect(served == ["7.40 EUR, paid"], "\(text)")
    }
}
