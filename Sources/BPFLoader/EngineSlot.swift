internal import CMallaABI

/// Where the programs read whether there is an engine: what the supervisor clears when no agent has
/// served for two seconds, and sets again when one does.
public struct EngineSlot: Sendable, Equatable {
    /// The pinned map, an array of one row.
    public var path: String
    /// Size of the row and where in it the interface index (32 bits) stands; bytes.
    public var rowBytes: Int
    public var offset: Int

    public init(bpffsPath: String) {
        path = "\(bpffsPath)/malla/v\(MALLA_ABI_VERSION)/malla_setting"
        rowBytes = MemoryLayout<malla_setting>.size
        offset = MemoryLayout<malla_setting>.offset(of: \.engine) ?? 0
    }
}
