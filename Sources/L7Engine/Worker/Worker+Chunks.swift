// An answer that ends with its connection (RFC 9112 section 6.3), to a client that knows chunks
// (section 7.1): it gets them, keeps its own connection, and misses the last one of an answer that
// was cut off. What one receive brings is one chunk, so that nothing waits. It is copied: of what
// splice(2) would move, the size must be said before it is known.

extension Worker {
    /// Less is received than may be, so that a chunk fits where a receive does: five digits and two
    /// line ends, rounded up.
    private static let frameBytes = 16

    /// Appends bytes of the body to what is written, as a chunk.
    func writeChunk(_ client: Link, _ bytes: UnsafePointer<UInt8>, _ count: Int) {
        // A chunk of nothing would be the last one.
        guard count > 0 else { return }
        let before = writer.count
        writeSize(count)
        unsafe writer.append(bytes, count)
        writer.append("\r\n")
        client.it.sentBytes += UInt64(writer.count - before)
    }

    /// `false`: nothing more now.
    func streamChunk(_ link: Link, _ client: Link) -> Bool {
        let count = unsafe receive(link, scratch, room(link) - Self.frameBytes)
        guard count > 0 else {
            if count == 0 { responseEnded(link, client) }
            return false
        }
        writer.reset()
        writeSize(count)
        // Safe: room for it was left.
        unsafe scratch[count] = 13
        unsafe scratch[count + 1] = 10
        client.it.sentBytes += UInt64(writer.count + count + 2)
        guard unsafe sendWritten(client, scratch, count + 2) else {
            perform(client.it.exchange.on(.downstreamGone), client)
            return false
        }
        return true
    }

    /// `false`: the client's connection is broken.
    func sendLastChunk(_ client: Link) -> Bool {
        writer.reset()
        writer.append("0\r\n\r\n")
        client.it.sentBytes += UInt64(writer.count)
        if !client.it.keepsAlive { endWithNext(client) }
        return unsafe transmit(client, writer.base, writer.count)
    }

    private func writeSize(_ count: Int) {
        writer.append(hexadecimal: count)
        writer.append("\r\n")
    }
}
