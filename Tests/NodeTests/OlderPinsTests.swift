import TestSupport
import Testing

@Suite("An upgrade from an older ABI (docs/operations.md)", .serialized)
struct OlderPinsTests {
    /// Sends back what it gets.
    private static let server = """
        import socket, threading
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", 9001))
        listener.listen(64)
        def serve(s):
            while part := s.recv(65536): s.sendall(part)
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        """
    /// One connection to each address; each line is sent back before the next. Prints a line when
    /// all are open and one a round; what goes wrong ends it.
    private static let client = """
        import socket, sys, time
        links = []
        for address in sys.argv[1].split(","):
            host, port = address.rsplit("/", 1)
            s = socket.create_connection((host, int(port)), 10)
            s.settimeout(10)
            links.append((address, s))
        while True:
            for address, s in links:
                s.sendall(b"x" * 1000)
                got = 0
                while got < 1000:
                    part = s.recv(65536)
                    if not part: sys.exit("ended: " + address)
                    got += len(part)
            print("round", flush=True)
            time.sleep(0.01)
        """

    /// What is other than today: nothing, the map of translations (as version 2 had it: of another
    /// type, and without counters), a map of policies.
    enum Difference: String, CaseIterable, Sendable {
        case nothing, translations, policies

        /// Run where the pins are.
        var script: String {
            switch self {
            case .nothing: ""
            case .translations:
                """
                bpftool map create other type lru_hash key 40 value 56 entries 4096 \
                  name malla_snat
                bpftool -j map dump pinned malla_snat | python3 -c '
                import json, sys
                for row in json.load(sys.stdin):
                    key, value = [[x[2:] for x in row[part]] for part in ("key", "value")]
                    del value[40:56]
                    words = (" ".join(key), " ".join(value))
                    print("map update pinned other key hex %s value hex %s" % words)
                ' > "$rows"
                bpftool batch file "$rows" > /dev/null
                mv other malla_snat
                """
            case .policies:
                """
                bpftool map create other type hash key 4 value 4 entries 8 name malla_policy
                mv other malla_policy
                """
            }
        }
    }

    @Test(arguments: Difference.allCases)
    func `no established connection of L4 notices it`(_ difference: Difference) throws {
        let ranges = "loadBalancerSourceRanges: [10.0.0.0/8, \"fd00::/8\"]"
        let mesh = try OpenMesh.running(
            OpenMesh.service("web", pods: ["near", "far"], target: 9001, more: ranges))
        defer { mesh.close() }
        for name in ["near", "far"] {
            try mesh.bed[name].start("stream", ["/usr/bin/python3", "-c", Self.server])
            try eventually("\(name) listens") {
                try mesh.bed[name].run(["ss", "-Hltn", "sport = :9001"]).output.contains("9001")
            }
        }
        // Eight each: some meet the pod of the node, some the other.
        func several(_ addresses: [String]) -> String {
            addresses.flatMap { [String](repeating: $0, count: 8) }.joined(separator: ",")
        }
        let outside = try mesh.bed.startOutside(
            "streams",
            [
                "/usr/bin/python3", "-c", Self.client,
                several(["10.76.0.1/30080", "fd00:76::1/30080", "10.99.0.1/80"]),
            ])
        let inside = try mesh.bed["client"].start(
            "streams",
            [
                "/usr/bin/python3", "-c", Self.client,
                several([
                    "10.99.0.1/80", "fd00:99::1/80", "10.96.0.1/80", "\(mesh.bed["near"].v4)/9001",
                ]),
            ])
        func rounds() -> [Int] {
            [outside, inside].map { $0.text.split(separator: "\n").count { $0 == "round" } }
        }
        try eventually("both flow: \(outside.text) \(inside.text)") {
            rounds().allSatisfy { $0 > 5 }
        }
        #expect(try mesh.node.malla("bpf", "maps").output.contains("malla_snat"))

        #expect(mesh.agents[0].stop() == 0, "\(mesh.logs)")
        let pins = "\(mesh.node.bpffs)/malla"
        try Command.shell(
            """
            cd \(pins) && mv v* v2 && cd v2
            rows=\(mesh.bed.directory)/rows
            \(difference.script)
            """)
        let next = try mesh.node.startAgent()

        let before = rounds()
        try eventually("both flow on: \(outside.text.suffix(200)) \(inside.text.suffix(200))") {
            zip(rounds(), before).allSatisfy { $0 > $1 + 20 }
        }
        #expect(outside.exitStatus == nil && inside.exitStatus == nil)
        #expect(try Command.shell("ls \(pins)").split(separator: "\n").count == 1, "\(next.text)")
        let programs = try mesh.node.malla("bpf", "programs", "-o", "json").output
        let adopted = programs.replacing(" ", with: "").contains("\"adopted\":true")
        #expect(adopted == (difference != .policies), "\(programs)")
    }

    @Test func `of a version that it cannot read it takes over nothing`() throws {
        let bed = try Testbed("n1: client")
        defer { bed.close() }
        try bed.describe([])
        let node = bed[node: "n1"]
        try node.startAgent().stop()
        let pins = "\(node.bpffs)/malla"
        try Command.shell("mv \(pins)/v* \(pins)/v1")
        let before = try Command.shell("bpftool map show pinned \(pins)/v1/malla_flow")
        try node.startAgent()
        let after = try Command.shell("bpftool map show pinned \(pins)/v*/malla_flow")
        #expect(before.prefix { $0 != ":" } != after.prefix { $0 != ":" }, "\(after)")
    }
}
