// The hooks of a pod against the independent model: rows written by the loader, whole packets, the
// kernel's own verdict.

internal import CBPF
internal import CMallaABI
internal import Glibc
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("The kernel judges as the policies say", .enabled(if: isRoot, "needs root"), .serialized)
struct PolicyKernelTests {
    @Test func `100 000 packets over 500 random sets of policies, each a change of the one before`()
        throws
    {
        let seed = PolicyRowTests.seed
        print("policy seed \(seed)")
        let kernel = try PolicyKernel()
        var generator = PolicyGenerator(seed: seed)
        var snapshot: Snapshot?
        var mesh = Mesh()
        var packets = 0
        var allowed = 0
        var sets = 0
        var round = 0
        var (ofNode, ofOthers): ([Bool: Int], [Bool: Int]) = ([:], [:])
        var differences: [String] = []
        while sets < 500, differences.count < 5 {
            round += 1
            mesh = round % 3 == 2 ? generator.changed(mesh) : generator.mesh()
            let next = SnapshotCompiler.compile(
                mesh, node: PolicyGenerator.node, version: UInt64(round), after: snapshot)
            snapshot = next
            let isHostAllowed = round % 2 == 0
            let problems = try kernel.apply(next, isHostAllowed: isHostAllowed)
            try #require(problems.isEmpty, "\(problems)")
            // Without a pod here there is nothing to judge.
            guard mesh.workloads.contains(where: { $0.node == PolicyGenerator.node }) else {
                continue
            }
            sets += 1
            let model = PolicyModel(mesh: mesh, isHostAllowed: isHostAllowed)
            for _ in 0..<200 {
                guard let packet = generator.packet(mesh) else { continue }
                // The kernel refuses SCTP, whatever policies say of it.
                let isSCTP = packet.transport == TransportProtocol.sctp.number
                let expected = !isSCTP && model.allows(packet, nodes: [PolicyGenerator.node])
                let found = try kernel.allows(packet, next)
                packets += 1
                if expected { allowed += 1 }
                if found != expected {
                    differences.append(
                        "round \(round): \(packet): kernel \(found), model \(expected)")
                }
                if packet.isOfNode { ofNode[expected, default: 0] += 1 }
                if packet.hasNoIdentifier { ofOthers[expected, default: 0] += 1 }
                if packets % 10 == 0, !isSCTP {
                    let traced = try Self.traceAllows(packet, next, isHostAllowed)
                    if traced != found {
                        differences.append(
                            "round \(round): \(packet): kernel \(found), trace \(traced)")
                    }
                }
            }
        }
        print("\(packets) packets, \(allowed) allowed")
        #expect(differences == [], "seed \(seed)")
        #expect(packets == 100_000 && sets == 500)
        #expect(allowed > packets / 5 && allowed < packets * 4 / 5, "both answers are common")
        #expect(ofNode.count == 2 && ofNode.values.allSatisfy { $0 > packets / 100 }, "\(ofNode)")
        #expect(ofOthers.count == 2 && ofOthers.values.min() ?? 0 > packets / 200, "\(ofOthers)")
    }

    private static func traceAllows(
        _ packet: PolicyPacket, _ snapshot: Snapshot, _ isHostAllowed: Bool
    ) throws -> Bool {
        let traces = try snapshot.trace(
            from: .address(packet.source), to: .address(packet.target),
            transport: packet.transport, port: packet.port, isHostAllowed: isHostAllowed)
        // The kernel of this node leaves the pods of the other one to that one's.
        return traces.flatMap { [$0.egress, $0.ingress] }.compactMap(\.self)
            .filter { snapshot.isLocal(snapshot.mesh.workloads[$0.workload]) }
            .allSatisfy { $0.decision.isAllowed || $0.decision.isAudited }
    }
}

/// The programs with the loader's rows, below a bpffs mount of the test's own.
final class PolicyKernel {
    private let mount: BPFMount
    private let object: BPFObject
    private var rows: KernelRows
    private let settings: BPFMap<UInt32, malla_setting>
    private let pods: BPFMap<malla_address, malla_pod>
    private let flows: BPFMap<malla_flow_key, malla_flow>
    private var setting = malla_setting()
    private var serial: UInt16 = 0

    /// BPF_PROG_TEST_RUN gives packets the interface `lo`.
    private static let here: UInt32 = 1

