// STYLE.md, R19 and R29: what an operator can meet is in the docs, under its name in the code.

import Testing

@Suite("The docs name what the code does (STYLE.md R19)")
struct DocumentationTests {
    @Test func `every hook and verdict of the datapath is explained in docs/verdicts.md`() throws {
        let header = try #require(Repository.c.first { $0.path == "bpf/abi/malla_abi.h" })
        let page = try Repository.text("docs/verdicts.md")
        var missing: [Violation] = []
        var rows = 0
        for (index, line) in header.lines.enumerated() {
            guard let row = line.firstMatch(of: /X\([A-Z0-9_]+, ([0-9]+), "([a-z0-9_]+)"\)/) else {
                continue
            }
            rows += 1
            guard !page.contains("`\(row.2)`") else { continue }
            missing.append(
                Violation(
                    path: header.path, line: index + 1, remedy: "explain `\(row.2)` in the docs"))
        }
        #expect(rows > 0, "the lists of hooks and verdicts are not where this test looks for them")
        expectNone(missing)
    }

    @Test func `the numbers of the verdicts in the docs are those of the kernel`() throws {
        let header = try #require(Repository.c.first { $0.path == "bpf/abi/malla_abi.h" })
        let text = header.lines.joined(separator: "\n")
        let list = text.components(between: "MALLA_VERDICT_LIST(X)", and: "#").first ?? ""
        var wrong: [Violation] = []
        let page = try Repository.text("docs/verdicts.md").split(
            separator: "\n", omittingEmptySubsequences: false)
        for (index, line) in page.enumerated() {
            guard let row = line.firstMatch(of: /^\| ([0-9]+) \| `([a-z0-9_]+)` \|/) else {
                continue
            }
            guard !list.contains(", \(row.1), \"\(row.2)\")") else { continue }
            let remedy = "the kernel has no verdict \(row.1) called \(row.2)"
            wrong.append(Violation(path: "docs/verdicts.md", line: index + 1, remedy: remedy))
        }
        expectNone(wrong)
    }

    @Test func `every metric is listed in docs/metrics.md, and every listed one exists`() throws {
        let page = try Repository.text("docs/metrics.md")
        var exported: Set<String> = []
        var missing: [Violation] = []
        for file in Repository.sources where Self.exposesMetrics(file) {
            for literal in file.literals {
                for name in Self.metrics(in: literal.text) {
                    exported.insert(name)
                    guard !page.contains("`\(Self.family(name))`") else { continue }
                    missing.append(
                        Violation(
                            path: file.path, line: literal.line,
                            remedy: "list `\(name)` in the docs"))
                }
            }
        }
        expectNone(missing)

        // A histogram has three names beside its own, which is what the page lists.
        for name in exported {
            for suffix in ["_bucket", "_sum", "_count"] { exported.remove(name + suffix) }
        }
        let listed = Set(page.split(separator: "`").map(String.init).filter(Self.isMetric))
        #expect(listed.subtracting(exported).sorted() == [], "remove them from docs/metrics.md")
    }

    /// Metrics are written by the engine's and the agent's expositions only.
    private static func exposesMetrics(_ file: SourceText) -> Bool {
        file.path.contains("/Metrics/") || file.path.hasSuffix("Metrics.swift")
    }

