// One socket of a worker with all that the worker knows of it: a flat record in memory that the
// worker allocates and frees, so that the hot path touches no reference counts.

internal import MeshModel

enum Role: UInt8, BitwiseCopyable {
    case mailbox, listener, downstream, upstream
    /// Carries others (Worker+Carrier).
    case carrier
}

enum Phase: UInt8, BitwiseCopyable {
    /// Downstream: between or inside request heads. Upstream: the response's head is awaited.
    case head
    /// Downstream: the request's body streams. Upstream: the response's body streams.
    case body
    /// Downstream: the request is complete, the response is not.
    case waiting
    /// Upstream: connect(2) is under way.
    case connecting
    /// Upstream: connected, while another dial of its race has its handshake (Worker+Race).
    case standingBy
    /// Both: the session's handshake is under way (Worker+Transport).
    case handshaking
    /// Upstream: in its pool.
    case idle
    /// Downstream: neither end has said what it speaks. Upstream: connected for such a client.
    case sensing
    /// Both: bytes pass as they are.
    case tunnel
    /// Downstream: what is written is flushed, then closed.
    case flushing
    /// Downstream: the reply is sent, what still comes is read away for a moment.
    case lingering
    case dead
}

/// What was done to find an upstream for a client that has not spoken (Worker+Sense).
enum Search: UInt8, BitwiseCopyable { case none, postponed, begun, failed }

/// - Owns: its descriptor and buffers, until `Worker.close`.
/// - Limits: about 900 bytes; a test says so.
@safe struct Connection: BitwiseCopyable {
    var descriptor: Int32 = -1
    /// What is between the bytes and the socket.
    var session = Session.none
    var role = Role.downstream
    var phase = Phase.head
    /// An edge said that bytes may be there; cleared by a short read.
    var canRead = false
    /// The peer will send no more (EPOLLRDHUP), or the connection is broken: read until 0.
    var isEnding = false
    /// recv answered 0.
    var hasEnded = false
    /// It ended without an orderly end.
    var isBroken = false
    /// The peer has reset it, maybe behind an orderly end.
    var isReset = false
    /// It waits in its account's queue (Worker+Schedule) with what the kernel said meanwhile.
    var isReady = false
    var events: UInt32 = 0
    var readyNext = Link.none
    /// The other socket of the exchange.
    var partner = Link.none
    /// Whom its work is charged to: downstream, the client's workload; upstream, its exchange's.
    var account: Int32 = 0
    /// Upstream: the account of the workload that answers, which the black box names while its
    /// bytes are read; 0: it has none of its own.
    var server: Int32 = 0
    var keepsAlive = true
    /// Bytes in `input` were parsed in vain: more are needed.
    var needsMore = false
    /// Its session is a stream of `carrier`; it has no socket.
    var isStream = false
    /// A stream's carrier that never connected: `connect`, or `timeout`.
    var unreached = TunnelEnd.none
    /// Goes to the address that was dialled, whatever services say of it.
    var isDirect = false
    /// Downstream: what serves it has been reached by a tunnel; a dial alone proves nobody.
    var isTunnelled = false

    var input = ByteBuffer()
    /// What the socket did not take; while anything waits, its peer is not read.
    var output = ByteBuffer()
    /// Stands before `output` (Worker+Splice).
    var pipe = Pipe.none
    /// Much comes at once: what comes next is moved and not copied (Worker+Tunnel).
    var isBulky = false
    /// The socket holds bytes back, because more was promised.
    var isHeldBack = false
    /// Something waits for the socket to take it.
    @inline(__always) var isBlocked: Bool { !output.isEmpty || pipe.held > 0 }
    var framing = BodyFraming()

    // The timer wheel's links.
    var deadline = UInt64.max
    var timerSlot: Int32 = -1
    var timerTick: UInt64 = 0
    var timerNext = Link.none
    var timerPrevious = Link.none

