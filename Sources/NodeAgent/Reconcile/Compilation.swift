internal import MeshModel

/// All that a snapshot is made of beside the mesh, so that it can be made on any thread.
struct Compilation: Sendable {
    var node: String
    var version: UInt64
    var previous: Snapshot?
    var hostAddresses: [IPAddress]
    var numbersInUse: PolicyNumbersInUse

    func compile(_ mesh: Mesh) -> Snapshot {
        var mesh = mesh
        mesh.hostAddresses = hostAddresses
        return SnapshotCompiler.compile(
            mesh, node: node, version: version, after: previous, avoiding: numbersInUse)
    }
}
