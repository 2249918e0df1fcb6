import TestSupport
import Testing

@Suite("Services with L7 rules are served by the engine (ARCHITECTURE.md)", .serialized)
struct RouteTests {
    @Test func `a captured call reaches local and remote pods from the client's own address`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }

        for (service, pod) in [(SmallMesh.engineNear, "near"), (SmallMesh.engineFar, "far")] {
            for (url, source) in zip(service.urls, [mesh.client.v4, mesh.client.v6]) {
                let answer = try mesh.client.curl(url + "/")
                #expect(answer.status == 200, "\(url): \(answer.problem)\n\(mesh.logs)")
                #expect(answer.headers["x-pod"] == pod)
                #expect(answer.headers["x-client"] == source)
            }
        }
        #expect(try mesh.node.metric("istio_requests_total") >= 4)
    }

    @Test func `a header, a rewrite, a redirect, a modifier and an unknown backend do as written`()
        throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.route("shared", of: "shared", rules: SmallMesh.split(10))
        }
        defer { mesh.close() }
        let url = SmallMesh.shared.urls[0]

        let forced = try mesh.client.curl("-H", "x-version: far", url + "/")
        #expect(forced.headers["x-pod"] == "far", "\(forced)\n\(mesh.logs)")
        let rewritten = try mesh.client.curl(url + "/old/tea?cup=1")
        #expect(rewritten.headers["x-uri"] == "/new/tea?cup=1", "\(rewritten)")
        let moved = try mesh.client.curl(url + "/moved")
        #expect(moved.status == 301, "\(moved)")
        #expect(moved.headers["location"] == "http://shop.example/moved", "\(moved)")
        let marked = try mesh.client.curl(url + "/marked")
        #expect(marked.headers["x-added"] == "yes", "\(marked)")
        #expect(marked.headers["x-seen"] == "by malla", "\(marked)")
        let nowhere = try mesh.client.curl(url + "/nowhere")
        #expect(nowhere.status == 500, "\(nowhere)")
    }

    @Test func `a 90-10 canary is within a point over 100 000 requests, none of which fails`()
        throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.route("shared", of: "shared", rules: SmallMesh.split(10))
        }
        defer { mesh.close() }
        let near = try mesh.quiet.near.requests()
        let far = try mesh.quiet.far.requests()

        var total = 0
        for round in 1...15 where total < 100_000 {
            let load = try mesh.client.load(
                SmallMesh.shared.urls[round % 2] + "/", connections: 64, seconds: 6)
            #expect(load.errors == 0, "\(load.text)")
            total += load.requests
        }

        #expect(total >= 100_000)
        #expect(try mesh.node.metric("malla_access_log_dropped_total") == 0, "nobody takes any")
        let toNear = try mesh.quiet.near.requests() - near
        let toFar = try mesh.quiet.far.requests() - far
        let share = Double(toFar) / Double(toNear + toFar)
        #expect(abs(share - 0.1) <= 0.01, "far got \(toFar), near \(toNear)")
    }

    @Test func `a Gateway's listener answers from outside on both nodes and both families`() throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.configure("gateway.yaml", Self.gateway)
            try bed.route(
                "front", parent: "{name: front}",
                rules: "- backendRefs: [{name: engine-far, port: 80}]")
        }
        defer { mesh.close() }

        for node in mesh.bed.topology.nodes {
            for address in [node.v4, "[\(node.v6)]"] {
                let answer = Curl.response(
                    try mesh.bed.outside(["curl", "-sSi", "-m", "5", "http://\(address)/"]))
                #expect(answer.headers["x-pod"] == "far", "\(address): \(answer)\n\(mesh.logs)")
            }
        }
    }

    static let gateway = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: GatewayClass
        metadata: {name: malla}
        spec: {controllerName: malla.io/gateway-controller}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: front, namespace: bed}
        spec:
          gatewayClassName: malla
          listeners: [{name: http, protocol: HTTP, port: 80}]

        """
}
