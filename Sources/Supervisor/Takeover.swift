// One supervisor after another on the same node: the second gets every listening socket, the locks
// and the engine's namespace of the first, which then drains. Nothing is closed in between, so that
// no connection notices.

internal import CLinux
internal import Glibc

/// What a supervisor holds for its children, and hands to the next supervisor.
struct Holdings: ~Copyable {
    /// `nil` once it is the successor's alone.
    private(set) var lock: NodeLock?
    var engine: EngineNamespace?
    var sockets: HeldSockets
    /// Where the next one knocks; `nil`: it cannot be opened, and there will be no takeover.
    private(set) var door: Descriptor?
    /// The predecessor, which waits for our first child to serve.
    let predecessor: ControlSocket?

    /// Makes everything anew.
    init(_ options: SupervisorOptions) throws(SupervisorError) {
        let lock = try NodeLock(
            state: options.statePath, socket: options.socketPath, ownsNode: options.hasDatapath)
        engine = options.hasDatapath ? try EngineNamespace(workers: options.workers) : nil
        self.lock = consume lock
        sockets = HeldSockets()
        let path = Self.doorPath(options)
        // The path outlives the call.
        let door = unsafe malla_takeover_listen(path, path.utf8.count)
        self.door = door >= 0 ? Descriptor(adopting: door) : nil
        predecessor = nil
    }

    static func doorPath(_ options: SupervisorOptions) -> String {
        options.socketPath + ".takeover"
    }

    /// Nobody will take over any more.
    func removeNames(_ options: SupervisorOptions) {
        switch lock {
        case .some(let lock): lock.removeSocket()
        case .none: break
        }
        unsafe unlink(Self.doorPath(options))
    }

    /// Gets everything from the supervisor that runs with the same `--socket`.
    init(takingOver options: SupervisorOptions) throws(SupervisorError) {
        let path = Self.doorPath(options)
        // The path outlives the call.
        let connected = unsafe malla_takeover_connect(path, path.utf8.count)
        guard connected >= 0 else { throw .noPredecessor(path, errno: -connected) }
        let predecessor = ControlSocket(adopting: connected)
        let question = ControlMessage(.takeover, number: ControlMessage.takeoverVersion)
        guard predecessor.send(question) == 0, let (first, all) = predecessor.receive() else {
            throw .noPredecessor("the other agent does not answer", errno: EPIPE)
        }
        let fixed = options.hasDatapath ? 5 : 3
        guard first.kind == .inheritance, all.count >= fixed,
            (all.count > 3) == options.hasDatapath
        else {
            for one in all { close(one) }
            let why =
                switch first.code {
                case ESHUTDOWN: "the other agent is ending"
                case EBUSY: "another takeover is under way"
                default: "the other agent is another version, or --datapath differs"
                }
            throw .noPredecessor(why, errno: first.code == 0 ? EPROTO : first.code)
        }
        let listeners = Array(all.dropFirst(5))
        var sockets = HeldSockets()
        var workers = options.hasDatapath ? listeners.count : options.workers
        while let (message, handed) = predecessor.receive(), message.kind == .held {
            if message.purpose == .gateway { workers = handed.count }
            sockets.adopt(message, handed)
        }
        // A listener that no worker accepts from would keep its connections waiting for ever.
        guard workers == options.workers else {
            throw .noPredecessor(
                "it has \(workers) workers and this one \(options.workers)", errno: EINVAL)
        }
        engine =
            options.hasDatapath
            ? EngineNamespace(
                descriptor: all[4], interfaceIndex: first.number, listeners: listeners) : nil
        lock = NodeLock(
            state: all[0], node: options.hasDatapath ? all[3] : nil, socket: all[1],
            socketPath: options.socketPath)
        self.sockets = sockets
        door = Descriptor(adopting: all[2])
        self.predecessor = consume predecessor
    }

    /// Who knocks; negative: -errno.
    func openDoor() -> Int32 {
        doorNumber >= 0 ? malla_takeover_accept(doorNumber) : -EAGAIN
    }

    /// Hands over copies of everything to who has knocked.
    ///
    /// - Parameter refusal: 0, or why not, an errno. `ESHUTDOWN`: we are ending, and what we hand
    ///   over we would take away again. `EBUSY`: another has got it, and is to serve.
    /// - Returns: the connection, by which the successor says that it serves; `nil`: it was nobody.
    func handOver(to knocking: Int32, refusal: Int32) -> ControlSocket? {
        let successor = ControlSocket(adopting: knocking)
        guard let (message, handed) = successor.receive() else { return nil }
        for one in handed { close(one) }
        guard message.kind == .takeover else { return nil }
        guard message.number == ControlMessage.takeoverVersion else {
            _ = successor.send(ControlMessage(.end, code: EPROTONOSUPPORT))
            return nil
        }
        if refusal != 0 {
            _ = successor.send(ControlMessage(.end, code: refusal))
            return nil
        }
        guard let numbers = lockNumbers else { return nil }
        var all = [numbers.state, numbers.socket, doorNumber]
        var interface: UInt32 = 0
        if let node = numbers.node, let engine = engineNumbers {
            all += [node] + engine.descriptors
            interface = engine.interface
        }
        guard successor.send(ControlMessage(.inheritance, number: interface), all) == 0 else {
            return nil
        }
        for var held in sockets.requests {
            let descriptors = sockets.sockets(of: held)
            held.kind = .held
            guard successor.send(held, descriptors) == 0 else { return nil }
        }
        guard successor.send(ControlMessage(.end)) == 0 else { return nil }
        return consume successor
    }

    /// The successor serves: lets go of our copies, so that it alone holds locks and sockets, and
    /// what ends with it ends.
    mutating func letGo() {
        lock = nil
        door = nil
        engine = nil
        sockets.letGo()
    }

    /// The descriptors of the locks, as a child or a successor gets them.
    var lockNumbers: (state: Int32, socket: Int32, node: Int32?)? {
        switch lock {
        case .some(let lock): (lock.state.number, lock.socket.number, lock.nodeNumber)
        case .none: nil
        }
    }

    /// -1: there is no door.
    var doorNumber: Int32 {
        switch door {
        case .some(let door): door.number
        case .none: -1
        }
    }

    var hasPredecessor: Bool {
        switch predecessor {
        case .some: true
        case .none: false
        }
    }

    /// The predecessor goes on: it closes the connection when it has heard that our child serves.
    var isPredecessorServing: Bool {
        switch predecessor {
        case .some(let predecessor): !predecessor.isHungUp
        case .none: false
        }
    }

    /// Our child serves: the predecessor may end. It hears that once; then nobody is there.
    func tellPredecessor() {
        switch predecessor {
        case .some(let predecessor): _ = predecessor.send(ControlMessage(.serving))
        case .none: break
        }
    }

    /// The namespace and its listeners, as a child or a successor gets them.
    var engineNumbers: (descriptors: [Int32], interface: UInt32)? {
        switch engine {
        case .some(let engine):
            ([engine.descriptor.number] + engine.listeners, engine.interfaceIndex)
        case .none: nil
        }
    }
}
