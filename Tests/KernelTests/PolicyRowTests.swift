internal import Glibc
internal import MeshModel
internal import Testing

@Suite("Rows of network policies, looked up as the kernel does, say what the policies say")
struct PolicyRowTests {
    static let seed: UInt64 =
        unsafe getenv("MALLA_TEST_SEED").flatMap { unsafe UInt64(String(cString: $0)) }
        ?? 0x6d_616c_6c61

    @Test func `100 000 packets over 500 random sets of policies`() throws {
        print("policy seed \(Self.seed)")
        var generator = PolicyGenerator(seed: Self.seed)
        var allowed = 0
        var packets = 0
        var policy: CompiledPolicy?
        var mesh = Mesh()
        for round in 0..<500 {
            // Every third one is a small change of the one before.
            mesh = round % 3 == 2 ? generator.changed(mesh) : generator.mesh()
            // Every fourth one is another agent's, who knows the numbers in use and no more.
            let compiled =
                round % 4 == 3
                ? Self.compile(mesh, onto: policy)
                : PolicyCompiler.compile(mesh, node: PolicyGenerator.node, after: policy)
            policy = compiled
            let model = PolicyModel(mesh: mesh)
            for _ in 0..<200 {
                guard let packet = generator.packet(mesh) else { continue }
                let expected = model.allows(packet, nodes: [PolicyGenerator.node])
                let found = Self.allows(packet, compiled, mesh)
                packets += 1
                if expected { allowed += 1 }
                try #require(
                    found == expected,
                    "seed \(Self.seed) round \(round): \(packet); the model says \(expected)")
            }
        }
        print("\(packets) packets, \(allowed) allowed")
        #expect(packets > 90_000)
        #expect(allowed > packets / 5 && allowed < packets * 4 / 5, "both answers are common")
    }

    /// As an agent does that finds the rows of `policy` in the kernel.
    private static func compile(_ mesh: Mesh, onto policy: CompiledPolicy?) -> CompiledPolicy {
        PolicyCompiler.compile(
            mesh, node: PolicyGenerator.node,
            avoiding: PolicyNumbersInUse(
                addresses: policy?.addresses ?? [:], sets: Set(policy?.sets.map(\.number) ?? [])))
    }

    @Test func `the next agent gives no address another number, where nothing has changed`() {
        var generator = PolicyGenerator(seed: Self.seed)
        for _ in 0..<50 {
            let mesh = generator.mesh()
            var other = generator.changed(mesh)
            other.policies.reverse()
            // Other numbers than a compiler gives that begins at the first.
            let first = Self.compile(
                mesh, onto: PolicyCompiler.compile(other, node: PolicyGenerator.node))
            let next = Self.compile(mesh, onto: first)
            #expect(next.addresses == first.addresses, "\(mesh)")
            #expect(Set(next.sets.map(\.number)).isDisjoint(with: first.sets.map(\.number)))
        }
    }

    /// Rows that are in force until the next agent's are know a number by whom it meant.
    @Test func `a number that is in use comes to no address that did not have it`() {
        var generator = PolicyGenerator(seed: Self.seed)
        var (kept, others) = (0, 0)
        for _ in 0..<100 {
            let mesh = generator.mesh()
            let first = PolicyCompiler.compile(mesh, node: PolicyGenerator.node)
            let next = Self.compile(generator.changed(mesh), onto: first)
            let used = Set(first.addresses.values)
            for (address, number) in next.addresses
            where number >= ReservedIdentity.firstOfHost {
                let isUsed = used.contains(number)
                #expect(!isUsed || first.addresses[address] == number, "\(address)")
                if isUsed { kept += 1 } else { others += 1 }
            }
        }
        #expect(kept > 100 && others > 10, "\(kept), \(others)")
    }

    static func allows(_ packet: PolicyPacket, _ policy: CompiledPolicy, _ mesh: Mesh) -> Bool {
        func index(_ address: IPAddress) -> Int? {
            mesh.workloads.firstIndex {
                $0.node == PolicyGenerator.node && $0.addresses.contains(address)
            }
        }
        let source = index(packet.source)
        let target = index(packet.target)
        if let source, source == target { return true }
        func passes(_ pod: Int?, _ peer: IPAddress, _ direction: PolicyDirection) -> Bool {
            guard let pod, let set = policy.set(ofWorkload: pod) else { return true }
            let decision = set.decision(
                identity: policy.identity(of: peer), isIPv4: peer.isIPv4, direction: direction,
                transport: packet.transport, port: packet.port)
            return decision.isAllowed || decision.isAudited
        }
        return passes(source, packet.target, .egress) && passes(target, packet.source, .ingress)
    }
}
