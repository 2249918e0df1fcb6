// The rules themselves are tested: each must find what it is for in a line made for it.

import Testing

@Suite("The tidy rules see what they should")
struct TidyRuleTests {
    @Test func `comments, strings and raw identifiers are not code`() {
        let file = SourceText(
            path: "x.swift",
            text: """
                let a = "unsafe \\(unsafe("}")) {" // unsafe
                /* unsafe /* unsafe */ unsafe */ let b = #"unsafe " unsafe"#
                func `unsafe {`() { unsafe c() }
                """)

        #expect(file.lines(withWord: "unsafe") == [3])
        #expect(file.functions.map(\.lines) == [1])
    }

    @Test(arguments: [
        ("try! x", "try!", true), ("retry!", "try!", false), ("print(1)", "print", true),
        ("fingerprint(1)", "print", false), ("a.sleep(1)", "sleep", true),
        ("unsafely", "unsafe", false),
    ])
    func `words are whole words`(_ line: String, _ word: String, _ isFound: Bool) {
        #expect(SourceText.contains(word, in: line) == isFound)
    }

    @Test func `a requirement of a protocol has no body, its neighbour has`() {
        let file = SourceText(
            path: "x.swift",
            text: """
                protocol P {
                    func a() -> [Int]
                    init(_ x: Int)
                }
                struct S {
                    init(_ make: () -> Int = { 1 }) {
                        self.init(3)
                    }
                    func b() {
                        if true { }
                    }
                }
                """)

        #expect(file.functions.map(\.name) == ["init", "b"])
        #expect(file.functions.map(\.lines) == [3, 3])
    }

    @Test func `imports are read with their access level and kind`() {
        let file = SourceText(
            path: "x.swift",
            text: "internal import Glibc\n@testable import CLI\nimport struct Foundation.URL\n")

        #expect(file.imports.map(\.module) == ["Glibc", "CLI", "Foundation"])
    }

    @Test func `a tab reaches to the next eighth column`() {
        #expect(SizeTests.columns("\tx") == 9)
        #expect(SizeTests.columns("ab\tx") == 9)
    }

    @Test func `options are found under their own or their custom name`() {
        let file = SourceText(
            path: "x.swift",
            text: """
                @Option(name: .customLong("config"), help: "x")
                var configDirectory: String
                @Option(help: "y") var workersMax: Int
                """)

        #expect(file.options.map(\.name) == ["config", "workers-max"])
    }
}