    // Upstream; the links are those of its pool, downstream those of `Worker.unwatched`.
    /// `none` once it is closed: the pool may be freed then.
    var pool = PoolLink.none
    var idleNext = Link.none
    var idlePrevious = Link.none
    var wasReused = false
    /// Kept alive, it took nothing of the current request, which another connection will take.
    var isUnsent = false
    /// Something of the current response was received.
    var hasAnswered = false
    var openedAt: UInt64 = 0
    /// Interim answers (1xx) to the current request.
    var interims: UInt8 = 0
    /// Upstream: who would take it still, and when that one's request began. Downstream: the
    /// other dial of its race (Worker+Race).
    var waiter = Link.none
    var waiterSince: UInt64 = 0

    /// Listener: how many connections are taken in a row.
    var batch: UInt8 = 1
    /// Downstream: in the epoll set. One that ends soon never is (Worker+Watch).
    var isWatched = true

    // Downstream: whom it speaks to and from where; a listener's own address.
    var peer = SocketAddress(.anyV6, 0)
    var target = SocketAddress(.anyV6, 0)
    /// Came through the engine's namespace; else by a Gateway's socket.
    var isCaptured = false
    /// It has dialled the pod, or its service, itself: its own policies have a say.
    @inline(__always) var isOwnCall: Bool { isCaptured && !isOfGateway }
    /// The configuration slot under which `table`, `source` and `gateway` were looked up; -1: none.
    var resolvedVersion = UInt64.max
    var table: Int32 = -1
    /// Of `MetricNames.sources`; the stable number of the client's workload. Carrier: of who has
    /// proved to be no pod, or of the Gateway that dialled; the same of streams that we open.
    var source: UInt32 = 0
    /// Downstream of a Gateway: as what it dialled, the same; 0: as its client.
    var dialler: UInt32 = 0
    var isPod = false
    /// Of `table`'s scopes, the one that the client chose by SNI; without TLS, by its request.
    var scope: Int32 = -1

    // Downstream: TCP as it comes (Worker+Opaque).
    /// Not HTTP, or not known to be.
    var isOpaque = false
    /// Counted as opened.
    var isOpened = false
    var search = Search.none
    /// The port's number in the metrics.
    var metricPort: UInt32 = 0
    // What of the bytes is in the metrics already.
    var reportedReceived: UInt64 = 0
    var reportedSent: UInt64 = 0

    // Downstream: the exchange.
    var exchange = Exchange()
    var configSlot: Int32 = -1
    /// The exchange has outlived its configuration: `metricPort` and the route's label, behind
    /// `logText`, are all that is left of it.
    var hasLetGo = false
    var routeLength: UInt8 = 0
    var rule: Int32 = -1
    var backend: Int32 = -1
    var port: Int32 = -1
    var triedCount: UInt8 = 0
    var redials: UInt8 = 0
    /// Whose path is broken, by what was seen for this request.
    var brokenFamily = AddressFamily.any
    /// How long the client keeps its endpoint of `port`; 0: not at all.
    var affinitySeconds: UInt32 = 0
    /// Into `Snapshot.endpoints`, while it counts as busy for this exchange; -1: none.
    var endpoint: Int32 = -1
    /// The endpoint's workload, as `source`.
    var destination: UInt32 = 0
    var tried: (Int32, Int32, Int32) = (-1, -1, -1)
    var isHead = false
    var minor: UInt8 = 1
    var wantsUpgrade = false
    var isConnect = false
    /// It sends its body when the upstream has said 100, which has not come.
    var awaitsContinue = false
    var isResendable = false
    var answerStarted = false
    var status: UInt16 = 0
    var flag = ResponseFlag.none
    /// `Failure.code` of what went wrong.
    var failure: UInt8 = 0
    var prefersJSON = false
    /// The request says who its client is, which is ours to say.
    var claimsIdentity = false
    /// In `logText`, behind the rest.
    var requestIDLength: UInt8 = 0
    /// The client brought none, or one that we do not pass on.
    var madeRequestID = false
    /// Bytes of `request` before its body, which is gathered.
    var headBytes: UInt32 = 0
    /// The request as it goes upstream, kept until an answer begins.
    var request = ByteBuffer()
    var startedAt: UInt64 = 0
    // What the last checks of the exchange saw (Worker+Overload).
    var seenBytes: UInt64 = 0
    var quietSince: UInt64 = 0
    var takenBytes: UInt64 = 0
    var bodySeen: UInt64 = 0
    var requestDeadline = UInt64.max
    var receivedBytes: UInt64 = 0
    var sentBytes: UInt64 = 0
    var methodLength: UInt8 = 0
    var pathLength: UInt16 = 0
    var authorityLength: UInt8 = 0
    var upstreamPeer = SocketAddress(.anyV6, 0)
    /// Method, path and authority for the access log, `logTextBytes` long, then the request's id,
    /// then the label of a route that the exchange has outlived.
    var logText: UnsafeMutablePointer<UInt8>?

