import Foundation
import Glibc
import TestSupport
import Testing

/// `n2` has an authority and a configuration of its own, so that `n1` hears nothing.
@Suite("A child that drains hears who is believed and who is there", .serialized)
struct DrainingTests {
    private struct Bed {
        let bed: Testbed
        let authority: String
        let configuration: String
        let agents: [TestProcess]
        var node: TestNode { bed[node: "n2"] }
        var logs: String { agents.map { String($0.text.suffix(2000)) }.joined(separator: "\n--\n") }

        init() throws {
            bed = try Testbed("n1: client, near; n2: far")
            authority = bed.directory + "/n2-ca"
            configuration = bed.directory + "/n2-config"
            try bed.describe([])
            let ca = bed.directory + "/ca"
            let first = try bed[node: "n1"].startAgent(more: ["--ca", ca])
            try Command.shell(
                "cp -a \(ca) \(authority); cp -a \(bed.configuration) \(configuration)")
            let node = bed[node: "n2"]
            let words = node.agentArguments(more: ["--ca", authority])
                .map { [configuration, bed] in $0 == bed.configuration ? configuration : $0 }
            let second = try node.start("agent", words)
            try node.waitUntilReady(second)
            agents = [first, second]
        }

        /// The far node revokes the certificate that a pod of the near one shows.
        func revoke(_ pod: String) throws {
            let shown = try bed[node: "n1"].malla("certs", "-o", "json").output
            try shown.write(toFile: bed.directory + "/shown", atomically: true, encoding: .utf8)
            try Command.shell(
                """
                cd \(bed.directory)
                python3 -c '
                import json
                for one in json.load(open("shown"))["items"]:
                    if one["identity"].endswith("/sa/\(pod)"): print(one["pem"])' > shown.pem
                : > revoked.db; echo 01 > crlnumber
                printf '[ca]\\ndefault_ca=o\\n[o]\\ndatabase=revoked.db\\ncrlnumber=crlnumber\\n%s\\n' \
                  default_md=sha256 > revoked.cnf
                openssl ca -config revoked.cnf -cert ca/ca.crt -keyfile ca/ca.key -revoke shown.pem
                openssl ca -config revoked.cnf -cert ca/ca.crt -keyfile ca/ca.key -gencrl \
                  -crldays 9 -out n
                mv n \(authority)/ca.crl
                """)
        }

        /// The far node's configuration has the pod no more.
        func remove(_ pod: String) throws {
            try Command.shell(
                """
                cd \(configuration)
                python3 -c '
                text = open("bed.yaml").read().split("\\n---\\n")
                kept = [one for one in text if "  name: \(pod)\\n" not in one]
                assert len(kept) == len(text) - 1
                open("n", "w").write("\\n---\\n".join(kept))'
                mv n bed.yaml
                """)
        }
    }

    @Test func `who is revoked or removed loses the tunnels of a child that was replaced`() throws {
        let mesh = try Bed()
        defer { mesh.bed.close() }
        let far = mesh.bed["far"]
        let server = try far.start(
            "ticker", ["/usr/bin/python3", "-c", PythonPrograms.ticker, "45000"])
        try eventually("it listens") { server.text.contains("up") }
        let streams = try ["client", "near"].map {
            try mesh.bed[$0].start(
                "stream", ["/usr/bin/python3", "-c", PythonPrograms.listener, far.v4, "45000"])
        }
        func goesOn(_ stream: TestProcess) throws {
            let before = stream.text.count
            try eventually("it goes on\n\(mesh.logs)") { stream.text.count > before + 60 }
        }
        for stream in streams { try goesOn(stream) }

        let before = try mesh.node.serving()
        mesh.agents[1].signal(SIGUSR2)
        try eventually("the next child serves\n\(mesh.logs)") {
            try ![0, before].contains(mesh.node.serving())
        }
        for stream in streams { try goesOn(stream) }

        try mesh.revoke("client")
        try eventually("the revoked one's tunnel ends\n\(mesh.logs)", within: 10) {
            streams[0].exitStatus != nil
        }
        try goesOn(streams[1])
        try mesh.remove("near")
        try eventually("the removed one's tunnel ends\n\(mesh.logs)", within: 10) {
            streams[1].exitStatus != nil
        }
        #expect(mesh.agents.allSatisfy { $0.exitStatus == nil }, "\(mesh.logs)")
    }
}
