// What supervisor and child say to each other survives the wire, and nonsense does not pass.

import Testing

@testable import Supervisor

@Suite("Control messages (one fixed record a packet)")
struct ControlMessageTests {
    static let full = ControlMessage(
        .open, number: 4, count: 2, port: 65_535, code: 98, address: Array(1...16), isDual: true,
        purpose: .admin)

    @Test func `a message reads back as it was written`() {
        #expect(ControlMessage(bytes: Self.full.bytes) == Self.full)
        #expect(Self.full.bytes.count == ControlMessage.bytesCount)
    }

    struct Wrong: Sendable, CustomTestStringConvertible {
        var rule: String
        var bytes: [UInt8]
        var testDescription: String { rule }
    }

    static func changed(_ index: Int, to value: UInt8) -> [UInt8] {
        var bytes = full.bytes
        bytes[index] = value
        return bytes
    }

    @Test(arguments: [
        Wrong(rule: "nothing", bytes: []),
        Wrong(rule: "a byte short", bytes: Array(full.bytes.dropLast())),
        Wrong(rule: "a byte long", bytes: full.bytes + [0]),
        Wrong(rule: "no kind", bytes: changed(0, to: 0)),
        Wrong(rule: "a kind that does not exist", bytes: changed(0, to: 200)),
        Wrong(rule: "a purpose that does not exist", bytes: changed(4, to: 0xff)),
        Wrong(rule: "a port above 65535", bytes: changed(18, to: 1)),
    ])
    func `what is not one of ours is refused`(_ wrong: Wrong) {
        #expect(ControlMessage(bytes: wrong.bytes) == nil)
    }

    @Test func `sockets of two purposes are never the same`() {
        let gateway = ControlMessage(.open, port: 80, purpose: .gateway)
        let admin = ControlMessage(.open, port: 80, purpose: .admin)

        #expect(gateway.key != admin.key)
    }
}
