import Foundation
import TestSupport
import Testing

@Suite("HTTPS on a Gateway, TLS to endpoints (docs/configuration.md)", .serialized)
struct SecureTests {
    private static let gateway = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: bed}
        spec:
          gatewayClassName: malla
          listeners:
          - name: web
            port: 8443
            protocol: HTTPS
            hostname: a.example
            tls: {certificateRefs: [{name: web-tls}]}

        """

    private struct Fixture {
        let mesh: SmallMesh.Running
        let authority: TestAuthority

        init() throws {
            let authority = try TestAuthority()
            self.authority = authority
            let first = try authority.issue("DNS:a.example,DNS:first.example")
            mesh = try SmallMesh.running { bed in
                try bed.configure("gateway.yaml", SecureTests.gateway)
                try bed.configure("secret.yaml", SecureTests.secret(first))
                try bed.route(
                    "edge", parent: "{name: edge}",
                    rules: "- backendRefs: [{name: engine-near, port: 80}]")
            }
        }

        func close() {
            mesh.close()
            authority.remove()
        }

        func get() throws -> Response {
            try mesh.node.curl(
                "--cacert", authority.file, "--resolve", "a.example:8443:\(mesh.node.v4)",
                "https://a.example:8443/")
        }

        /// The names of the certificate that is served.
        func names() throws -> String {
            try mesh.node.run([
                "sh", "-c",
                """
                openssl s_client -connect \(mesh.node.v4):8443 -servername a.example </dev/null \
                  2>/dev/null | openssl x509 -noout -ext subjectAltName
                """,
            ]).output
        }
    }

    private static func secret(_ pair: TestAuthority.Pair) -> String {
        TestAuthority.secret("web-tls", in: Testbed.space, pair)
    }

    @Test func `a new certificate is served without a failed request, a bad one never`() throws {
        let fixture = try Fixture()
        defer { fixture.close() }
        let mesh = fixture.mesh
        let first = try fixture.get()
        #expect(first.status == 200, "\(first)\n\(mesh.logs)")
        #expect(first.headers["x-pod"] == "near")

        // wrk sends no server name for an address, so it loads a name; it does not verify.
        let load = try mesh.node.start(
            "wrk",
            [
                "unshare", "-m", "sh", "-c",
                "echo '\(mesh.node.v4) a.example' > \(mesh.bed.directory)/edge-hosts && "
                    + "mount --bind \(mesh.bed.directory)/edge-hosts /etc/hosts && "
                    + "exec wrk -t1 -c8 -d5s https://a.example:8443/",
            ])
        try eventually("the load flows") { try mesh.quiet.near.requests() > 100 }
        let second = try fixture.authority.issue("DNS:a.example,DNS:second.example")
        try mesh.bed.configure("secret.yaml", Self.secret(second))
        try eventually("the second certificate is served", within: 4) {
            try fixture.names().contains("second.example")
        }
        #expect(load.exitStatus == nil, "the load was there all the time")
        #expect(load.wait(seconds: 20) == 0)
        #expect(Load(load.text).errors == 0, "\(load.text)")

        let expired = try fixture.authority.issue("DNS:a.example", isExpired: true)
        try mesh.bed.configure("secret.yaml", Self.secret(expired))
        try eventually("the expired one is refused") {
            mesh.agents[0].text.contains("the certificate expired at 2020-01-02T00:00:00Z")
        }
        #expect(mesh.agents[0].text.contains("its last good version stays in force"))
        #expect(try fixture.names().contains("second.example"))
        #expect(try fixture.get().status == 200)
        #expect(
            try mesh.node.metric("malla_tls_handshakes_total{side=\"downstream\",result=\"ok\"}")
                > 3)
        let key = String(decoding: second.key, as: UTF8.self).split(separator: "\n")[1]
        #expect(!mesh.logs.contains(key))
    }

    @Test func `a pod's plain call goes on as verified TLS, or not at all`() throws {
        let fixture = try Fixture()
        defer { fixture.close() }
        let (mesh, authority) = (fixture.mesh, fixture.authority)
        let files = try authority.write(try authority.issue("DNS:near.example"), "near")
        let near = mesh.bed["near"]
        // nginx has the port: it leaves first.
        mesh.quiet.near.process.stop()
        let server = try near.start(
            "tls",
            [
                "openssl", "s_server", "-accept", "8080", "-cert", files.chain, "-key", files.key,
                "-www",
            ])
        defer { server.stop() }
        let url = SmallMesh.engineNear.urls[0] + "/"
        #expect(try mesh.client.curl(url).status != 200, "plain text is not answered")

        try mesh.bed.configure("ca.yaml", Self.bundle(authority))
        try mesh.bed.configure("policy.yaml", Self.policy("near.example"))
        try eventually("the call goes on as TLS") {
            let answer = try mesh.client.curl(url)
            return answer.status == 200 && answer.body.contains("TLSv1.3")
        }

        try mesh.bed.configure("policy.yaml", Self.policy("other.example"))
        try eventually("another name is not believed") { try mesh.client.curl(url).status == 503 }
        let failed = "malla_tls_handshakes_total{side=\"upstream\",result=\"name_mismatch\"}"
        #expect(try mesh.node.metric(failed) > 0)
    }

    /// OpenSSL's own variables, read by the agent's child in the library context that it makes.
    @Test(arguments: ["SSL_CERT_FILE", "SSL_CERT_DIR"])
    func `System is what the agent's environment says that the machine trusts`(
        _ variable: String
    ) throws {
        let bed = try Testbed("n1: far")
        defer { bed.close() }
        let authority = try TestAuthority()
        defer { authority.remove() }
        let files = try authority.write(try authority.issue("DNS:far.example"), "far")
        let server = try bed["far"].start(
            "tls",
            [
                "openssl", "s_server", "-accept", "8080", "-cert", files.chain, "-key", files.key,
                "-www",
            ])
        defer { server.stop() }
        try eventually("it listens: \(server.text)") { server.text.contains("ACCEPT") }
        try bed.describe([TestService("engine-far", 4, "http", to: ["far"])])
        try bed.configure(
            "gateway.yaml", RouteTests.gateway.replacing("port: 80}", with: "port: 8000}"))
        try bed.route(
            "front", parent: "{name: front}", rules: "- backendRefs: [{name: engine-far, port: 80}]"
        )
        try bed.configure(
            "policy.yaml",
            Self.policy("far.example", of: "engine-far", "wellKnownCACertificates: System"))
        let trusted = authority.directory.path + "/trusted"
        try Command.shell("mkdir \(trusted) && cp \(authority.file) \(trusted)/ca.crt")
        try Command.shell("openssl rehash \(trusted)")
        let value = variable == "SSL_CERT_FILE" ? trusted + "/ca.crt" : trusted
        let node = bed[node: "n1"]
        let command = node.agentArguments(more: ["--datapath", "off"])
        func answer(_ environment: [String], isTrusted: Bool) throws {
            let agent = try node.start("agent", ["env"] + environment + command)
            defer { agent.stop() }
            try node.waitUntilReady(agent)
            let answer = try node.curl("http://\(node.v4):8000/")
            #expect(answer.status == (isTrusted ? 200 : 503), "\(answer)\n\(agent.text)")
            #expect(answer.body.contains("TLSv1.3") == isTrusted, "\(answer)")
            let result = isTrusted ? "ok" : "untrusted"
            #expect(
                try node.metric(
                    "malla_tls_handshakes_total{side=\"upstream\",result=\"\(result)\"}") > 0)
        }

        try answer([], isTrusted: false)
        try answer(["\(variable)=\(value)"], isTrusted: true)
    }

    private static func policy(
        _ hostname: String, of service: String = "engine-near",
        _ authorities: String = "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]"
    ) -> String {
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: BackendTLSPolicy
        metadata: {name: near, namespace: bed}
        spec:
          targetRefs: [{group: "", kind: Service, name: \(service)}]
          validation:
            hostname: \(hostname)
            \(authorities)

        """
    }

    private static func bundle(_ authority: TestAuthority) -> String {
        let lines = String(decoding: authority.bundle, as: UTF8.self).split(separator: "\n")
        return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: bed}\ndata:\n"
            + "  ca.crt: |\n" + lines.map { "    \($0)\n" }.joined()
    }
}
