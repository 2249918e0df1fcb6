internal import CMallaABI
internal import Glibc
internal import Testing

@Suite("Which worker's listener (bpf/hooks/to_listener.h)", .enabled(if: isRoot, "needs root"))
struct ListenerTests {
    /// The cookie of the listener that a captured connection is given to.
    private static func chosen(_ object: KernelObject, _ tuple: HookTests.Lookup) throws -> [UInt8]
    {
        var flow = malla_flow()
        flow.kind = MALLA_FLOW_CAPTURED.rawValue
        flow.timeout_ticks = UInt32(Int32.max)
        try object.put("malla_flow", tuple.key, flow)
        let found = try object.run("malla_listener", context: tuple.context)
        #expect(found.answer == 1)
        return Array(found.context.prefix(8))
    }

    /// One for each worker; the caller closes them.
    private static func listeners(_ workers: Int) -> [Int32] {
        (0..<workers).map { _ in
            let descriptor = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
            #expect(listen(descriptor, 8) == 0)
            return descriptor
        }
    }

    private static func object(_ listeners: [Int32]) throws -> KernelObject {
        let object = try KernelObject("malla")
        for (index, descriptor) in listeners.enumerated() {
            try object.put("malla_listen", UInt32(index), UInt64(descriptor))
        }
        var setting = malla_setting()
        setting.listeners = UInt32(listeners.count)
        try object.put("malla_setting", UInt32(0), setting)
        return object
    }

    @Test(arguments: HookTests.Lookup.families, [2, 4])
    func `tunnels that two pods have beside each other are each another worker's`(
        _ ends: HookTests.Lookup, _ workers: Int
    ) throws {
        let listeners = Self.listeners(workers)
        defer { for descriptor in listeners { close(descriptor) } }
        let object = try Self.object(listeners)
        var tuple = ends
        tuple.targetPort = 15008
        var parts: [[UInt8]] = []
        for part in UInt16(0)..<4 {
            // Whichever of its ports Linux has chosen.
            let ports = [0, 1, 2, 300, 566].map { 61000 + 567 * part + $0 }
            let chosen = try ports.map { port in
                tuple.sourcePort = port
                return try Self.chosen(object, tuple)
            }
            #expect(Set(chosen).count == 1, "part \(part)")
            parts.append(chosen[0])
        }
        for part in 0..<4 {
            for other in 0..<part {
                let isSame = (part - other) % workers == 0
                #expect((parts[part] == parts[other]) == isSame, "\(part) and \(other)")
            }
        }
    }

    @Test(arguments: HookTests.Lookup.families, [UInt16(80), 15008])
    func `all else is spread by its whole tuple, and comes to the same worker again`(
        _ ends: HookTests.Lookup, _ target: UInt16
    ) throws {
        let listeners = Self.listeners(2)
        defer { for descriptor in listeners { close(descriptor) } }
        let object = try Self.object(listeners)
        var tuple = ends
        tuple.targetPort = target
        // Of a pod, of an engine elsewhere that speaks for a client of its own, of anybody.
        for first: UInt16 in [32768, 63268, 1024] {
            var counts: [[UInt8]: Int] = [:]
            for port in first..<first + 200 {
                tuple.sourcePort = port
                let chosen = try Self.chosen(object, tuple)
                #expect(try Self.chosen(object, tuple) == chosen)
                counts[chosen, default: 0] += 1
            }
            // 100 are expected, and 64 are five deviations away.
            #expect(counts.count == 2 && counts.values.allSatisfy { $0 > 64 }, "\(counts)")
        }
    }
}
