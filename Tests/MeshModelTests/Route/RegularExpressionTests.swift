import Foundation
import Testing

@testable import MeshModel

@Suite("Regular expressions (RE2's syntax, the whole text)")
struct RegularExpressionTests {
    /// What matches, and what does not.
    struct Row: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var takes: [String]
        var leaves: [String]

        init(_ expression: String, _ takes: [String], not leaves: [String]) {
            testDescription = expression
            self.takes = takes
            self.leaves = leaves
        }
    }

    static let rows = [
        Row("", [""], not: ["a"]),
        Row("/v\\d+/(?:a|b)", ["/v1/a", "/v22/b"], not: ["/v/a", "/v1/c", "/v1/a/"]),
        Row("a.c", ["abc", "a.c"], not: ["ac", "a\nc", "abbc"]),
        Row("a*", ["", "a", "aaaa"], not: ["b", "aab"]),
        Row("a+b?", ["a", "aab"], not: ["", "b", "abb"]),
        Row("a*?b", ["b", "aab"], not: ["a"]),
        Row("a{3}", ["aaa"], not: ["aa", "aaaa"]),
        Row("a{2,}", ["aa", "aaaaa"], not: ["a"]),
        Row("a{0,2}", ["", "a", "aa"], not: ["aaa"]),
        Row("(ab){2,3}", ["abab", "ababab"], not: ["ab", "abababab", "aba"]),
        Row("a{", ["a{"], not: ["a"]),
        Row("a{,2}", ["a{,2}"], not: ["a", "aa"]),
        Row("(a|b|)c", ["ac", "bc", "c"], not: ["abc"]),
        Row("[a-c]x", ["ax", "cx"], not: ["dx", "x"]),
        Row("[^a-c]", ["d", "-"], not: ["a", ""]),
        Row("[]a]", ["]", "a"], not: ["b"]),
        Row("[a-]", ["a", "-"], not: ["b"]),
        Row("[\\]\\-x]+", ["]-x"], not: ["\\"]),
        Row("[[:alpha:]][[:^digit:]]", ["ab", "z-"], not: ["a1", "1a"]),
        Row("\\w+\\s\\S", ["ab_1 x"], not: ["a-b x", "ab  x ", "ab x "]),
        Row("\\D\\W", ["a-"], not: ["1-", "aa"]),
        Row("\\.\\*\\x41\\t", [".*A\t"], not: ["x*A\t"]),
        Row("^/a$", ["/a"], not: ["^/a$", "/ab"]),
        Row("^a|b$", ["a", "b"], not: ["ab", "^a"]),
        Row("(^a$)", ["a"], not: ["aa"]),
        Row("\\Aa\\z", ["a"], not: ["b"]),
        Row("(?i)GeT", ["get", "GET", "gEt"], not: ["got"]),
        Row("(?i)[a-c]1", ["A1", "c1"], not: ["D1"]),
        Row("(?P<name>a)(?<other>b)", ["ab"], not: ["a"]),
        Row("é+", ["é", "éé"], not: ["e", ""]),
        Row("((a*)*)*", ["", "aaaa"], not: ["b"]),
        Row("(a|a|ab)(c|bcd)(d*)", ["abcd", "acd", "abcdd"], not: ["abd"]),
        Row("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", ["a", "a-b", "x9"], not: ["-a", "a-", "A"]),
    ]

    @Test(arguments: rows) func `matches the whole text or not at all`(_ row: Row) throws {
        let expression = try RegularExpression(row.testDescription)
        for text in row.takes { #expect(Self.matches(expression, text), "\(text)") }
        for text in row.leaves { #expect(!Self.matches(expression, text), "\(text)") }
    }

    @Test(arguments: [
        ("a(b", 3), ("a)", 1), ("[a", 2), ("[b-a]", 4), ("[[:nope:]]", 3), ("*a", 0), ("a**", 2),
        ("a{2}{3}", 4), ("a{3,2}", 1), ("a{1001}", 1), ("\\", 1), ("\\b", 0), ("\\Q", 0),
        ("\\1", 0), ("(?=a)", 1), ("(?s)a", 1), ("(?<=a)b", 3), ("a^b", 1), ("a$b", 1), ("^*", 2),
        ("[é]", 1), ("\\xg0", 2),
    ])
    func `what is none says where`(_ text: String, _ offset: Int) {
        let problem = RouteTable.problem(regularExpression: text)
        #expect(problem?.offset == offset, "\(String(describing: problem))")
    }

    @Test(arguments: [
        ("(?=a)", "look around"), ("a(?!b)", "look around"), ("(?<=a)b", "look around"),
        ("(?<!a)b", "look around"), ("(a)\\1", "'\\1' is a back-reference"),
        ("(?P<x>a)\\k<x>", "'\\k' is a back-reference"), ("(?(1)a)", "only (?: and (?P<name>"),
        ("(?>a)", "only (?: and (?P<name>"),
    ])
    func `what other dialects have is named`(_ text: String, _ words: String) {
        let problem = RouteTable.problem(regularExpression: text)
        #expect(problem?.description.contains(words) == true, "\(String(describing: problem))")
    }

    @Test(arguments: [
        ("\\(?=", "(="), ("a\\(?!b", "a!b"), ("[(?=]", "="), ("[(?<!]+", "(?<!"), ("\\\\1", "\\1"),
    ])
    func `what only looks like another dialect matches`(_ text: String, _ subject: String) throws {
        #expect(Self.matches(try RegularExpression(text), subject))
    }

    @Test(arguments: [
        "/((((a{1,255}){1,255}){1,255}){1,255})", "(((a?){1,10}){1,11}){1,10}", "a{1000}b{25}",
        "(((){1000}){1000}){1000}", "(((a*)*){1000}){2}",
        String(repeating: "(", count: 101) + String(repeating: ")", count: 101),
    ])
    func `what would take the agent's memory or time is refused`(_ text: String) {
        #expect(RouteTable.problem(regularExpression: text) != nil)
    }

    @Test func `a match that may go many ways takes one step a byte`() throws {
        let expression = try RegularExpression("(a|aa|a*)*b")
        #expect(!Self.matches(expression, String(repeating: "a", count: 16_000)))
    }

    /// Random expressions and texts over few letters, against another implementation.
    @Test func `agrees with ICU on random expressions`() throws {
        var random = SystemRandomNumberGenerator()
        var compared = 0
        for _ in 0..<3_000 {
            let text = Self.randomExpression(depth: 3, &random)
            let ours = try RegularExpression(text)
            let theirs = try NSRegularExpression(pattern: "\\A(?:\(text))\\z")
            for _ in 0..<20 {
                let subject = String(
                    (0..<Int.random(in: 0...7, using: &random)).map { _ in
                        "abc".randomElement(using: &random) ?? "a"
                    })
                let range = NSRange(location: 0, length: subject.utf16.count)
                let isMatch = theirs.firstMatch(in: subject, range: range) != nil
                #expect(Self.matches(ours, subject) == isMatch, "\(text) on '\(subject)'")
                compared += 1
            }
        }
        #expect(compared == 60_000)
    }

    private static func randomExpression(
        depth: Int, _ random: inout SystemRandomNumberGenerator
    ) -> String {
        guard depth > 0 else {
            return ["a", "b", "c", ".", "[ab]", "[^a]", ""].randomElement(using: &random) ?? "a"
        }
        let one = randomExpression(depth: depth - 1, &random)
        let other = randomExpression(depth: depth - 1, &random)
        switch Int.random(in: 0..<8, using: &random) {
        case 0, 1, 2: return one + other
        case 3: return "(?:\(one)|\(other))"
        case 4: return "(?:\(one))*"
        case 5: return "(?:\(one))+\(other)"
        case 6: return "(?:\(one))?"
        default: return "(?:\(one)){1,3}"
        }
    }

    private static func matches(_ expression: RegularExpression, _ text: String) -> Bool {
        let bytes = Array(text.utf8)
        // Safe: the array outlives the call; an empty one is never read.
        return unsafe bytes.withUnsafeBufferPointer { buffer in
            let base = unsafe buffer.baseAddress ?? UnsafePointer(bitPattern: 1).unsafelyUnwrapped
            return unsafe expression.matches(
                Bytes(base, count: buffer.count), ByteRange(0, buffer.count))
        }
    }
}
