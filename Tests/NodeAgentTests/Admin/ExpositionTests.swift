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

    @Test(arguments: [("a\"b", "a\\\"b"), ("a\\b", "a\\\\b"), ("a\nb", "a\\nb"), ("ä", "ä")])
    func `label values are escaped`(_ value: String, _ escaped: String) {
        #expect(Exposition.escaped(value) == escaped)
    }
}
