// A parsed request -> rule -> backend -> what to do with it.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// The configuration that the exchange started with.
    @inline(__always)
    func config(_ link: Link) -> WorkerConfig {
        guard let config = configs[Int(link.it.configSlot)].config else {
            preconditionFailure("a slot with exchanges holds its configuration")
        }
        return config
    }

    func table(_ link: Link) -> CompiledRoutes {
        config(link).snapshot.routeTables[Int(link.it.table)].compiled
    }

    /// Finds the rule and starts what it asks for. The body's bytes so far are
    /// `base[head.end..<bodyEnd]`.
    func route(_ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ bodyEnd: Int) {
        guard current >= 0 else {
            perform(link.it.exchange.on(.failed(.noListener)), link)
            return
        }
        resolve(link)
        guard link.it.table >= 0, !link.it.isOutdated else {
            // Whatever listens there next may ask for something else, too.
            if !link.it.isCaptured { link.it.keepsAlive = false }
            let failure = link.it.isOutdated ? Failure.listenerChanged : .noListener
            perform(link.it.exchange.on(.failed(failure)), link)
            return
        }
        let table = self.table(link)
        let request = unsafe RequestHead(
            bytes: Bytes(base, count: bodyEnd), method: head.method, path: head.path,
            query: head.query, host: head.host, fields: head.fields, fieldsCount: head.fieldsCount)
        // Without TLS only a tunnel asks whose listener it is.
        if table.hasSeveralScopes, link.it.hasTLS || config(link).peers != nil {
            let scope = table.scope(request.bytes, request.host)
            guard !link.it.hasTLS || scope == link.it.scope || scope < 0 else {
                perform(link.it.exchange.on(.failed(.misdirected)), link)
                return
            }
            if !link.it.hasTLS { link.it.scope = scope }
        }
        let found = table.find(request)
        // What is in a tunnel nobody looks at, so a route must ask for it by name.
        if head.isConnect, found?.namesMethod != true {
            refuse(link, .connectMethod)
            return
        }
        guard let match = found else {
            perform(link.it.exchange.on(.failed(.noRoute)), link)
            return
        }
        guard isCovered(link, request) else {
            perform(link.it.exchange.on(.failed(.misdirected)), link)
            return
        }
        link.it.rule = match.rule
        let rule = table.rules[Int(match.rule)]
        if let failure = choose(link, rule, table) {
            perform(link.it.exchange.on(.failed(failure)), link)
            return
        }
        if rule.redirect >= 0 {
            unsafe redirect(link, base, table.redirects[Int(rule.redirect)], match, table)
            return
        }
        if head.maxForwards == 0 {
            unsafe answerAsLast(link, base)
            return
        }
        armDeadline(link, rule)
        unsafe forward(link, base, bodyEnd, match, table)
    }

    /// Whom this connection is for, under the current configuration.
    func resolve(_ link: Link) {
        let config = self.config(link)
        if link.it.resolvedVersion == config.snapshot.version { return }
        link.it.resolvedVersion = config.snapshot.version
        link.it.table = -1
        let snapshot = config.snapshot
        if link.it.isCaptured {
            if let port = entry(of: link, config) {
                let port = snapshot.ports[port.value]
                link.it.table = Int32((link.it.isDirect ? port.plainTable : port.routeTable) ?? -1)
            }
        } else {
            link.it.socket = socket(of: link, config)
            if link.it.socket >= 0 {
                let socket = snapshot.gatewaySockets[Int(link.it.socket)]
                link.it.table = Int32(socket.routeTable)
            }
        }
        if link.it.hasTLS, link.it.table >= 0 {
            link.it.scope = scope(of: link, self.table(link))
        }
        link.it.isOutdated = !isAsAccepted(link, config)
        let workload = snapshot.workloadsByAddress[link.it.peer.address]
        link.it.isPod = workload != nil
        link.it.workload = workload.map { Int32($0) } ?? -1
        let peer = link.it.isStream && !link.it.carrier.isNone ? link.it.carrier.it.source : 0
        // Whom a Gateway names has proved nothing to us: the series says who has.
        let pod = link.it.isOfGateway ? nil : workload
        link.it.source = pod.map { config.sources[$0] } ?? peer
    }

    /// The service port, or pod, that a captured connection is for.
    func entry(of link: Link, _ config: WorkerConfig) -> PortIndex? {
        link.it.isStream
            ? config.peers?.inbound(link.it.target) : config.snapshot.capture(at: link.it.target)
    }

    /// In place of `pickEndpoint`, where there is nothing to choose.
    func ownEndpoint(_ link: Link) -> SocketAddress? {
        leaveEndpoint(link)
        link.it.affinitySeconds = 0
        let config = self.config(link)
        let pod = config.snapshot.workloadsByAddress[link.it.target.address]
        link.it.destination = pod.map { config.sources[$0] } ?? 0
        return link.it.target
    }

    /// Picks the backend by weight; answers why there is none.
    func choose(_ link: Link, _ rule: CompiledRule, _ table: CompiledRoutes) -> Failure? {
        if rule.isUnsupported { return .unsupportedFilter }
        if rule.redirect >= 0 { return nil }
        guard rule.weightTotal > 0 else { return .unresolvedBackend }
        var index = Int(rule.backendsStart)
        if rule.backendsEnd - rule.backendsStart > 1 {
            let at = nextRandom() % rule.weightTotal
            while table.backends[index].weightEnd <= at { index += 1 }
        }
        let backend = table.backends[index]
        link.it.backend = Int32(index)
        link.it.port = backend.port
        if backend.isUnsupported { return .unsupportedFilter }
        return backend.port < 0 ? .unresolvedBackend : nil
    }

    private func armDeadline(_ link: Link, _ rule: CompiledRule) {
        let (request, backend) = (rule.requestTimeoutMilliseconds, rule.backendTimeoutMilliseconds)
        let least = request == 0 ? backend : backend == 0 ? request : min(request, backend)
        guard least > 0 else { return }
        link.it.requestDeadline = now + UInt64(least) * 1_000_000
        // Whoever stands still meanwhile is looked for as without it.
        timers.arm(link, at: min(link.it.requestDeadline, now + limits.checkNanoseconds))
    }

    /// A ready endpoint that was not tried for this request, the less busy of two at random, or the
    /// client's own where the service asks for affinity; `nil`: there is none at all.
    func pickEndpoint(_ link: Link) -> SocketAddress? {
        let snapshot = config(link).snapshot
        let range = snapshot.ports[Int(link.it.port)].endpoints
        link.it.affinitySeconds = snapshot.ports[Int(link.it.port)].affinitySeconds
        guard !range.isEmpty else { return nil }
        leaveEndpoint(link)
        if range.count == 1 { return enterEndpoint(link, range.lowerBound, snapshot) }
        let chosen = choose(link, snapshot, range)
        switch link.it.triedCount {
        case 0:
            link.it.tried.0 = Int32(chosen)
            link.it.brokenFamily = .any
        case 1: link.it.tried.1 = Int32(chosen)
        default: link.it.tried.2 = Int32(chosen)
        }
        link.it.triedCount = min(link.it.triedCount + 1, 3)
        return enterEndpoint(link, chosen, snapshot)
    }

    private func enterEndpoint(
        _ link: Link, _ index: Int, _ snapshot: Snapshot
    ) -> SocketAddress {
        let slot = Int(link.it.configSlot)
        configs[slot].busy[index] += 1
        link.it.endpoint = Int32(index)
        link.it.destination = config(link).destinations[index]
        return snapshot.endpoints[index].address
    }

    /// Keeps busy an endpoint that was chosen before, of the same configuration.
    func returnToEndpoint(_ link: Link, _ endpoint: Int32) {
        guard endpoint >= 0 else { return }
        configs[Int(link.it.configSlot)].busy[Int(endpoint)] += 1
        link.it.endpoint = endpoint
    }

    /// The exchange does not keep its endpoint busy any more.
    func leaveEndpoint(_ link: Link) {
        guard link.it.endpoint >= 0 else { return }
        configs[Int(link.it.configSlot)].busy[Int(link.it.endpoint)] -= 1
        link.it.endpoint = -1
    }

    private func choose(_ link: Link, _ snapshot: Snapshot, _ range: Range<Int>) -> Int {
        let family = family(for: link)
        if link.it.affinitySeconds > 0 {
            let own = affine(link, snapshot, range, family)
            if own >= 0 { return own }
        }
        // The less busy of two that suit; a few throws of the dice, and only then a walk.
        let size = UInt64(range.count)
        let slot = Int(link.it.configSlot)
        var first = -1
        if snapshot.ports[Int(link.it.port)].isWeighted {
            first = weighedOne(link, snapshot, range, family)
        } else {
            for _ in 0..<8 {
                let index = range.lowerBound + Int(nextRandom() % size)
                guard index != first, suits(link, snapshot, index, family) else { continue }
                if first >= 0 {
                    return configs[slot].busy[index] < configs[slot].busy[first] ? index : first
                }
                first = index
            }
        }
        if first >= 0 { return first }
        // The family gives way before policies do.
        let offset = Int(nextRandom() % size)
        var (admitted, untried) = (-1, range.lowerBound + offset)
        for step in 0..<range.count {
            let index = range.lowerBound + (offset + step) % range.count
            if suits(link, snapshot, index, family) { return index }
            if suits(link, snapshot, index, .any) { admitted = index }
            if !wasTried(link, index) { untried = index }
        }
        return admitted >= 0 ? admitted : untried
    }

    /// One that suits, by its weight among those that do; -1: none does. Who is busy does not
    /// count: shares would not be what was asked for.
    private func weighedOne(
        _ link: Link, _ snapshot: Snapshot, _ range: Range<Int>, _ family: AddressFamily
    ) -> Int {
        var (found, total) = (-1, UInt64(0))
        for index in range where suits(link, snapshot, index, family) {
            let weight = UInt64(snapshot.endpoints[index].weight)
            total += weight
            // The n-th takes the place of those before it as often as its weight is of all so far.
            if total > 0, nextRandom() % total < weight { found = index }
        }
        return found
    }

    @inline(__always)
    func suits(_ link: Link, _ snapshot: Snapshot, _ index: Int, _ family: AddressFamily) -> Bool {
        let address = snapshot.endpoints[index].address
        return family.includes(address.address) && !wasTried(link, index)
            && (link.it.isCaptured || isAdmitted(link, address))
            && refusal(link, address) == nil
    }

    /// Why an endpoint is not asked: it is quarantined, or it insists on mutual TLS and cannot have
    /// it; `nil`: it may be.
    @inline(__always)
    func refusal(_ link: Link, _ address: SocketAddress) -> Failure? {
        if isQuarantined(address) { return .upstreamQuarantined }
        guard config(link).hasUnserved, config(link).snapshot.isUnserved(address) else {
            return nil
        }
        return .plainRefused
    }

    /// Whether an endpoint was not tried yet for this request.
    func hasOtherEndpoints(_ link: Link) -> Bool {
        if link.it.isDirect { return false }
        let range = config(link).snapshot.ports[Int(link.it.port)].endpoints
        return range.count > max(1, Int(link.it.triedCount))
    }

    @inline(__always)
    func wasTried(_ link: Link, _ index: Int) -> Bool {
        let (tried, count) = (link.it.tried, link.it.triedCount)
        return (count > 0 && tried.0 == Int32(index)) || (count > 1 && tried.1 == Int32(index))
            || (count > 2 && tried.2 == Int32(index))
    }
}
