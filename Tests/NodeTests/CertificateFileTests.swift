import Foundation
import TestSupport
import Testing

/// Each node has a directory with the certificates of its pods, which another program keeps.
@Suite("Certificates from files, between nodes (docs/identity.md, --svids)", .serialized)
struct CertificateFileTests {
    private static let pods = ["n1": ["client", "near"], "n2": ["far"]]

    static func directory(_ bed: Testbed, _ node: String) -> String {
        "\(bed.directory)/svids-\(node)"
    }

    /// Puts a new certificate and its key in the place of the pod's, one after the other.
    private static func give(
        _ pod: String, on node: String, _ authority: TestAuthority, _ bed: Testbed
    ) throws {
        try Command.shell(
            """
            cd \(authority.directory.path)
            openssl req -newkey \(TestAuthority.Key.ecdsa.rawValue) -nodes -keyout \(pod).key \
              -out request -subj /CN=x 2>&1
            printf 'subjectAltName=URI:%s\\n%s\\n' \(MutualTLSTests.id)\(pod) \
              keyUsage=critical,digitalSignature > extensions
            openssl x509 -req -in request -CA ca.crt -CAkey ca.key -days 1 -extfile extensions \
              -out \(pod).crt 2>&1
            place=\(directory(bed, node))/\(pod)
            mkdir -p $place
            cp \(pod).crt $place/.crt; cp \(pod).key $place/.key; chmod 600 $place/.key
            mv $place/.crt $place/tls.crt; mv $place/.key $place/tls.key
            """)
    }

    private static func running(_ authority: TestAuthority) throws -> SmallMesh.Running {
        try MutualTLSTests.running(isFromFiles: true) { bed in
            for (node, pods) in pods {
                try Command.shell(
                    """
                    mkdir -m 700 \(directory(bed, node))
                    cp \(authority.file) \(directory(bed, node))/ca.crt
                    """)
                for pod in pods { try give(pod, on: node, authority, bed) }
            }
        }
    }

    @Test func `they serve mutual TLS, and one that is replaced is shown without a request lost`()
        throws
    {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let mesh = try Self.running(authority)
        defer { mesh.close() }
        let (client, far) = (mesh.client, mesh.bed["far"])
        let marker = MutualTLSTests.marker
        let (capture, file) = try MutualTLSTests.captured(mesh)
        func expectTunnel() throws {
            for url in SmallMesh.engineFar.urls + SmallMesh.kernelFar.urls {
                let answer = try client.curl("-H", "x-marker: \(marker)", url + "/" + marker)
                #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
            }
            let who = try client.curl(SmallMesh.engineFar.urls[0] + "/who").body
            #expect(who == "By=\(MutualTLSTests.id)far;URI=\(MutualTLSTests.id)client")
        }
        /// Of the certificate that somebody sees who dials the pod's port for tunnels.
        func shown() throws -> String {
            let look =
                "openssl s_client -connect \(far.v4):15008 -alpn h2 </dev/null 2>/dev/null"
                + " | openssl x509 -noout -serial"
            return try mesh.bed.outside(["sh", "-c", look]).output
        }
        func given(_ pod: String) throws -> String {
            try Command.shell(
                "openssl x509 -noout -serial -in \(authority.directory.path)/\(pod).crt")
        }
        try expectTunnel()
        let first = try given("far")
        #expect(try shown() == first, "\(mesh.logs)")

        let load = try client.start("load", MutualTLSTests.pace("500", seconds: "60"))
        try eventually("the load flows") { try mesh.quiet.far.requests() > 200 }
        for (node, pod) in [("n2", "far"), ("n1", "client")] {
            try Self.give(pod, on: node, authority, mesh.bed)
            let serial = try given(pod).split { $0 == "=" || $0 == "\n" }[1].lowercased()
            try eventually("\(node) has the new one of \(pod)\n\(mesh.logs)", within: 20) {
                try mesh.bed[node: node].malla("certs", "-o", "json").output.lowercased()
                    .replacing(":", with: "").contains(serial)
            }
        }
        let second = try given("far")
        #expect(second != first)
        try eventually("the new one is shown\n\(mesh.logs)") { try shown() == second }
        try expectTunnel()
        let answered = try mesh.quiet.far.requests()
        try eventually("the load goes on") { try mesh.quiet.far.requests() > answered + 200 }
        load.signal(SIGINT)
        #expect(load.wait(seconds: 20) == 0, "\(load.text)\n\(mesh.logs)")
        #expect(load.text.contains(" failed=0 refused=0 "), "\(load.text)\n\(mesh.logs)")

        try MutualTLSTests.expectControl(mesh, in: file)
        capture.signal(SIGINT)
        #expect(capture.wait(seconds: 10) == 0)
        #expect(try Command.run(["grep", "-c", "-a", marker, file]).output == "0\n")
    }
}
