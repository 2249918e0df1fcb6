// Prometheus' text format, byte for byte.

import Testing

@testable import NodeAgent

@Suite("Exposition (Prometheus text format 0.0.4)")
struct ExpositionTests {
    @Test func `a family is help, type, samples`() {
        var out = Exposition()
        out.family(
            "malla_map_entries", .gauge, "Records in a map.",
            [([("map", "malla_pod")], 3), ([], 4)])

        #expect(
            out.text == """
                # HELP malla_map_entries Records in a map.
                # TYPE malla_map_entries gauge
                malla_map_entries{map="malla_pod"} 3
                malla_map_entries 4

                """)
    }

    @Test func `a time is in seconds, to the microsecond`() {
        var out = Exposition()
        out.family("malla_agent_start_seconds", "How long.", seconds: .microseconds(1_045_020))

        #expect(out.text.hasSuffix("malla_agent_start_seconds 1.045020\n"))
        #expect(out.text.contains("# TYPE malla_agent_start_seconds gauge\n"))
    }

    @Test func `a family without samples is left out`() {
        var out = Exposition()
        out.family("malla_map_entries", .gauge, "Records in a map.", [])

        #expect(out.text.isEmpty)
    }

    @Test func `a family that the engine has, too, stands once`() {
        let name = "malla_certificate_expiry_timestamp_seconds"
        var out = Exposition()
        out.family(name, .gauge, "Of workloads.", [([("identity", "spiffe://a")], 1)])
        out.family("malla_agent_ready", .gauge, "Whether it is.", 1)
        out.append(
            """
            # HELP malla_workers Worker threads.
            # TYPE malla_workers gauge
            malla_workers 2
            # HELP \(name) Of listeners.
            # TYPE \(name) gauge
            \(name){namespace="shop",secret="tls"} 3
            # HELP malla_tunnels Tunnels.
            # TYPE malla_tunnels gauge
            malla_tunnels 4
            """)
        out.family(name, .gauge, "Of others.", [([], 5)])

        #expect(
            out.text == """
                # HELP \(name) Of workloads.
                # TYPE \(name) gauge
                \(name){identity="spiffe://a"} 1
                \(name){namespace="shop",secret="tls"} 3
                \(name) 5
                # HELP malla_agent_ready Whether it is.
                # TYPE malla_agent_ready gauge
                malla_agent_ready 1
                # HELP malla_workers Worker threads.
                # TYPE malla_workers gauge
                malla_workers 2
                # HELP malla_tunnels Tunnels.
                # TYPE malla_tunnels gauge
                malla_tunnels 4

                """)
    }

    @Test(arguments: [("a\"b", "a\\\"b"), ("a\\b", "a\\\\b"), ("a\nb", "a\\nb"), ("ä", "ä")])
    func `label values are escaped`(_ value: String, _ escaped: String) {
        #expect(Exposition.escaped(value) == escaped)
    }
}