    init() throws {
        mount = try BPFMount()
        object = try mount.load(["malla_flow": 65536, "malla_ring": 65536])
        rows = try KernelRows(object)
        settings = try BPFMap(adopting: object.map("malla_setting"), name: "malla_setting")
        pods = try BPFMap(adopting: object.map("malla_pod"), name: "malla_pod")
        flows = try BPFMap(adopting: object.map("malla_flow"), name: "malla_flow")
        let quotas = try BPFMap<UInt32, malla_quota>(
            adopting: object.map("malla_quota"), name: "malla_quota")
        var quota = malla_quota()
        quota.flows = 512
        for endpoint in UInt32(0)..<64 { try quotas.set(endpoint, to: quota) }
    }

    /// The rows of the snapshot, as the agent writes them; every pod has an interface of its own.
    func apply(_ snapshot: Snapshot, isHostAllowed: Bool) throws -> [ApplyProblem] {
        var desired = MapRows(snapshot, interfaces: ["lo": 0], after: rows.current)
        for (key, row) in desired.pods { desired.pods[key]?.interface = 100 + row.endpoint }
        let problems = try rows.apply(desired)
        setting.generation &+= 1
        setting.flags = isHostAllowed ? UInt32(MALLA_SETTING_HOST_ALLOWED) : 0
        try settings.set(0, to: setting)
        return problems
    }

    /// What the hook says at the interface where the packet meets this node first.
    func allows(_ packet: PolicyPacket, _ snapshot: Snapshot) throws -> Bool {
        serial = serial &+ 1
        defer { if packet.hasNoIdentifier { forget(packet) } }
        let source = malla_address(packet.source)
        guard var row = pods.value(of: source, placeholder: malla_pod()) else {
            return try run("malla_to_pod", packet)
        }
        let interface = row.interface
        row.interface = Self.here
        try pods.set(source, to: row)
        let found = try run("malla_from_pod", packet)
        row.interface = interface
        try pods.set(source, to: row)
        return found
    }

    /// There would be one flow of these two ends and this protocol for all rounds.
    private func forget(_ packet: PolicyPacket) {
        for (source, target) in [(packet.source, packet.target), (packet.target, packet.source)] {
            var key = malla_flow_key()
            key.source = malla_address(source)
            key.target = malla_address(target)
            key.protocol = packet.transport
            try? flows.remove(key)
        }
    }

    private func run(_ program: String, _ packet: PolicyPacket) throws -> Bool {
        let frame = bytes(packet)
        var options = unsafe bpf_test_run_opts()
        unsafe options.sz = MemoryLayout<bpf_test_run_opts>.size
        let descriptor = try object.program(program)
        // The buffer lives until the call returns.
        let result = unsafe frame.withUnsafeBytes { input in
            unsafe options.data_in = input.baseAddress
            unsafe options.data_size_in = UInt32(input.count)
            return unsafe bpf_prog_test_run_opts(descriptor, &options)
        }
        guard result == 0 else { throw KernelFailure("\(program): errno \(-result)") }
        let answer = unsafe Int32(bitPattern: options.retval)
        let drop: Int32 = 2
        return answer != drop
    }

    /// A packet that no flow knows: its port or identifier is used once. Checksums are zero; the
    /// programs do not check them.
    private func bytes(_ packet: PolicyPacket) -> [UInt8] {
        func two(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }
        let isIPv4 = packet.source.isIPv4
        let ports = two(2000 + serial % 50000) + two(packet.port)
        let payload: [UInt8] =
            switch packet.transport {
            case 6: ports + [0, 0, 0, 1, 0, 0, 0, 0, 0x50, PacketBuilder.syn, 16, 0, 0, 0, 0, 0]
            case 17: ports + [0, 12, 0, 0, 1, 2, 3, 4]
            // An INIT chunk's beginning.
            case 132: ports + [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20]
            default: [isIPv4 ? 8 : 128, 0, 0, 0] + two(serial) + [0, 1]
            }
        func raw(_ address: IPAddress) -> [UInt8] {
            ((isIPv4 ? 12 : 0)..<16).map { address.byte($0) }
        }
        let length = UInt16(payload.count)
        let header: [UInt8] =
            isIPv4
            ? [8, 0, 0x45, 0] + two(length + 20) + [0, 1, 0x40, 0, 64, packet.transport, 0, 0]
            : [0x86, 0xdd, 0x60, 0, 0, 0] + two(length) + [packet.transport, 64]
        return [UInt8](repeating: 2, count: 12) + header + raw(packet.source) + raw(packet.target)
            + payload
    }
}
