// Links of Malla's programs at a cgroup that no pin leads to: their pins were in another bpffs.

internal import CBPF
internal import Glibc

enum LeftLinks {
    /// Takes every program of Malla's off the cgroup at `path`, whoever attached it.
    ///
    /// - Source: BPF_LINK_GET_NEXT_ID (Linux 5.8), which needs SYS_ADMIN.
    static func remove(cgroupPath path: String) throws(BPFError) {
        let inode = OwnSockets.inode(of: path)
        guard inode != 0 else { throw .notCgroup(path: path, errno: errno) }
        var id: UInt32 = 0
        // The call writes the one number.
        while unsafe bpf_link_get_next_id(id, &id) == 0 {
            let opened = bpf_link_get_fd_by_id(id)
            // It has ended meanwhile.
            guard opened >= 0 else { continue }
            let link = Descriptor(adopting: opened)
            guard let shape = LinkShape.of(link.number), shape.isCgroup, shape.place == inode,
                isOurs(shape.program)
            else { continue }
            let result = bpf_link_detach(link.number)
            guard result == 0 else {
                throw .refused(
                    call: .detach, object: "link \(id) at cgroup \(path)", errno: -result)
            }
        }
    }

    private static func isOurs(_ program: UInt32) -> Bool {
        let opened = bpf_prog_get_fd_by_id(program)
        guard opened >= 0 else { return false }
        let descriptor = Descriptor(adopting: opened)
        guard var name = programInfo(descriptor.number)?.name else { return false }
        // Sixteen bytes, of which the last is always zero.
        return unsafe withUnsafeBytes(of: &name) { unsafe $0.starts(with: Array("malla_".utf8)) }
    }
}
