import TestSupport
import Testing

@Suite("A change of configuration (docs/configuration.md)", .serialized)
struct ChangeTests {
    @Test func `takes effect under load without a failed request`() throws {
        let mesh = try SmallMesh.running { bed in
            try bed.route("shared", of: "shared", rules: SmallMesh.split(0))
        }
        defer { mesh.close() }
        let before = try mesh.quiet.far.requests()
        let load = try mesh.client.start(
            "wrk", ["wrk", "-t1", "-c16", "-d5s", SmallMesh.shared.urls[0] + "/"])
        let start = try mesh.quiet.near.requests()
        try eventually("the load flows") { try mesh.quiet.near.requests() > start + 100 }
        #expect(try mesh.quiet.far.requests() == before, "weight 0 gets nothing")

        try mesh.bed.route("shared", of: "shared", rules: SmallMesh.split(100))
        try eventually("far gets requests", within: 4) {
            try mesh.quiet.far.requests() > before + 100
        }

        #expect(load.wait(seconds: 20) == 0)
        #expect(Load(load.text).errors == 0, "\(load.text)")
        #expect(try mesh.client.curl(SmallMesh.shared.urls[0] + "/").headers["x-pod"] == "far")
    }

    @Test func `that is no YAML keeps the file's last good objects, and all others take effect`()
        throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.route("shared", of: "shared", rules: SmallMesh.split(100))
        }
        defer { mesh.close() }

        try mesh.bed.configure("route-shared.yaml", "kind: [HTTPRoute\n  spec: }")
        try mesh.bed.route(
            "near", of: "engine-near", rules: "- backendRefs: [{name: engine-far, port: 80}]")

        try eventually("the good file's route is in force") {
            try mesh.client.curl(SmallMesh.engineNear.urls[0]).headers["x-pod"] == "far"
        }
        let kept = try mesh.client.curl(SmallMesh.shared.urls[0] + "/")
        #expect(kept.headers["x-pod"] == "far", "\(kept)\n\(mesh.logs)")
    }

    @Test func `with one bad object refuses that one by file, line and field and serves the rest`()
        throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.route("shared", of: "shared", rules: SmallMesh.split(100))
            try bed.route(
                "bad", of: "engine-near",
                rules: "- backendRefs: [{name: engine-far, port: 80, weight: lots}]")
        }
        defer { mesh.close() }

        let validated = try Command.run(
            [Binaries.malla, "config", "validate", mesh.bed.configuration])
        #expect(validated.status == 65, "\(validated)")
        let said = validated.output + validated.errors
        for word in ["route-bad.yaml", "bed/bad", "weight"] {
            #expect(said.contains(word), "\(said)")
        }
        let served = try mesh.client.curl(SmallMesh.shared.urls[0] + "/")
        #expect(served.headers["x-pod"] == "far", "\(served)\n\(mesh.logs)")
        let own = try mesh.client.curl(SmallMesh.engineNear.urls[0] + "/")
        #expect(own.headers["x-pod"] == "near", "\(own)\n\(mesh.logs)")
    }

    @Test func `the demo's own configuration is valid`() throws {
        let outcome = try Command.run(
            [Binaries.malla, "config", "validate", Binaries.repository + "/demo/config"])

        #expect(outcome.status == 0, "\(outcome)")
    }
}
