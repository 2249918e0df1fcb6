import TestSupport
import Testing

@Suite(
    "Every address of a service, from pods, nodes and outside (docs/configuration.md)", .serialized)
struct ServiceAddressTests {
    @Test func `pods and the node reach a service at all of its addresses, both families`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near", "far"]))
        defer { mesh.close() }

        for url in OpenMesh.urls {
            let pods = try mesh.bed["client"].curl(url)
            #expect(pods.status == 200, "pod to \(url): \(pods.problem)\n\(mesh.logs)")
            let nodes = try mesh.node.run(OpenMesh.ask + [url])
            #expect(Curl.response(nodes).status == 200, "node to \(url): \(nodes)\n\(mesh.logs)")
        }
        let loopback = try mesh.node.run(OpenMesh.ask + ["http://127.0.0.1:30080/"])
        #expect(Curl.response(loopback).status == 200, "\(loopback)")
    }

    @Test
    func `somebody outside reaches them, a local pod by his own address, others by the node's`()
        throws
    {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near", "far"]))
        defer { mesh.close() }

        for url in OpenMesh.outerUrls {
            var clients: [String: String] = [:]
            for _ in 1...24 {
                let answer = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url]))
                #expect(answer.status == 200, "\(url): \(answer.problem)\n\(mesh.counters)")
                clients[answer.headers["x-pod"] ?? "?"] = answer.headers["x-client"]
            }
            let isIPv4 = !url.contains("[")
            #expect(
                clients == [
                    "near": isIPv4 ? Topology.outsideV4 : Topology.outsideV6,
                    "far": isIPv4 ? mesh.node.v4 : mesh.node.v6,
                ], "\(url)")
        }
    }

    @Test func `a large answer comes whole through another node's endpoint`()
        throws
    {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["far"])) { bed in
            try bed["far"].start(
                "files",
                [
                    "/usr/bin/python3", "-m", "http.server", "8081", "--bind", "::", "-d",
                    bed.directory,
                ])
            try Command.shell("head -c 20000000 /dev/urandom > \(bed.directory)/big")
            try bed.configure(
                "big.yaml", OpenMesh.service("big", pods: ["far"], port: 81, target: 8081, at: 2))
        }
        defer { mesh.close() }
        let sum = try Command.shell("sha256sum < \(mesh.bed.directory)/big")

        try eventually("the files are served") {
            try mesh.bed["far"].curl("http://127.0.0.1:8081/hosts").status == 200
        }
        for host in [mesh.node.v4, "[\(mesh.node.v6)]"] {
            let got = try mesh.bed.outside(
                ["sh", "-c", "curl -sS -m 20 http://\(host):30081/big | sha256sum"])
            #expect(got.output == sum, "\(host): \(got)\n\(mesh.counters)")
        }
    }

    @Test
    func `externalTrafficPolicy Local serves its own pods only, and refuses where it has none`()
        throws
    {
        let mesh = try OpenMesh.running(
            OpenMesh.service("web", pods: ["near"], more: "externalTrafficPolicy: Local"))
        defer { mesh.close() }
        let other = mesh.bed[node: "n2"]

        for (host, client) in [
            (mesh.node.v4, Topology.outsideV4), ("[\(mesh.node.v6)]", Topology.outsideV6),
        ] {
            let url = "http://\(host):30080/"
            let answer = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url]))
            #expect(answer.headers["x-client"] == client, "\(answer)\n\(mesh.counters)")
        }
        for host in [other.v4, "[\(other.v6)]"] {
            let answer = try mesh.bed.outside(OpenMesh.ask + ["http://\(host):30080/"])
            #expect(answer.status == OpenMesh.refused, "\(host): \(answer)\n\(mesh.counters)")
        }
    }

    @Test func `internalTrafficPolicy Local keeps pods on their node`() throws {
        let mesh = try OpenMesh.running(
            OpenMesh.service("web", pods: ["near", "far"], more: "internalTrafficPolicy: Local"))
        defer { mesh.close() }

        for address in OpenMesh.addresses {
            let answers = try mesh.bed["client"].run(OpenMesh.visits(address, 12))
            #expect(answers.words == Array(repeating: "near", count: 12), "\(address): \(answers)")
        }
    }

    @Test func `a service without endpoints is refused at once, whoever asks`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: []))
        defer { mesh.close() }

        for url in OpenMesh.urls {
            let answer = try mesh.bed["client"].run(OpenMesh.ask + [url])
            #expect(answer.status == OpenMesh.refused, "pod to \(url): \(answer)")
        }
        for url in OpenMesh.outerUrls {
            let answer = try mesh.bed.outside(OpenMesh.ask + [url])
            #expect(answer.status == OpenMesh.refused, "\(url): \(answer)\n\(mesh.counters)")
        }
    }

    @Test func `what the socket hooks do not see is balanced at the pod's interface`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near", "far"])) { bed in
            try bed.configure("none.yaml", OpenMesh.service("none", pods: [], port: 81, at: 2))
        }
        defer { mesh.close() }

        // In the pod's network namespace, but in no cgroup of the mesh.
        func unseen(_ url: String) throws -> Outcome {
            try Command.run(
                ["nsenter", "--net=" + mesh.bed.namespace("client")] + OpenMesh.ask + [url])
        }
        for url in OpenMesh.urls {
            var pods: Set<String> = []
            for _ in 1...16 {
                let answer = Curl.response(try unseen(url))
                #expect(answer.status == 200, "\(url): \(answer.problem)\n\(mesh.counters)")
                pods.insert(answer.headers["x-pod"] ?? "?")
            }
            #expect(pods == ["near", "far"], "\(url)")
        }
        for url in ["http://10.96.0.2:81/", "http://[fd00:96::2]:81/"] {
            let answer = try unseen(url)
            #expect(answer.status == OpenMesh.refused, "\(url): \(answer)\n\(mesh.counters)")
        }
    }

    @Test func `a pod reaches itself through its service, at the socket and at its interface`()
        throws
    {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"]))
        defer { mesh.close() }

        for url in OpenMesh.urls {
            let seen = try mesh.bed["near"].curl(url)
            #expect(seen.headers["x-pod"] == "near", "\(url): \(seen.problem)")
            let unseen = Curl.response(
                try Command.run(
                    ["nsenter", "--net=" + mesh.bed.namespace("near")] + OpenMesh.ask + [url]))
            #expect(
                unseen.headers["x-pod"] == "near", "\(url): \(unseen.problem)\n\(mesh.counters)")
        }
    }

    @Test func `kube-proxy's rules for the same service do not stand in the way`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["far"])) { bed in
            for name in ["n1", "n2"] {
                _ = try bed[node: name].run(["nft", OpenMesh.kubeProxyRules(bed["far"])])
            }
        }
        defer { mesh.close() }

        for url in OpenMesh.outerUrls {
            for _ in 1...4 {
                let answer = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url]))
                #expect(
                    answer.headers["x-pod"] == "far", "\(url): \(answer.problem)\n\(mesh.counters)")
            }
        }
        for url in OpenMesh.urls {
            let answer = try mesh.bed["client"].curl(url)
            #expect(answer.headers["x-pod"] == "far", "\(url): \(answer.problem)")
        }
    }
}
