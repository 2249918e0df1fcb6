// sessionAffinity ClientIP: a client stays with the endpoint that has served it until it has been
// away for the service's time. Who is not remembered draws (ClientAffinity), so that workers that
// know nothing of each other choose the same.

internal import Glibc
internal import MeshModel

extension Worker {
    /// The endpoint that a client of a service with affinity gets; -1: none that was not tried.
    func affine(
        _ link: Link, _ snapshot: Snapshot, _ range: Range<Int>, _ family: AddressFamily
    ) -> Int {
        let kept = recalled(link, snapshot, range)
        return kept >= 0 ? kept : drawn(link, snapshot, range, family)
    }

    private func recalled(_ link: Link, _ snapshot: Snapshot, _ range: Range<Int>) -> Int {
        guard let table = config(link).affinities else { return -1 }
        let client = link.it.peer.address
        let place = table.place(of: client, port: config(link).ports[Int(link.it.port)])
        for way in 0..<AffinityTable.ways {
            guard
                let kept = table.entry(place, way, seconds: link.it.affinitySeconds, now: now)
            else { continue }
            for index in range where isOpen(link, snapshot, index) {
                let draw = ClientAffinity.draw(client, snapshot.endpoints[index].address)
                if AffinityTable.bits(draw) == kept { return index }
            }
        }
        return -1
    }

    /// Of those that suit, else of all that were not tried, the one that the client's address
    /// draws; -1: none is left.
    private func drawn(
        _ link: Link, _ snapshot: Snapshot, _ range: Range<Int>, _ family: AddressFamily
    ) -> Int {
        var (found, highest, suits) = (-1, UInt64(0), false)
        let isWeighted = snapshot.ports[Int(link.it.port)].isWeighted
        for index in range where isOpen(link, snapshot, index) {
            let isBetter = self.suits(link, snapshot, index, family)
            if suits, !isBetter { continue }
            var draw = ClientAffinity.draw(
                link.it.peer.address, snapshot.endpoints[index].address)
            if isWeighted { draw = Self.weighed(draw, snapshot.endpoints[index].weight) }
            if found < 0 || isBetter != suits || draw > highest {
                (found, highest, suits) = (index, draw, isBetter)
            }
        }
        return found
    }

    /// A number of which the endpoint's is the highest as often as its weight asks. What is greater
    /// than zero has the order of its bits.
    ///
    /// - Source: weighted rendezvous hashing (Schindelhauer and Schomaker, 2005).
    static func weighed(_ draw: UInt64, _ weight: UInt16) -> UInt64 {
        let share = (Double(draw >> 12) + 0.5) / 4_503_599_627_370_496
        return (Double(weight) / -log(share)).bitPattern
    }

    /// It is not known to be of no use for this request.
    private func isOpen(_ link: Link, _ snapshot: Snapshot, _ index: Int) -> Bool {
        let address = snapshot.endpoints[index].address
        return !wasTried(link, index) && (link.it.isCaptured || isAdmitted(link, address))
            && refusal(link, address) == nil
    }

    /// An upstream takes the request: its endpoint is the client's from now on.
    @inline(__always)
    func keepAffinity(_ link: Link) {
        if link.it.affinitySeconds > 0 { keepEndpoint(link) }
    }

    private func keepEndpoint(_ link: Link) {
        guard let table = config(link).affinities else { return }
        let client = link.it.peer.address
        let place = table.place(of: client, port: config(link).ports[Int(link.it.port)])
        let draw = ClientAffinity.draw(client, link.it.upstreamPeer)
        if !table.keep(place, draw, seconds: link.it.affinitySeconds, now: now) {
            tally.count(.affinitiesForgotten)
        }
    }
}
