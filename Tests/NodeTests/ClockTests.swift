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

    @Test func `an agent whose clock is set back by a day goes on, and reports it`() throws {
        let bed = try Testbed("n1: client")
        defer { bed.close() }
        let node = bed[node: "n1"]
        let (shift, library) = (bed.directory + "/shift", bed.directory + "/shim")
        try Self.shim.write(toFile: library + ".c", atomically: true, encoding: .utf8)
        try Command.shell(
            "clang-14 -shared -fPIC -o \(library).so \(library).c; echo 86400 > \(shift)")
        let agent = try node.start(
            "agent",
            ["env", "LD_PRELOAD=\(library).so", "SHIFT=\(shift)"]
                + node.agentArguments(more: ["--ca", "\(bed.directory)/ca"]))
        try node.waitUntilReady(agent)
        let before = try node.metric("malla_verifications_total")
        try Command.shell("echo 0 > \(shift)")
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
}
