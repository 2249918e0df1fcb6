import TestSupport
import Testing

@Suite("malla top shows what workloads cost (docs/cli.md)", .serialized)
struct TopTests {
    /// The table's cells, line by line.
    private func table(_ node: TestNode, _ more: String...) throws -> [[String]] {
        let text = try node.run([Binaries.malla, "--socket", node.socket, "top"] + more).output
        return text.split(separator: "\n").map { line in
            line.split(separator: "  ", omittingEmptySubsequences: true)
                .map { $0.trimming(while: \.isWhitespace) }
        }
    }

    @Test func `the accounts of an agent that served, who cost most first, in whole numbers`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        #expect(try mesh.node.malla("top").output == "Nobody used the engine yet.\n")
        let url = SmallMesh.engineFar.urls[0]
        let body = String(repeating: "x", count: 1000)
        for (pod, count) in [("near", 3), ("client", 3000)] {
            let asked = try mesh.bed[pod].run([
                "curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code} ", "-d", body,
                "\(url)/[1-\(count)]",
            ])
            #expect(asked.output.split(separator: " ").count { $0 != "503" } == count, "\(asked)")
        }
        var rows: [[String]] = []
        try eventually("all is counted") {
            rows = try table(mesh.node)
            return rows.count == 3 && rows[1][3] == "3000" && rows[2][3] == "3"
                && rows.dropFirst().allSatisfy { $0[6] == "0" }
        }

        #expect(
            rows[0] == [
                "NAMESPACE", "WORKLOAD", "CPU MS", "REQUESTS", "RECEIVED", "SENT", "CONNECTIONS",
                "BUFFERS", "SHED", "QUARANTINED UNTIL",
            ])
        #expect(
            rows.dropFirst().map { Array($0.prefix(2)) } == [["bed", "client"], ["bed", "near"]])
        for row in rows.dropFirst() {
            let numbers = row.dropFirst(2).compactMap { Int($0) }
            try #require(numbers.count == 7 && row.last == "-", "\(row)")
            let label = "{workload=\"\(row[1])\",namespace=\"bed\"}"
            // Bytes, not kilobytes: what was sent, and what the metrics say.
            #expect(numbers[2] == numbers[1] * 1000)
            for (series, column) in [("requests", 1), ("sent_bytes", 3), ("shed", 6)] {
                let metric = try mesh.node.metric("malla_account_\(series)_total\(label)")
                #expect(Int(metric) == numbers[column], "\(series) of \(row)")
            }
            let seconds = try mesh.node.metric("malla_account_cpu_seconds_total\(label)")
            #expect(Double(numbers[0]) <= seconds * 1000)
            #expect(Array(numbers[4...]) == [0, 0, 0])
        }
        let cpu = rows.dropFirst().compactMap { Int($0[2]) }
        #expect(cpu == cpu.sorted(by: >))
        #expect(try table(mesh.node, "-n", "shop") == [["Nobody used the engine yet."]])
    }
}

extension Substring {
    fileprivate func trimming(while isOut: (Character) -> Bool) -> String {
        var rest = drop(while: isOut)
        while let last = rest.last, isOut(last) { rest.removeLast() }
        return String(rest)
    }
}
