import Foundation
import TestSupport
import Testing

@Suite("The node's clock is set (docs/identity.md)")
struct ClockTests {
    /// Adds the seconds that a file says to the wall's clock of a process.
    private static let shim = """
        #define _GNU_SOURCE
        #include <stdio.h>
        #include <stdlib.h>
        #include <sys/syscall.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t id, struct timespec *at)
        {
            long answer = syscall(SYS_clock_gettime, id, at), more = 0;
            FILE *file = id == CLOCK_REALTIME ? fopen(getenv("SHIFT"), "r") : 0;
            if (file) {
                if (fscanf(file, "%ld", &more) == 1) at->tv_sec += more;
                fclose(file);
            }
            return (int)answer;
        }
        """

    /// An agent that is ready, and whose clock says what `set` makes it say.
    private static func agent(
        on node: TestNode, of bed: Testbed, seconds: Int
    ) throws -> (agent: TestProcess, set: (Int) throws -> Void) {
        let (shift, library) = (bed.directory + "/shift", bed.directory + "/shim")
        try shim.write(toFile: library + ".c", atomically: true, encoding: .utf8)
        try Command.shell("clang-14 -shared -fPIC -o \(library).so \(library).c")
        let set = { (seconds: Int) in
            try Command.shell("echo \(seconds) > \(shift).new; mv \(shift).new \(shift)")
            return
        }
        try set(seconds)
        let agent = try node.start(
            "agent",
            ["env", "LD_PRELOAD=\(library).so", "SHIFT=\(shift)"]
                + node.agentArguments(more: ["--ca", "\(bed.directory)/ca"]))
        try node.waitUntilReady(agent)
        return (agent, set)
    }

    @Test func `an agent whose clock is set back by a day goes on, and reports it`() throws {
        let bed = try Testbed("n1: client")
        defer { bed.close() }
        let node = bed[node: "n1"]
        let (_, set) = try Self.agent(on: node, of: bed, seconds: 86400)
        let before = try node.metric("malla_verifications_total")
        try set(0)
        try eventually("the jump is counted", within: 15) {
            try node.metric("malla_clock_jumps_total") == 1
        }
        try eventually("the agent looks after its programs", within: 15) {
            try node.metric("malla_verifications_total") > before + 1
        }
        // What was of tomorrow is replaced.
        try eventually("the certificate is of today", within: 15) {
            try !node.malla("certs").output.contains("not-yet-valid")
        }
    }

    @Test func `an open tunnel takes nothing new once the clock is past its peer's certificate`()
        throws
    {
        // What `other` opens is the test's own: its node has no agent.
        let bed = try Testbed("n1: far; n2: other")
        defer { bed.close() }
        let authority = try TestAuthority()
        defer { authority.remove() }
        let (node, far) = (bed[node: "n1"], bed["far"])
        _ = try far.serve()
        try bed.describe([TestService("far", 1, "tcp", to: ["far"])])
        try authority.place(at: "\(bed.directory)/ca")
        let (agent, set) = try Self.agent(on: node, of: bed, seconds: 0)
        try eventually("the pod has its certificate") {
            try node.metric("malla_certificates_missing") == 0
        }
        let name = "URI:spiffe://cluster.local/ns/\(Testbed.space)/sa/other"
        let files = try authority.write(try authority.issue(name, life: 1800), "other")
        let peer = try bed["other"].start(
            "peer",
            [
                "/usr/bin/python3", "-u",
                Binaries.repository + "/Tests/L7EngineTests/Tunnel/hbone_peer.py", "client",
                "\(far.v4):15008", "--ca", authority.file, "--cert", files.chain, "--key",
                files.key, "--authority", "\(far.v4):8080", "--repeat",
            ])
        try eventually("streams are taken: \(peer.text)\n\(agent.text.suffix(2000))") {
            peer.text.contains("\"taken\": true")
        }
        // The agent's own certificate has a day.
        try set(3600)
        #expect(peer.wait(seconds: 40) == 0, "\(peer.text)")
        #expect(peer.text.contains("\"goaway\": true"), "\(peer.text)")
    }
}
