// Every cap of the engine, one file (R7): the name ends in its unit and `Max`; reaching a limit is
// a named outcome with a counter, never a crash and never an unbounded wait.

internal import CLinux

/// - Units: bytes, counts, and nanoseconds where the name says so.
struct Limits: Sendable {
    /// One recv. Large enough that a 64 KiB body costs one call, small enough for the cache.
    var receiveBytesMax = 64 * 1024
    /// A request's or response's head. Envoy: 60 KiB; HAProxy: 16 KiB.
    var headBytesMax = 32 * 1024
    /// The same with what filters add: with one receive behind it, it must fit where bytes wait.
    var rewrittenHeadBytesMax = 64 * 1024
    /// The target of a request's first line. nginx: 8 KiB with its line.
    var targetBytesMax = 16 * 1024
    /// Fields in a head. Envoy: 100.
    var fieldsMax = 128
    /// What one connection may hold that its peer could not take yet: one receive and one head. Or
    /// a request that is gathered, because its server knows no chunks.
    var pendingBytesMax = 64 * 1024 + 64 * 1024
    /// Bodies of which at least so much is still to come are moved inside the kernel.
    var spliceBytesMin = 16 * 1024
    /// What one receive of a tunnel must bring before its next bytes are moved and not copied, and
    /// what a move must bring so that the one after it is a move too.
    var tunnelSpliceBytesMin = 16 * 1024
    /// What a tunnel moves by one call: so much at most waits for a slow reader outside of sockets.
    var tunnelSpliceBytesMax = 256 * 1024
    /// Moved by one call, and a pipe's size.
    var spliceBytesMax = 1024 * 1024
    /// Pipes of one worker at the same time; bodies beyond are copied.
    var pipesMax = 256
    /// Of one workload at one worker.
    var accountPipesMax = 64
    /// In pipes of one worker, waiting for slow readers; bodies beyond are copied. One pipe more
    /// may be filled by who came last.
    var pipeBytesMax = 64 << 20
    /// Of one workload at one worker.
    var accountPipeBytesMax = 8 << 20
    /// Idle pipes kept.
    var pipesKeptMax = 32
    /// The first receive of an upstream whose last answer was large: its head, and little of the
    /// body that can be moved without a copy.
    var headFirstBytes = 2048
    /// A request that is kept for sending it again.
    var resendBytesMax = 16 * 1024
    /// A service port of which no answer by HTTP/1.0 was seen for so long gets chunks again behind
    /// a request that was refused for want of a length.
    var oldServerNanosecondsMax: UInt64 = 600_000_000_000
    /// Endpoints tried for one request.
    var attemptsMax: UInt8 = 3
    /// Dials from a client's address that were refused and are tried once more, for one request.
    var redialsMax: UInt8 = 2
    /// Downstream connections of one worker, beyond which new ones get 503; less where the process
    /// may not have the descriptors for it (`Engine`).
    var connectionsMax = 16_384
    /// Descriptors of the process that no worker takes: 64 for connections to the admin port and
    /// the agent's Unix socket, 64 for files and the rest.
    var descriptorsReserved = 128
    /// Of one workload at one worker. Clients outside of the mesh may have three quarters of
    /// `connectionsMax` together, and half of it with one address.
    var accountConnectionsMax = 4096
    /// Bytes waiting for slow peers, one worker; new requests get 503 beyond.
    var bufferBytesMax = 64 << 20
    /// Of one workload at one worker.
    var accountBufferBytesMax = 16 << 20
    /// One recv while those are used up: the smallest block.
    var shortReceiveBytes = 1024
    /// Configurations held by exchanges that outlive them, beyond which each new one lets all go
    /// that can; else they do when they are next looked at (`checkNanoseconds`).
    var configsKeptMax = 3
    /// Upstream connections being dialled by one worker, each with a request that waits.
    var dialsMax = 4096
    /// Of one workload at one worker.
    var accountDialsMax = 1024
    /// How long a client that asks for one answer only stays out of the epoll set: for so long it
    /// is not noticed if it leaves.
    var unwatchedNanosecondsMax: UInt64 = 10_000_000
    /// Idle connections kept to one endpoint from one source.
    var idleUpstreamsMax = 256
    /// Clients of services with affinity whose endpoints the engine remembers; of eight with one
    /// place the one goes whose time is over first. Eight bytes each.
    var affinitiesMax = 131_072
    /// Workloads with an account of their own at a worker.
    var accountsMax = 2048
    /// An account's share before the next one's turn, and the time after which the kernel is asked
    /// for news. A request of a hundred bytes costs 15 us.
    var quantumMicroseconds: Int64 = 200
    var turnMicroseconds: Int64 = 400
    /// What an account may owe the others, after events that cost more than its share. No event
    /// that a peer can cause costs as much; the worker's thread may lose the processor in one.
    var debtMicrosecondsMax: Int64 = 250_000
    /// Interim answers (1xx) to one request, beyond which the upstream's answer is refused.
    var interimsMax: UInt8 = 100
    /// Moved for one connection before the next one's turn.
    var turnBytesMax = 256 * 1024
    /// Distinct label sets of one worker's metrics.
    var seriesMax = 4096
    /// Access log records that wait to be taken, one worker: 200 ms of 40 000 requests/s, 4.3 MB.
    var accessLogRecordsMax = 8192

