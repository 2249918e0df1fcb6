internal import CBPF
internal import CMallaABI
internal import MeshModel

@testable internal import BPFLoader

/// Two pods of one node in the maps of an object of its own: the client at `lo`, which is where
/// BPF_PROG_TEST_RUN says that packets come from, and the server elsewhere.
final class KernelNode {
    let object: KernelObject

    init(_ hook: String = "malla_from_pod", ringBytes: UInt32 = 1 << 20) throws {
        object = try KernelObject("malla", only: hook, ringBytes: ringBytes)
        try put(RawPacket.client4, interface: 1, endpoint: 1)
        try put(RawPacket.client6, interface: 1, endpoint: 1)
        try put(RawPacket.server4, interface: 9, endpoint: 2)
        try put(RawPacket.server6, interface: 9, endpoint: 2)
        var quota = malla_quota()
        quota.flows = 64
        for endpoint in UInt32(0)...2 { try object.put("malla_quota", endpoint, quota) }
    }

    func put(
        _ address: [UInt8], interface: UInt32, endpoint: UInt32, identity: UInt32 = 0,
        set: UInt32 = 0
    ) throws {
        var pod = malla_pod()
        pod.identity = identity
        pod.set = set
        pod.interface = interface
        pod.endpoint = endpoint
        try object.put("malla_pod", malla_address(bytes: address), pod)
        try object.put("malla_place", interface, endpoint)
    }

    /// The verdict on a packet that the client sends; `nil` unless exactly one was counted.
    func sends(_ frame: [UInt8]) throws -> malla_verdict? {
        let before = try counts()
        _ = try object.run("malla_from_pod", packet: frame)
        let changed = zip(try counts(), before).enumerated().filter { $1.0 != $1.1 }
        guard changed.count == 1, let only = changed.first else { return nil }
        return malla_verdict(rawValue: UInt32(only.offset))
    }

    func name(_ verdict: malla_verdict) -> String {
        // A pointer to static text, or null.
        unsafe malla_verdict_name(verdict.rawValue).map { unsafe String(cString: $0) } ?? "?"
    }

    /// What from_pod has counted, by verdict.
    private func counts() throws -> [UInt64] {
        let descriptor = try object.map("malla_count")
        let processors = Int(libbpf_num_possible_cpus())
        return (0..<UInt32(MALLA_VERDICTS_MAX)).map { verdict in
            var key = MALLA_HOOK_FROM_POD.rawValue * UInt32(MALLA_VERDICTS_MAX) + verdict
            var values = [UInt64](repeating: 0, count: processors)
            // The kernel writes eight bytes for each possible processor.
            _ = unsafe values.withUnsafeMutableBytes { bytes in
                unsafe bpf_map_lookup_elem(descriptor, &key, bytes.baseAddress)
            }
            return values.reduce(0, +)
        }
    }
}

extension malla_address {
    /// Four bytes or sixteen.
    init(bytes: [UInt8]) {
        let all = bytes.count == 4 ? [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] + bytes : bytes
        func word(_ at: Int) -> UInt32 {
            all[at..<at + 4].reduce(0) { $0 << 8 | UInt32($1) }.bigEndian
        }
        self.init(words_be: (word(0), word(4), word(8), word(12)))
    }
}

extension malla_flow_key {
    /// The tuple of what goes from the one to the other.
    init(_ source: SocketAddress, _ target: SocketAddress, _ transport: TransportProtocol) {
        self.init(
            source: malla_address(source.address), target: malla_address(target.address),
            source_port_be: source.port.bigEndian, target_port_be: target.port.bigEndian,
            protocol: transport.number, pad: (0, 0, 0))
    }
}
