// After 101: bytes pass as they are, both ways, until both ends have closed.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// The upstream switched protocols: relays its head and what stands behind it.
    func startTunnel(
        _ link: Link, _ client: Link, _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Int {
        guard client.it.wantsUpgrade, client.it.framing.isDone else {
            perform(client.it.exchange.on(.upstreamInvalid), client)
            return -1
        }
        _ = client.it.exchange.on(.switchedProtocols)
        client.it.status = 101
        client.it.keepsAlive = false
        buffers.release(&client.it.request)
        client.it.phase = .tunnel
        link.it.phase = .tunnel
        link.it.keepsAlive = false
        client.it.requestDeadline = .max
        timers.arm(client, at: now + limits.checkNanoseconds)
        unsafe writeInterim(client, base)
        var isSent = unsafe transmit(
            client, writer.base, writer.count, base + head.end, end - head.end)
        if !client.it.input.isEmpty, let early = unsafe client.it.input.base {
            isSent =
                unsafe transmit(link, early + client.it.input.start, client.it.input.count)
                && isSent
            buffers.release(&client.it.input)
        }
        guard isSent else {
            perform(client.it.exchange.on(.downstreamGone), client)
            return -1
        }
        makeReady(client)
        makeReady(link)
        return end
    }

    /// Moves what has come to the other side; `false`: nothing more now.
    func moveTunnel(_ from: Link) -> Bool {
        let to = from.it.partner
        guard !to.isNone, !to.it.isBlocked, from.it.canRead, !from.it.hasEnded else {
            return false
        }
        let client = from.it.role == .downstream ? from : to
        let count = unsafe receive(from, scratch, limits.receiveBytesMax)
        if count < 0 { return false }
        if count == 0 {
            endSending(to)
            if to.it.hasEnded { endTunnel(client) }
            return false
        }
        if from.it.role == .downstream {
            client.it.receivedBytes += UInt64(count)
        } else {
            client.it.sentBytes += UInt64(count)
        }
        if unsafe transmit(to, scratch, count) { return true }
        endTunnel(client)
        return false
    }

    private func endTunnel(_ client: Link) {
        let upstream = client.it.partner
        upstream.it.partner = .none
        client.it.partner = .none
        close(upstream)
        _ = client.it.exchange.on(.responseEnded)
        account(client)
        close(client)
    }
}
