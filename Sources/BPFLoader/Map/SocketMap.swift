// malla_listen: the listening sockets of the workers. The kernel takes a row out by itself when its
// socket is closed.

internal import CBPF
internal import Glibc

/// - Owns: one descriptor.
/// - Threads: one at a time.
struct SocketMap: ~Copyable {
    let name: String
    let entriesMax: UInt32
    private let descriptor: Descriptor

    init(adopting descriptor: consuming Descriptor, name: String) throws(BPFError) {
        let shape = try MapShape(of: descriptor.number, name: name)
        try shape.require(.value, MemoryLayout<UInt64>.size)
        self.name = name
        entriesMax = shape.entriesMax
        self.descriptor = descriptor
    }

    /// - Parameter socket: a TCP socket in state LISTEN.
    func set(_ index: UInt32, to socket: CInt) throws(BPFError) {
        var index = index
        var value = UInt64(socket)
        let result = unsafe bpf_map_update_elem(descriptor.number, &index, &value, UInt64(BPF_ANY))
        guard result == 0 else {
            throw .refused(call: .update, object: "map \(name), listener \(index)", errno: -result)
        }
    }

    func remove(_ index: UInt32) {
        var index = index
        // An empty row is what is wanted: that there was none is no error.
        _ = unsafe bpf_map_delete_elem(descriptor.number, &index)
    }

    /// How many of the rows hold a socket.
    func count() -> UInt64 {
        var count: UInt64 = 0
        for row in 0..<entriesMax {
            var index = row
            var cookie: UInt64 = 0
            if unsafe bpf_map_lookup_elem(descriptor.number, &index, &cookie) == 0 { count += 1 }
        }
        return count
    }
}
