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
