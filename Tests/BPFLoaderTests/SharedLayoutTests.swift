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
        Row("a service is thirty-two", MemoryLayout<malla_service>.size, 32),
        Row("its outer group is at twelve", MemoryLayout<malla_service>.offset(of: \.outside), 12),
        Row("its flags are at 24", MemoryLayout<malla_service>.offset(of: \.flags), 24),
        Row("a piece of a table is 256", MemoryLayout<malla_maglev>.size, 256),
        Row("a range is twenty-four", MemoryLayout<malla_range>.size, 24),
        Row("a member is twenty-four", MemoryLayout<malla_member>.size, 24),
        Row("a mode's key is eight", MemoryLayout<malla_mode_key>.size, 8),
        Row("an exclusion is twenty-eight", MemoryLayout<malla_exclude>.size, 28),
        Row("an affinity is thirty-two", MemoryLayout<malla_affinity>.size, 32),
        Row("a translation is seventy-two", MemoryLayout<malla_snat>.size, 72),
        Row("what a socket dialled is thirty-two", MemoryLayout<malla_dialled>.size, 32),
        Row("an endpoint's key is eight", MemoryLayout<malla_endpoint_key>.size, 8),
        Row("a pod is twenty-four", MemoryLayout<malla_pod>.size, 24),
        Row("a flow's key is forty", MemoryLayout<malla_flow_key>.size, 40),
        Row("its ports are at 32", MemoryLayout<malla_flow_key>.offset(of: \.source_port_be), 32),
        Row("a flow is eighty-eight", MemoryLayout<malla_flow>.size, 88),
        Row("its kind is at 52", MemoryLayout<malla_flow>.offset(of: \.kind), 52),
        Row("its flags are at 84", MemoryLayout<malla_flow>.offset(of: \.flags), 84),
        Row("a prefix is twenty", MemoryLayout<malla_prefix>.size, 20),
        Row("a policy's key is sixteen", MemoryLayout<malla_policy_key>.size, 16),
        Row("its port is at 14", MemoryLayout<malla_policy_key>.offset(of: \.port_be), 14),
        Row("a policy is eight", MemoryLayout<malla_policy>.size, 8),
        Row("a set is eight", MemoryLayout<malla_set>.size, 8),
        Row("a share is thirty-two", MemoryLayout<malla_share>.size, 32),
        Row("a quota is sixteen", MemoryLayout<malla_quota>.size, 16),
        Row("a fragment's key is forty", MemoryLayout<malla_fragment_key>.size, 40),
        Row("a device is sixteen", MemoryLayout<malla_device>.size, 16),
        Row("a dialled key is thirty-two", MemoryLayout<malla_dialled_key>.size, 32),
        Row("the setting is fifty-six", MemoryLayout<malla_setting>.size, 56),
        Row("its MAC is at 44", MemoryLayout<malla_setting>.offset(of: \.engine_mac), 44),
        Row("its sample is at 52", MemoryLayout<malla_setting>.offset(of: \.flow_sample), 52),
        Row("an event is seventy-two", MemoryLayout<malla_event>.size, 72),
        Row("its rule is at 56", MemoryLayout<malla_event>.offset(of: \.rule), 56),
        Row("what was told is sixteen", MemoryLayout<malla_denied>.size, 16),
    ]

    @Test(arguments: rows)
    func layout(_ row: Row) { #expect(row.bytes == row.expected) }

    @Test func `every hook and verdict has a name of its own`() {
        let hooks = (0..<UInt32(MALLA_HOOKS_MAX)).compactMap(hookName)
        let verdicts = (0..<UInt32(MALLA_VERDICTS_MAX)).compactMap(verdictName)
        #expect(hooks.count == 18)
        #expect(Set(hooks).count == hooks.count)
        #expect(verdicts.first == "pass")
        #expect(Set(verdicts).count == verdicts.count)
        #expect(verdictName(UInt32(MALLA_VERDICTS_MAX)) == nil)
    }
}
