// STYLE.md, R13 and R29: where belief is allowed, what is never called, what is never left behind.

import Testing

@Suite("Unsafe code (STYLE.md R13)")
struct UnsafeTests {
    @Test func `only the listed files say unsafe`() {
        var wrong: [Violation] = []
        for file in Repository.sources where !UnsafeFiles.unsafe.contains(file.path) {
            wrong += file.lines(withWord: "unsafe").prefix(1).map {
                let remedy = "`unsafe` outside the listed files; use the owner that wraps this call"
                return Violation(path: file.path, line: $0, remedy: remedy)
            }
        }
        expectNone(wrong)
    }

    @Test func `only the listed files say @unchecked Sendable`() {
        var wrong: [Violation] = []
        for file in Repository.sources where !UnsafeFiles.unchecked.contains(file.path) {
            wrong += file.lines(withWord: "@unchecked").map {
                let remedy = "make it a value, or guard it with a Mutex that the compiler can see"
                return Violation(path: file.path, line: $0, remedy: remedy)
            }
        }
        expectNone(wrong)
    }

    @Test func `the lists name no file that does without`() {
        let users = Set(
            Repository.sources.filter { !$0.lines(withWord: "unsafe").isEmpty }.map(\.path))
        let unchecked = Set(
            Repository.sources.filter { !$0.lines(withWord: "@unchecked").isEmpty }.map(\.path))

        #expect(UnsafeFiles.unsafe.subtracting(users) == [])
        #expect(UnsafeFiles.unchecked.subtracting(unchecked) == [])
    }
}

@Suite("Banned calls and leftovers (STYLE.md R29)")
struct BannedTests {
    struct Ban {
        let word: String
        /// Prefixes of the paths where it is banned, and those inside them where it is not.
        let places: [String]
        var except: [String] = []
        let remedy: String
    }

    /// Where the engine serves requests.
    private static let requestPath = [
        "Sources/L7Engine/Codec/", "Sources/L7Engine/Exchange/", "Sources/L7Engine/Upstream/",
        "Sources/L7Engine/Worker/",
    ]
    /// A crossing into a worker, once for a change.
    private static let mail = ["Sources/L7Engine/Worker/Mailbox.swift"]

    static let bans = [
        Ban(word: "try!", places: ["Sources/", "Tests/"], remedy: "throw, or handle the error"),
        Ban(
            word: "as!", places: ["Sources/", "Tests/"], remedy: "use as? and say what else happens"
        ),
        Ban(
            word: "fatalError()", places: ["Sources/", "Tests/"],
            remedy: "say in a sentence what cannot happen: preconditionFailure(\"…\")"),
        Ban(
            word: "print", places: ["Sources/"], except: ["Sources/CLI/", "Sources/NodeAgent/"],
            remedy: "the hot path never logs (R23); answer a value, or count it"),
        Ban(
            word: "async",
            places: ["Sources/L7Engine/", "Sources/BPFLoader/", "Sources/Supervisor/"],
            remedy: "a worker owns its thread (R6); post to its mailbox"),
        Ban(
            word: "Mutex", places: requestPath, except: mail,
            remedy: "no request waits for a lock (R6); count in the tally, or post to a mailbox"),
        Ban(
            word: "withLock", places: requestPath, except: mail,
            remedy: "no request waits for a lock (R6); count in the tally, or post to a mailbox"),
        Ban(
            word: "@_exported", places: ["Sources/"], remedy: "import what a file uses in that file"
        ),
        Ban(
            word: "nonisolated(unsafe)", places: ["Sources/"],
            remedy: "make it a constant, or own it in one thread"),
        Ban(word: "sleep", places: ["Tests/"], remedy: "wait for the condition, with a deadline"),
        Ban(
            word: "usleep", places: ["Tests/"], except: ["Tests/TestSupport/"],
            remedy: "wait for the condition, with a deadline"),
    ]

    @Test func `no banned call is made`() {
        var wrong: [Violation] = []
        for file in Repository.swift {
            for ban in Self.bans
            where ban.places.contains(where: file.path.hasPrefix)
                && !ban.except.contains(where: file.path.hasPrefix)
            {
                wrong += file.lines(withWord: ban.word).map {
                    Violation(path: file.path, line: $0, remedy: "`\(ban.word)`: \(ban.remedy)")
                }
            }
        }
        expectNone(wrong)
    }

    @Test func `nothing is left to be done by a comment`() throws {
        // Spelt in two parts, so that this file does not accuse itself.
        let markers = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
        var left: [Violation] = []
        for path in Repository.paths where !path.hasPrefix("bpf/LICENSE") && path != "LICENSE" {
            guard let text = try? Repository.text(path) else { continue }
            for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false)
                .enumerated()
            where markers.contains(where: { SourceText.contains($0, in: String(line)) }) {
                left.append(
                    Violation(path: path, line: index + 1, remedy: "do it, or open an issue"))
            }
        }
        expectNone(left)
    }

    @Test func `no line ends in white space and every file in one line end`() throws {
        let kinds = [".swift", ".c", ".h", ".md", ".yaml", ".yml", ".sh", "Makefile", ".py"]
        var wrong: [Violation] = []
        for path in Repository.paths where kinds.contains(where: path.hasSuffix) {
            let text = try Repository.text(path)
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            for (index, line) in lines.enumerated() where line.last == " " || line.last == "\t" {
                wrong.append(
                    Violation(path: path, line: index + 1, remedy: "remove the white space"))
            }
            if !text.hasSuffix("\n") || text.hasSuffix("\n\n") {
                wrong.append(
                    Violation(path: path, line: lines.count, remedy: "end in one line end"))
            }
        }
        expectNone(wrong)
    }

    @Test func `files are nouns, and none of the nouns that mean nothing`() {
        let empty = ["Manager", "Helper", "Util", "Utils", "Handler", "Data", "Info"]
        let wrong = (Repository.swift + Repository.c).compactMap { file -> Violation? in
            let name = file.path.split(separator: "/").last.map(String.init) ?? ""
            let stem = name.split(separator: ".").first.map(String.init) ?? ""
            guard empty.contains(where: stem.hasSuffix) else { return nil }
            return Violation(path: file.path, line: 1, remedy: "name it after what it is (R8)")
        }
        expectNone(wrong)
    }

    @Test func `what the kernel runs carries both licences`() {
        let wrong = Repository.c.filter { $0.path.hasPrefix("bpf/") }.filter { file in
            !file.lines.prefix(3).contains {
                $0.contains("SPDX-License-Identifier:") && $0.contains("GPL-2.0-only")
                    && $0.contains("BSD-2-Clause")
            }
        }.map {
            Violation(
                path: $0.path, line: 1,
                remedy: "begin with /* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */")
        }
        expectNone(wrong)
    }
}