    @Test func `every failure of the engine is in docs/errors.md with its status, and no other`()
        throws
    {
        let page = try Repository.text("docs/errors.md")
        let table = try Repository.text("Sources/L7Engine/Exchange/Reply.swift")
        let refusals = try Repository.text("Sources/L7Engine/Codec/Refusal.swift")
        var known: Set<String> = []
        var missing: [String] = []
        for row in table.matches(of: /Row\(\s*"([a-z_]+)",\s*([0-9]+),/) {
            known.insert(String(row.1))
            let status = row.2 == "0" ? "none" : String(row.2)
            if !page.contains("| `\(row.1)` | \(status) |") { missing.append(String(row.1)) }
        }
        var labels: [String: String] = [:]
        for row in refusals.matches(of: /case \.([A-Za-z]+): "([a-z_]+)"/) {
            known.insert(String(row.2))
            labels[String(row.1)] = String(row.2)
        }
        for row in table.matches(of: /case ([^:]+):\s*refused\(([0-9]+),/) {
            for name in row.1.matches(of: /\.([A-Za-z]+)/) {
                let label = labels.removeValue(forKey: String(name.1)) ?? String(name.1)
                if !page.contains("| `\(label)` | \(row.2) |") { missing.append(label) }
            }
        }
        #expect(labels.isEmpty, "refusals without a status: \(labels)")
        #expect(known.count > 40, "the table is not where this test looks for it")
        #expect(missing == [], "explain them in docs/errors.md")
        let listed = page.matches(of: /\n\| `([a-z_]+)` \|/).map { String($0.1) }
        #expect(Set(listed).subtracting(known).sorted() == [], "remove them from docs/errors.md")
    }

    @Test func `every option of the agent is in docs/operations.md`() throws {
        let page = try Repository.text("docs/operations.md")
        var missing: [Violation] = []
        for file in Repository.sources where file.path.hasPrefix("Sources/NodeAgent/") {
            for (name, line) in file.options where !page.contains("`--\(name)") {
                missing.append(
                    Violation(path: file.path, line: line, remedy: "explain --\(name) in the docs"))
            }
        }
        expectNone(missing)
    }

    @Test func `every relative link of a page leads to a file`() throws {
        let known = Set(Repository.paths)
        let folders = Set(known.flatMap(Self.parents))
        var broken: [Violation] = []
        for path in known where path.hasSuffix(".md") {
            let lines = try Repository.text(path).split(
                separator: "\n", omittingEmptySubsequences: false)
            for (index, line) in lines.enumerated() {
                for target in Self.links(in: String(line)) {
                    let resolved = Self.resolve(target, from: path)
                    guard !known.contains(resolved) && !folders.contains(resolved) else { continue }
                    broken.append(
                        Violation(path: path, line: index + 1, remedy: "\(target) does not exist"))
                }
            }
        }
        expectNone(broken)
    }

    @Test func `every page that is cited exists`() throws {
        let names = Set(
            Repository.paths.compactMap { $0.split(separator: "/").last.map(String.init) })
        var missing: [Violation] = []
        for path in Repository.paths where !path.hasPrefix("Tests/TidyTests/") {
            guard let text = try? Repository.text(path) else { continue }
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            for (index, line) in lines.enumerated() where line.contains(".md") {
                for match in line.matches(of: /[A-Za-z0-9_-]+\.md\b/)
                where !names.contains(String(match.output)) {
                    let remedy = "\(match.output) is not here; cite what is"
                    missing.append(Violation(path: path, line: index + 1, remedy: remedy))
                }
            }
        }
        expectNone(missing)
    }

    // MARK: - Reading

    private static func names(in line: String, prefix: String) -> [String] {
        line.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init)
            .filter { $0.hasPrefix(prefix) }
    }

    private static func metrics(in text: String) -> [String] {
        names(in: text, prefix: "malla_").filter(isMetric)
            + names(in: text, prefix: "istio_").filter(isMetric)
    }

    private static func family(_ name: String) -> String {
        let parts = ["_bucket", "_sum", "_count"].filter(name.hasSuffix)
        return parts.first.map { String(name.dropLast($0.count)) } ?? name
    }

    private static func isMetric(_ name: String) -> Bool {
        guard name.hasPrefix("malla_") || name.hasPrefix("istio_") else { return false }
        return name.allSatisfy { $0.isLowercase || $0.isNumber || $0 == "_" }
    }

    private static func links(in line: String) -> [String] {
        line.components(between: "](", and: ")").filter {
            !$0.contains("://") && !$0.hasPrefix("#") && !$0.hasPrefix("mailto:")
        }.map { String($0.split(separator: "#")[0]) }
    }

    private static func resolve(_ target: String, from page: String) -> String {
        var parts = page.split(separator: "/").dropLast().map(String.init)
        for part in target.split(separator: "/") {
            switch part {
            case ".": continue
            case "..": _ = parts.popLast()
            default: parts.append(String(part))
            }
        }
        return parts.joined(separator: "/")
    }

    private static func parents(_ path: String) -> [String] {
        let parts = path.split(separator: "/")
        return (0..<parts.count).map { parts[..<$0].joined(separator: "/") }
    }
}

extension String {
    func components(between open: String, and close: Character) -> [String] {
        var found: [String] = []
        var rest = self[...]
        while let start = rest.firstRange(of: open) {
            rest = rest[start.upperBound...]
            guard let end = rest.firstIndex(of: close) else { break }
            found.append(String(rest[..<end]))
            rest = rest[end...]
        }
        return found
    }
}

extension SourceText {
    /// Names of the command line's options: `var configDirectory` with `name: .customLong("…")`, or
    /// the variable's own name, as ArgumentParser derives them.
    var options: [(name: String, line: Int)] {
        var found: [(String, Int)] = []
        for (index, line) in code.enumerated()
        where SourceText.contains("@Option", in: line) || SourceText.contains("@Flag", in: line) {
            let last = min(index + 12, lines.count - 1)
            let declaration = lines[index...last].joined(separator: "\n")
            if line.contains("help: .hidden") { continue }
            if let custom = declaration.components(between: ".customLong(\"", and: "\"").first,
                let start = declaration.firstRange(of: ".customLong"),
                !declaration[..<start.lowerBound].contains("var ")
            {
                found.append((custom, index + 1))
            } else if let variable = declaration.components(between: "var ", and: ":").first {
                found.append((Self.dashed(variable), index + 1))
            }
        }
        return found
    }

    private static func dashed(_ name: String) -> String {
        name.map { $0.isUppercase ? "-" + $0.lowercased() : String($0) }.joined()
    }
}
