// The sockets that outlive the child: loopback only, ports that the kernel picks.

import Glibc
import Testing

@testable import Supervisor

@Suite("Held sockets (one set for each address, port and purpose)")
struct HeldSocketsTests {
    static let loopback: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1]

    @Test func `the same request gets the same sockets`() {
        var held = HeldSockets()
        let request = ControlMessage(.open, number: 3, port: 28_311, address: Self.loopback)

        let first = held.open(request)
        let second = held.open(request)

        #expect(first.errno == 0)
        #expect(first.sockets.count == 3)
        #expect(first.sockets == second.sockets)
        held.close(request)
        #expect(held.requests.isEmpty)
    }

    @Test func `a port that another holds is refused, also where it could be shared`() {
        var one = HeldSockets()
        var other = HeldSockets()
        let request = ControlMessage(.open, number: 2, port: 28_312, address: Self.loopback)

        #expect(one.open(request).errno == 0)
        #expect(other.open(request).errno == 98)

        one.close(request)
        #expect(other.open(request).errno == 0)
        other.close(request)
    }

    @Test func `descriptors are left for the next child and the next supervisor`() {
        let lowest = dup(0)
        close(lowest)
        var full = HeldSockets(descriptorsMax: lowest)
        var free = HeldSockets(descriptorsMax: lowest + 1000)
        let request = ControlMessage(.open, number: 3, port: 28_314, address: Self.loopback)

        #expect(full.open(request).errno == EMFILE)
        #expect(full.requests.isEmpty)
        #expect(free.open(request).errno == 0)
        free.letGo()
    }
}

@Suite("Held sockets of one port (ours are not in each other's way)", .serialized)
struct PortSharingTests {
    static let any = ControlMessage(
        .open, number: 2, port: 28_313, address: [UInt8](repeating: 0, count: 16), isDual: true)
    static let own = ControlMessage(
        .open, number: 2, port: 28_313, address: HeldSocketsTests.loopback)

    /// what is open, what is opened beside it
    @Test(arguments: [(any, own), (own, any)])
    func `all addresses and one of them are open side by side`(
        _ first: ControlMessage, _ second: ControlMessage
    ) {
        var held = HeldSockets()
        defer { held.letGo() }

        #expect(held.open(first).errno == 0)
        let opened = held.open(second)

        #expect(opened.errno == 0 && opened.sockets.count == 2)
    }

    @Test func `another's socket is found beside ours, though it could be shared`() {
        var held = HeldSockets()
        var other = HeldSockets()
        defer {
            held.letGo()
            other.letGo()
        }
        let elsewhere = HeldSocketsTests.loopback.dropLast() + [9]
        let beside = ControlMessage(.open, number: 1, port: 28_313, address: Array(elsewhere))

        #expect(other.open(Self.own).errno == 0)
        #expect(held.open(beside).errno == 0)
        #expect(held.open(Self.own).errno == 98)
        #expect(held.open(Self.any).errno == 98)
        other.letGo()
        #expect(held.open(Self.own).errno == 0)
    }
}

@Suite("Privileges (capabilities(7))")
struct PrivilegesTests {
    @Test(arguments: [
        (UInt64(0), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_PERFMON", "CAP_BPF"]),
        (UInt64(1) << 12 | 1 << 21, ["CAP_PERFMON", "CAP_BPF"]),
        (UInt64.max, []),
    ])
    func `what is missing is named`(_ effective: UInt64, _ missing: [String]) {
        #expect(Privileges.missing(effective) == missing)
    }
}