    /// Streams that one peer may have open on a tunnel (docs/hbone.md).
    var tunnelStreamsMax = 1024
    /// Bytes that a peer may send ahead on a stream at first, and while its reader keeps up: one
    /// that is not read costs so much. 4 MiB are 3 Gbit/s at a round trip of 10 ms.
    var tunnelWindowBytes = 256 << 10
    var tunnelWindowBytesMax = 4 << 20
    /// On all streams of a tunnel, between the wire and us: no stream uses it up.
    var tunnelWindowsBytesMax = 16 << 20
    /// Of what streams hold and nobody reads, one workload at one worker and the worker: beyond, a
    /// tunnel with such streams is not read. From half of these on (`accountBufferBytesMax`,
    /// `bufferBytesMax`) only the streams themselves stand still.
    var accountStreamBytesMax = 32 << 20
    var streamBytesMax = 128 << 20
    /// Names and values of a CONNECT.
    var tunnelHeadBytesMax = 8 * 1024
    /// Streams that a peer may open within a second only to reset them (CVE-2023-44487), to have
    /// them reset (CVE-2025-8671), or to be refused what no tunnel leads to.
    var tunnelResetsMax = 200
    /// Framed bytes that a tunnel's socket has not taken: with these streams wait, ...
    var tunnelOutgoingBytesMax = 512 * 1024
    /// ... and with so many more, which are answers, nothing is read. Less would have two ends wait
    /// for each other that both have much to say.
    var tunnelAnswersBytesMax = 256 * 1024
    /// Streams on one tunnel before another is opened to the same peer, and tunnels to one peer.
    var carrierStreamsMax = 128
    var carriersMax = 16
    /// Streams on one tunnel before another is opened as long as there are fewer than so many: who
    /// opens a hundred connections at once shall have more than one core of the peer.
    var carrierStreamsSpread = 32
    var carriersSpread = 4
    /// What a tunnel may move, both ways, before another is opened to the same peer: a tenth of
    /// what one core seals and opens (AES-128-GCM).
    var carrierBytesPerSecondMax: UInt64 = 128 << 20
    /// Streams on a Gateway's tunnels to a pod beyond which one that has served its request ends,
    /// and does not wait for the next: the pod has a connection open for each.
    var gatewayStreamsKeptMax = 32
    /// Tunnels to one peer, beside these, that take nothing new and still have streams.
    var drainingCarriersMax = 48
    /// A tunnel without streams.
    var carrierIdleNanosecondsMax: UInt64 = 60_000_000_000
    /// Between two signs of life.
    var tunnelPingNanoseconds: UInt64 = 30_000_000_000
    /// A peer that takes nothing, though so many answers wait for it that it is not read.
    var tunnelStallNanosecondsMax: UInt64 = 30_000_000_000

    var connectNanosecondsMax: UInt64 = 5_000_000_000
    /// After it a second endpoint is dialled as well. RFC 8305 section 5.
    var raceNanoseconds: UInt64 = 250_000_000
    /// Handshakes of clients under way in one worker, and as many of tunnels' peers: some 30 KiB
    /// each, for at most that time.
    var handshakesMax = 1024
    /// Of one workload, or of those outside with one address.
    var accountHandshakesMax = 256
    /// Of a session, downstream and upstream.
    var handshakeNanosecondsMax: UInt64 = 10_000_000_000
    /// How long one key seals session tickets; they open for at most three times as long.
    var ticketKeyNanosecondsMax: UInt64 = 12 * 3_600_000_000_000
    /// From the first byte of a head to its last.
    var headNanosecondsMax: UInt64 = 30_000_000_000
    /// A connection without a request.
    var idleNanosecondsMax: UInt64 = 300_000_000_000
    /// How often an exchange is looked at. A client that sends a body, or whom an answer waits for,
    /// must have moved `slowBytesMin` since the last time; one that is between chunks, anything.
    var checkNanoseconds: UInt64 = 60_000_000_000
    /// 68 bytes a second.
    var slowBytesMin = 4096
    /// When a connection ends with an answer, so much of it is left to the kernel; of more, the
    /// client is looked after.
    var closeBytesMax = 64 * 1024
    /// How long the kernel waits for an HTTP client that takes nothing. Longer than two checks,
    /// which count it.
    var standstillMilliseconds: UInt32 = 180_000
    /// From the request to the first byte of its answer, where no route says less.
    var firstByteNanosecondsMax: UInt64 = 300_000_000_000
    /// No byte either way once an answer has begun: streams may be quiet for an hour.
    var silenceNanosecondsMax: UInt64 = 3_600_000_000_000
    /// From dialling an upstream to the last request on it.
    var upstreamLifeNanosecondsMax: UInt64 = 3_600_000_000_000
    /// While draining: a kept connection that asks nothing for so long is closed.
    var drainIdleNanosecondsMax: UInt64 = 3_000_000_000
    /// An idle upstream: below the 75 s of nginx and most servers' 60 s.
    var idleUpstreamNanosecondsMax: UInt64 = 30_000_000_000
    /// After an error reply: how long unread bytes are read away, so that no reset eats the reply.
    var lingerNanosecondsMax: UInt64 = 2_000_000_000

    /// The first descriptor that is kept for the agent's own.
    var descriptorsMax: Int32 {
        let most = Int(min(engine_descriptors(), 1 << 22))
        return Int32(most - min(descriptorsReserved, most / 2))
    }

    init() {
        precondition(headBytesMax < receiveBytesMax, "a head fits in one receive")
        precondition(pendingBytesMax >= receiveBytesMax + headBytesMax, "what was read can be held")
        precondition(
            pendingBytesMax >= receiveBytesMax + rewrittenHeadBytesMax,
            "what filters have made of it can be held")
        precondition(resendBytesMax < pendingBytesMax, "a request kept is a request held")
    }
}
