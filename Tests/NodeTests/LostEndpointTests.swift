import Foundation
import TestSupport
import Testing

@Suite("TCP to an endpoint that its service has lost (docs/configuration.md)", .serialized)
struct LostEndpointTests {
    @Test
    func
        `TCP by a service ends when that loses the endpoint, though its pod lives and another has it`()
        throws
    {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"])) { bed in
            try bed.configure("slices.yaml", ServiceTrafficTests.slices(bed["far"]))
            try bed.configure("other.yaml", OpenMesh.service("other", pods: ["far"], at: 2))
        }
        defer { mesh.close() }
        let far = mesh.bed["far"]
        let crowd = try Crowd(mesh, far, others: ["10.96.0.2", "fd00:96::2"])
        try crowd.goOn("all are connected")

        for conditions in [
            "ready: false, serving: true, terminating: true", "ready: false, serving: false",
            "ready: false, serving: false, terminating: true",
        ] {
            try mesh.bed.configure(
                "slices.yaml", ServiceTrafficTests.slices(far.v4, far.v6, conditions))
            try crowd.goOn("it drains: \(conditions)")
        }
        try mesh.bed.configure("slices.yaml", ServiceTrafficTests.slices(mesh.bed["near"]))
        try crowd.end()
        // The pod lives, and those who came by another way go on.
        try mesh.remove(pod: "far")
        try eventually("they end with the pod: \(crowd.other.map(\.text))\n\(mesh.logs)") {
            crowd.other.prefix(2).allSatisfy { $0.text.contains("ECONNABORTED") }
        }
    }

    @Test
    func `TCP to an endpoint that its service lost while no agent ran is reset when one is back`()
        throws
    {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"])) { bed in
            try bed.configure("slices.yaml", ServiceTrafficTests.slices(bed["far"]))
            try bed.configure("other.yaml", OpenMesh.service("other", pods: ["far"], at: 2))
        }
        defer { mesh.close() }
        let crowd = try Crowd(mesh, mesh.bed["far"], others: ["10.96.0.2", "fd00:96::2"])
        try crowd.goOn("all are connected")
        mesh.agents[0].stop()
        try mesh.bed.configure("slices.yaml", ServiceTrafficTests.slices(mesh.bed["near"]))
        try crowd.goOn("nobody has told them")
        try mesh.node.startAgent()
        try crowd.end()
    }

    @Test func `TCP by a service that is deleted ends, by another it does not`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["far"])) { bed in
            try bed.configure("other.yaml", OpenMesh.service("other", pods: ["far"], at: 2))
        }
        defer { mesh.close() }
        let crowd = try Crowd(mesh, mesh.bed["far"], others: ["10.96.0.2", "fd00:96::2"])
        try crowd.goOn("all are connected")
        try mesh.bed.configure("service.yaml", "")
        try crowd.end()
    }

    @Test func `TCP of a pod to itself by its service ends when that loses the pod`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"]))
        defer { mesh.close() }
        let links = try ["10.96.0.1", "fd00:96::1"].map {
            try mesh.bed.startOutside(
                "home-\($0)", ServiceTrafficTests.patientConnection + [$0], in: "near")
        }
        try eventually("it answers itself: \(links.map(\.text))\n\(mesh.counters)") {
            links.allSatisfy { $0.text.contains("x-pod: near") }
        }
        try mesh.bed.configure("service.yaml", OpenMesh.service("web", pods: ["far"]))
        try eventually("they are reset: \(links.map { $0.text.suffix(200) })") {
            links.allSatisfy { $0.text.contains("ECONNRESET") }
        }
    }

    /// Connections to a pod by the service `web`, of every kind and family, and some that came to
    /// it another way.
    private struct Crowd {
        let mesh: OpenMesh.Running
        let pod: String
        /// Balanced at the socket.
        let seen: [TestProcess]
        /// At the pod's interface, and at an uplink.
        let unseen: [() -> String]
        /// By other services, and straight to the pod.
        let other: [TestProcess]

        init(_ mesh: OpenMesh.Running, _ pod: TestPod, others: [String]) throws {
            let program = ServiceTrafficTests.patientConnection
            let client = mesh.bed["client"]
            self.mesh = mesh
            self.pod = pod.name
            seen = try ["10.96.0.1", "fd00:96::1"].map { try client.start($0, program + [$0]) }
            let outside = try ["10.98.0.1", "fd00:98::1"].map {
                try mesh.bed.startOutside($0, program + [$0])
            }
            let logs = try mesh.unseen(program)
            unseen =
                outside.map { process in { () -> String in process.text } }
                + logs.map { log in { () -> String in Command.text(log) } }
            other =
                try others.map { try client.start($0, program + [$0]) }
                + [pod.v4, pod.v6].map { try client.start($0, program + [$0, "8080"]) }
        }

        private func answers(_ texts: [String]) -> [Int] {
            texts.map { $0.components(separatedBy: "x-pod: \(pod)").count }
        }

        private func advance(_ why: String, _ texts: () -> [String]) throws {
            let before = answers(texts())
            try eventually("\(why): \(texts().map { $0.suffix(100) })\n\(mesh.logs)") {
                zip(answers(texts()), before).allSatisfy { $0 > $1 + 2 }
            }
        }

        func goOn(_ why: String) throws {
            try advance(why) { (seen + other).map(\.text) + unseen.map { $0() } }
        }

        /// Those by `web` are reset, and the others are not.
        func end() throws {
            func texts() -> [String] { seen.map(\.text) + unseen.map { $0() } }
            try eventually("they are reset: \(texts().map { $0.suffix(100) })\n\(mesh.logs)") {
                seen.allSatisfy { $0.text.contains("ECONNABORTED") }
                    && unseen.allSatisfy { $0().contains("ECONNRESET") }
            }
            try advance("the others go on") { other.map(\.text) }
            #expect(other.allSatisfy { $0.exitStatus == nil && !$0.text.contains("ECONN") })
        }
    }
}
