// Which workload gets which account, from one configuration to the next.

import MeshModel
import Testing

@testable import L7Engine

@Suite("Accounts go to this node's workloads first, and to others again when theirs are free")
struct AccountNumbersTests {
    private let outside = AccountNumbers.outsideCount

    private func pod(_ name: String, node: String) -> Workload {
        Workload(
            name: ObjectName("shop", name), serviceAccount: "default", node: node, labels: [:],
            addresses: [], interface: nil, isMeshed: true, workloadName: name)
    }

    private func snapshot(_ version: UInt64, _ workloads: [Workload]) -> Snapshot {
        SnapshotCompiler.compile(Mesh(workloads: workloads), node: "n", version: version)
    }

    @Test func `thousands of pods on other nodes leave this node's pod its account`() {
        var numbers = AccountNumbers()
        let others = (0..<2100).map { pod("far-\($0)", node: "m") }
        let given = numbers.follow(
            snapshot(1, others + [pod("near", node: "n")]), max: 2048, isFree: { _, _ in true },
            words: { _ in Accounts.none })

        #expect(given.last == outside && Set(given.filter { $0 > 0 }).count == 2048)
        #expect(numbers.shortage == 0)
    }

    @Test func `names that come and go do not use accounts up, and counts start anew`() {
        var numbers = AccountNumbers()
        for version in 1...10 {
            let given = numbers.follow(
                snapshot(UInt64(version), [pod("job-\(version)", node: "n")]), max: 2,
                isFree: { _, _ in true },
                words: { number in
                    (0..<Account.words).map { UInt64(version * 10 + $0) }
                })
            #expect(given[0] >= outside && given[0] < outside + 2, "\(version)")
        }
        #expect(numbers.holders.map(\.source.workload).contains("job-10"))
        #expect(numbers.holders.first { $0.source.workload == "job-10" }?.base.first == 100)
    }

    @Test func `an account with something open stays its workload's, and the shortage is told`() {
        var numbers = AccountNumbers()
        for version in 1...4 {
            _ = numbers.follow(
                snapshot(UInt64(version), [pod("job-\(version)", node: "n")]), max: 1,
                isFree: { _, _ in false }, words: { _ in Accounts.none })
        }
        #expect(numbers.holders.map(\.source.workload) == ["job-1"])
        #expect(numbers.shortage == 1)
    }

    @Test func `clients outside are told apart by address, of IPv6 by the first half`() throws {
        func number(_ text: String) throws -> Int32 {
            AccountNumbers.outside(try #require(IPAddress(text)))
        }
        let some = try (1...200).map { try number("192.0.2.\($0)") }
        #expect(Set(some).count > 100 && some.allSatisfy { (1..<outside).contains($0) })
        #expect(try number("2001:db8::1") == number("2001:db8::2"))
        #expect(try number("2001:db8:0:1::1") != number("2001:db8:0:2::1"))
    }
}
