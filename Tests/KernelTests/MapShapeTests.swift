internal import CMallaABI
internal import Testing

/// A change here is another ABI: agents of either version would take the other's pins for theirs.
@Suite("The maps of ABI version 4", .enabled(if: isRoot, "needs root"))
struct MapShapeTests {
    /// name, enum bpf_map_type, bytes of key and value
    private static let shapes = """
        malla_affinity 9 32 32
        malla_asked 1 16 4
        malla_blank 6 4 152
        malla_count 6 4 8
        malla_denied 9 40 16
        malla_device 1 16 4
        malla_dialled 9 32 32
        malla_endpoint 1 8 20
        malla_event 27 0 0
        malla_exclude 11 28 4
        malla_flow 1 40 88
        malla_fragment 9 40 4
        malla_held 11 20 4
        malla_home 9 8 40
        malla_ipcache 11 20 8
        malla_known 1 16 4
        malla_listen 15 4 8
        malla_maglev 1 8 256
        malla_member 1 24 4
        malla_meter 6 4 8
        malla_mode 1 8 4
        malla_near 1 16 4
        malla_node 2 4 48
        malla_peer 1 16 4
        malla_place 1 4 4
        malla_pod 1 16 24
        malla_policy 11 16 8
        malla_quota 2 4 16
        malla_range 11 24 4
        malla_ring 1 8 40
        malla_route 6 4 64
        malla_service 1 20 32
        malla_set 1 4 8
        malla_setting 2 4 56
        malla_share 2 4 32
        malla_snat 1 40 72
        malla_space 1 8 4
        malla_unlisted 11 20 4
        malla_uplinks 1 4 4
        """

    @Test func `are of these types and sizes; a change bumps MALLA_ABI_VERSION`() throws {
        #expect(MALLA_ABI_VERSION == 4)
        let found = try KernelObject("malla").maps
        #expect(found.sorted().joined(separator: "\n") == Self.shapes)
    }
}
