import Testing

@testable import L7Engine

@Suite("What a server answers does not fill the metrics of the others")
struct TallyTests {
    @Test(
        arguments: [
            (200, 200), (404, 404), (511, 511), (299, 200), (150, 100), (499, 400), (599, 500),
            (600, 500), (999, 500), (0, 0),
        ] as [(UInt16, UInt16)])
    func `a status that nobody registered counts as its class`(_ status: UInt16, _ label: UInt16) {
        #expect(Tally.known(status) == label)
    }

    @Test func `no destination has more than a quarter of the label sets`() {
        let tally = Tally(seriesMax: 64)
        func ask(_ destination: UInt32, _ sources: Range<UInt32>) {
            for source in sources {
                tally.record(
                    source: source, port: 1, status: 200, flag: .none, destination: destination,
                    duration: 1)
            }
        }
        ask(1, 0..<40)
        #expect(tally.value(.seriesDropped) == 24)
        ask(2, 0..<16)
        // Of no workload: by port.
        ask(0, 0..<16)
        #expect(tally.value(.seriesDropped) == 24)
        // What is counted already goes on.
        ask(1, 0..<16)
        #expect(tally.value(.seriesDropped) == 24)
        var count = 0
        tally.forEachSeries { _ in count += 1 }
        #expect(count == 48)
    }
}
