import Glibc
import TestSupport
import Testing

@Suite("The black box (DESIGN: two crashes that name a workload)", .serialized)
struct QuarantineTests {
    private func child(_ node: TestNode) throws -> String {
        let status = try node.curl("http://\(TestNode.admin)/v1/status").body
        guard let place = status.firstRange(of: "\"pid\":") else { return "" }
        return String(status[place.upperBound...].prefix { $0.isNumber })
    }

    @Test func `whoever makes the engine trap twice is refused, and the others are served`() throws
    {
        let bed = try Testbed("n1: evil, good, near")
        defer { bed.close() }
        _ = try bed["near"].serve()
        try bed.describe([SmallMesh.engineNear])
        let node = bed[node: "n1"]
        let agent = try node.startAgent(more: ["--trap-path", "/trap"])
        let url = SmallMesh.engineNear.urls[0]
        #expect(try bed["evil"].curl(url).status == 200)

        for number in 1...2 {
            let before = try child(node)
            #expect(try bed["evil"].curl(url + "/trap").status == 0)
            try eventually("child after crash \(number); \(agent.text.suffix(2000))", within: 20) {
                let now = try child(node)
                return !now.isEmpty && now != before
            }
        }

        try eventually("the engine serves again", within: 20) {
            try bed["good"].curl(url).status == 200
        }
        let refused = try bed["evil"].curl(url)
        #expect(refused.status == 503)
        #expect(refused.body.contains("reason: quarantined"), "\(refused)")
        #expect(try bed["good"].curl(url).status == 200)
        #expect(try node.metric("malla_accounts_quarantined") == 1)
        let status = try node.malla("status")
        #expect(status.output.contains("quarantined: ") && status.output.contains("evil"))
        let top = try node.malla("top").output.split(separator: "\n")
        for (name, isOut) in [("evil", true), ("good", false)] {
            let line = try #require(top.first { $0.contains(" \(name) ") }, "\(top)")
            let hasEnd = line.hasSuffix("Z") && line.contains("  20")
            #expect(hasEnd == isOut, "\(line)")
        }
        #expect(agent.text.contains("quarantined: two crashes named it"))
    }

    @Test func `a server whose answers make the engine trap is refused, and who asked is served`()
        throws
    {
        let bed = try Testbed("n1: caller, bad, well")
        defer { bed.close() }
        // What is no path of a request, so that the answer springs the trap.
        _ = try bed["bad"].serve(
            locations: "location /answer { add_header x-answer /trap; return 200 bad; }")
        _ = try bed["well"].serve()
        let alone = TestService("alone", 1, "http", to: ["bad"])
        let both = TestService("both", 2, "http", to: ["bad", "well"])
        let other = TestService("other", 3, "http", to: ["well"])
        try bed.describe([alone, both, other])
        let node = bed[node: "n1"]
        let agent = try node.startAgent(more: ["--trap-path", "/trap"])
        let caller = bed["caller"]
        #expect(try caller.curl(alone.urls[0]).status == 200)

        for number in 1...2 {
            let before = try child(node)
            #expect(try caller.curl(alone.urls[0] + "/answer").status == 0)
            try eventually("child after crash \(number); \(agent.text.suffix(2000))", within: 20) {
                let now = try child(node)
                return !now.isEmpty && now != before
            }
        }

        try eventually("the engine serves again", within: 20) {
            try caller.curl(other.urls[0]).status == 200
        }
        let refused = try caller.curl(alone.urls[0])
        #expect(refused.status == 503)
        #expect(refused.body.contains("reason: upstream_quarantined"), "\(refused)")
        for url in both.urls + both.urls + both.urls {
            let answer = try caller.curl(url)
            #expect(answer.status == 200 && answer.headers["x-pod"] == "well", "\(answer)")
        }
        #expect(try node.metric("malla_accounts_quarantined") == 1)
        let failed = "malla_requests_failed_total{reason=\"upstream_quarantined\"}"
        #expect(try node.metric(failed) == 1)
        let status = try node.malla("status").output
        let named = status.split(separator: "\n").filter { $0.contains("quarantined: ") }
        #expect(named.count == 1 && named[0].contains("\(Testbed.space)/bad "), "\(status)")
        let top = try node.malla("top").output.split(separator: "\n")
        for (name, isOut) in [("bad", true), ("caller", false)] {
            let line = try #require(top.first { $0.contains(" \(name) ") }, "\(top)")
            #expect(line.hasSuffix("Z") == isOut, "\(line)")
        }
    }

    @Test func `a child that people kill names nobody`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        for _ in 1...3 {
            let before = try child(mesh.node)
            let pid = try #require(pid_t(before))
            kill(pid, SIGKILL)
            try eventually("the next child", within: 20) {
                let now = try child(mesh.node)
                return !now.isEmpty && now != before
            }
        }

        #expect(try mesh.node.metric("malla_accounts_quarantined") == 0)
        #expect(try mesh.client.curl(SmallMesh.engineFar.urls[0]).status == 200)
    }
}
