internal import CMallaABI
internal import Testing

@testable internal import BPFLoader

@Suite("Kernel and Swift agree on every shared struct")
struct SharedLayoutTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let bytes: Int?
        let expected: Int

        init(_ rule: String, _ bytes: Int?, _ expected: Int) {
            testDescription = rule
            self.bytes = bytes
            self.expected = expected
        }
    }

    static let rows = [
        Row("an address is sixteen bytes", MemoryLayout<malla_address>.size, 16),
        Row("an end is twenty", MemoryLayout<malla_end>.size, 20),
        Row("its port is at sixteen", MemoryLayout<malla_end>.offset(of: \.port_be), 16),
        Row("a service is sixteen", MemoryLayout<malla_service>.size, 16),
        Row("an endpoint's key is eight", MemoryLayout<malla_endpoint_key>.size, 8),
        Row("a pod is eight", MemoryLayout<malla_pod>.size, 8),
        Row("a flow's key is forty", MemoryLayout<malla_flow_key>.size, 40),
        Row("its ports are at 32", MemoryLayout<malla_flow_key>.offset(of: \.source_port_be), 32),
        Row("a flow is twenty-eight", MemoryLayout<malla_flow>.size, 28),
        Row("its kind is at twenty", MemoryLayout<malla_flow>.offset(of: \.kind), 20),
        Row("a dialled key is thirty-two", MemoryLayout<malla_dialled_key>.size, 32),
        Row("the setting is forty", MemoryLayout<malla_setting>.size, 40),
        Row("its MAC is at 28", MemoryLayout<malla_setting>.offset(of: \.engine_mac), 28),
    ]

    @Test(arguments: rows)
    func layout(_ row: Row) { #expect(row.bytes == row.expected) }

    @Test func `every hook and verdict has a name of its own`() {
        let hooks = (0..<UInt32(MALLA_HOOKS_MAX)).compactMap(hookName)
        let verdicts = (0..<UInt32(MALLA_VERDICTS_MAX)).compactMap(verdictName)
        #expect(hooks.count == 13)
        #expect(Set(hooks).count == hooks.count)
        #expect(verdicts.first == "pass")
        #expect(Set(verdicts).count == verdicts.count)
        #expect(verdictName(UInt32(MALLA_VERDICTS_MAX)) == nil)
    }
}
