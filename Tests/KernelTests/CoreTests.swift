internal import Glibc
internal import Testing

/// Whether this process may load programs.
let isRoot = geteuid() == 0

@Suite("The datapath's cores, run inside the kernel", .enabled(if: isRoot, "needs root"))
struct CoreTests {
    @Test(arguments: KernelObject.tests(in: "socket_test"))
    func socket(_ name: String) throws { try expectZero("socket_test", name) }

    @Test(arguments: KernelObject.tests(in: "flow_test"))
    func flow(_ name: String) throws { try expectZero("flow_test", name) }

    @Test(arguments: KernelObject.tests(in: "policy_test"))
    func policy(_ name: String) throws { try expectZero("policy_test", name) }

    @Test(arguments: KernelObject.tests(in: "share_test"))
    func share(_ name: String) throws { try expectZero("share_test", name) }

    @Test(arguments: KernelObject.tests(in: "nat_test"))
    func nat(_ name: String) throws { try expectZero("nat_test", name) }

    @Test(arguments: KernelObject.tests(in: "inbound_test"))
    func inbound(_ name: String) throws { try expectZero("inbound_test", name) }

    @Test(arguments: KernelObject.tests(in: "mode_test"))
    func mode(_ name: String) throws { try expectZero("mode_test", name) }

    @Test func `the kernel's tests are there to be run`() {
        #expect(KernelObject.tests(in: "socket_test").count >= 12)
        #expect(KernelObject.tests(in: "nat_test").count >= 7)
        #expect(KernelObject.tests(in: "flow_test").count >= 12)
        #expect(KernelObject.tests(in: "policy_test").count >= 15)
        #expect(KernelObject.tests(in: "share_test").count >= 8)
        #expect(KernelObject.tests(in: "inbound_test").count >= 8)
        #expect(KernelObject.tests(in: "mode_test").count >= 17)
    }

    private func expectZero(_ file: String, _ name: String) throws {
        let object = try KernelObject(file, only: name)
        let line = try object.run(name, packet: [UInt8](repeating: 0, count: 64)).answer
        #expect(line == 0, "bpf/test/\(file).bpf.c:\(line)")
    }
}
