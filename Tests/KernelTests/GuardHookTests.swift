internal import CMallaABI
internal import Testing

/// What a TCX program answers.
private let next: Int32 = -1
private let drop: Int32 = 2

@Suite("What the hook's program has not let pass is dropped", .enabled(if: isRoot, "needs root"))
struct GuardHookTests {
    /// A guard, and the hook that it stands behind.
    static let guards: [(String, malla_hook)] = [
        ("malla_back", MALLA_HOOK_FROM_POD), ("malla_guard", MALLA_HOOK_TO_POD),
        ("malla_guard_eng", MALLA_HOOK_FROM_ENGINE),
    ]
    private static let world: [UInt8] = [198, 51, 100, 1]

    private static func seal(_ hook: malla_hook) -> UInt32 { UInt32(MALLA_SEAL) | hook.rawValue }

    private static func packet(from source: [UInt8], to target: [UInt8]) -> [UInt8] {
        PacketBuilder(
            source: source, sourcePort: 5000, target: target, targetPort: 80,
            flags: PacketBuilder.syn
        ).frame
    }

    @Test(arguments: guards) func `by its own seal alone, which it breaks`(
        _ program: String, _ hook: malla_hook
    ) throws {
        let object = try HookTests.node(HookTests.families[0], meshed: false)
        let frame = Self.packet(from: HookTests.families[0].pod, to: Self.world)
        func count() throws -> UInt64 {
            try HookTests.count(object, hook, MALLA_VERDICT_UNGUARDED)
        }
        let sealed = try object.pass(program, packet: frame, seal: Self.seal(hook))
        #expect(sealed.answer == next && sealed.seal == 0 && sealed.packet == frame)
        #expect(try count() == 0)
        for seal in [0, UInt32(MALLA_SEAL), Self.seal(MALLA_HOOK_UPLINK), hook.rawValue] {
            #expect(try object.pass(program, packet: frame, seal: seal).answer == drop, "\(seal)")
        }
        #expect(try count() == 4)
        // What is not IP goes, too; ARP, which the hooks let pass, does not.
        let ends = [UInt8](repeating: 2, count: 12)
        let arp = ends + [0x08, 0x06] + [UInt8](repeating: 0, count: 28)
        #expect(try object.pass(program, packet: arp, seal: 0).answer == next)
        let other = ends + [0x88, 0xb5] + [UInt8](repeating: 0, count: 28)
        #expect(try object.pass(program, packet: other, seal: 0).answer == drop)
        #expect(try count() == 5)
    }

    @Test func `what a hook lets pass bears its seal`() throws {
        let family = HookTests.families[0]
        let object = try HookTests.node(family, meshed: false)
        let cases: [(String, malla_hook, [UInt8])] = [
            ("malla_from_pod", MALLA_HOOK_FROM_POD, Self.packet(from: family.pod, to: Self.world)),
            ("malla_to_pod", MALLA_HOOK_TO_POD, Self.packet(from: Self.world, to: family.pod)),
            ("malla_uplink", MALLA_HOOK_UPLINK, Self.packet(from: Self.world, to: [9, 9, 9, 9])),
        ]
        for (program, hook, frame) in cases {
            let passed = try object.pass(program, packet: frame, seal: 0)
            #expect(passed.answer == next, "\(program)")
            #expect(passed.seal == Self.seal(hook), "\(program)")
        }
        let forged = Self.packet(from: Self.world, to: Self.world)
        let dropped = try object.pass("malla_from_pod", packet: forged, seal: 0)
        #expect(dropped.answer == drop && dropped.seal == 0)
    }

    @Test func `behind an uplink only what bears an address of this node or its pods`() throws {
        let family = HookTests.families[0]
        let object = try HookTests.node(family, meshed: false)
        for (source, answer) in [(Self.world, next), (family.pod, drop)] {
            let frame = Self.packet(from: source, to: family.pod)
            let seal = Self.seal(MALLA_HOOK_UPLINK)
            #expect(try object.pass("malla_outside", packet: frame, seal: 0).answer == answer)
            #expect(try object.pass("malla_outside", packet: frame, seal: seal).answer == next)
        }
        let count = try HookTests.count(object, MALLA_HOOK_UPLINK, MALLA_VERDICT_UNGUARDED)
        #expect(count == 1)
    }
}