    // What mutual TLS needs, behind all that plain connections touch.
    /// Downstream of a Gateway: into `Snapshot.gatewaySockets`.
    var socket: Int32 = -1
    /// Downstream: of `Mesh.workloads`, the client; -1: it is none of them.
    var workload: Int32 = -1
    /// Downstream: a stream of a Gateway's, which said for whom it asks: `peer`.
    var isOfGateway = false
    /// Its handshake was answered, and is not done.
    var isShaking = false
    /// Carrier: it was accepted; else dialled.
    var isServer = false
    /// Carrier that was dialled: the part of our ports that it is dialled from, below 4.
    var part: UInt8 = 0
    /// Carrier: in `Worker.soiled`.
    var isSoiled = false
    /// Carrier: PINGs sent.
    var pingsSent: UInt32 = 0
    /// Carrier: of the `MeshContexts` that it shows.
    var shown: UInt32 = 0
    /// Carrier: whom what its streams hold is charged to; 0: each stream has an account of its own.
    var holder: Int32 = 0
    /// Carrier: in `Worker.paused`.
    var isPaused = false
    /// Carrier: when the first of both certificates runs out, in nanoseconds of the wall's clock;
    /// it takes nothing new then.
    var takesUntil = UInt64.max
    /// Since when a carrier is not read, because its peer takes nothing; 0: it is read.
    var stalledSince: UInt64 = 0
    /// Of a stream.
    var carrier = Link.none
    var tunnel = HBONETunnel.none

    /// Downstream of a Gateway: a socket for all addresses has accepted it.
    var isOfAnyAddress = false
    /// The same: its socket asks for something else now (`isAsAccepted`).
    var isOutdated = false

    init() { unsafe logText = nil }

    static let logTextBytes = 256
    static let textBytes = logTextBytes + RequestID.bytesMax + AccessLog.routeBytesMax
}

/// A reference to a connection that its worker keeps alive.
///
/// - Threads: the worker's.
@safe struct Link: BitwiseCopyable, Equatable {
    let pointer: UnsafeMutablePointer<Connection>?

    static var none: Link { unsafe Link(nil) }

    init(_ pointer: UnsafeMutablePointer<Connection>?) { unsafe self.pointer = pointer }

    init(token: UInt64) {
        unsafe pointer = UnsafeMutablePointer(bitPattern: UInt(token))
    }

    var isNone: Bool { unsafe pointer == nil }
    var token: UInt64 { UInt64(UInt(bitPattern: unsafe pointer)) }

    static func == (one: Link, other: Link) -> Bool {
        unsafe (one.pointer == other.pointer)
    }

    /// The record. Only where it is known that there is one: a worker frees records at the end of
    /// a turn, after the last use of what pointed at them.
    var it: Connection {
        @inline(__always) unsafeAddress {
            unsafe UnsafePointer(pointer.unsafelyUnwrapped)
        }
        @inline(__always) nonmutating unsafeMutableAddress {
            unsafe pointer.unsafelyUnwrapped
        }
    }
}
