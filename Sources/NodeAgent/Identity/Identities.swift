// Which certificates this node holds and when each is replaced: a value that is told the accounts
// and the time, asks the source, and answers what the engine may use.

internal import L7Engine
internal import MeshModel

/// The node's certificates.
///
/// - Threads: the agent's.
struct Identities {
    /// More wait for the next turn, which comes at once: the agent answers in between.
    static let asksPerTurnMax = 256
    /// After a refusal it waits so long, doubled each time up to the second.
    static let retrySeconds = 1.0
    static let retrySecondsMax = 60.0

    /// One identity that the node needs.
    struct Entry {
        var svid: X509SVID?
        /// When its life began, and when it is to be replaced: seconds since 1970.
        var issuedAt: Int64 = 0
        var renewAt: Int64 = 0
        /// Why the last try failed.
        var failure: SVIDFailure?
        var attempts = 0
        /// By the steady clock.
        var retryAt = 0.0
        /// Replaced at once, whatever its age: the bundle does not accept it any more.
        var isRefused = false
    }

    struct Counts {
        var issued: UInt64 = 0
        var expired: UInt64 = 0
        var clockJumps: UInt64 = 0
        var failures: [SVIDFailure.Reason: UInt64] = [:]
    }

    private var source: any SVIDSource
    private let random: () -> Double
    private(set) var entries: [SPIFFEID: Entry] = [:]
    /// Accounts whose names make no SPIFFE ID.
    private(set) var nameless: [ObjectName: SVIDFailure] = [:]
    private(set) var bundles: [TrustBundle] = []
    /// Why the bundles, or parts of them, cannot be had now; the last ones stay.
    private(set) var bundleFailures: [SVIDFailure] = []
    private(set) var credentials = Credentials()
    private(set) var counts = Counts()
    /// The last turn has asked for as many as one may; others wait for the next.
    private(set) var hasMore = false
    private var clock = ClockWatch()

    /// - Parameter random: answers 0..<1.
    init(_ source: any SVIDSource, random: @escaping () -> Double = { .random(in: 0..<1) }) {
        self.source = source
        self.random = random
    }

    var title: String { source.title }
    var trustDomain: TrustDomain { source.trustDomain }
    var warnings: [String] { source.warnings }
    var signers: [[UInt8]] { source.signers }
    var bell: Int32 { source.bell }
    func hasAnswered() -> Bool { source.hasAnswered() }

    /// All that is wrong with the bundles, as one.
    var bundleFailure: SVIDFailure? {
        bundleFailures.first.map {
            SVIDFailure($0.reason, bundleFailures.map(\.message).joined(separator: "; "))
        }
    }

    /// The accounts that the node's pods have; all others lose their certificates.
    mutating func follow(_ accounts: Set<ObjectName>) {
        var wanted: [SPIFFEID: Entry] = [:]
        nameless = [:]
        for account in accounts {
            do throws(SPIFFEIDError) {
                let id = try SPIFFEID(
                    source.trustDomain, namespace: account.namespace, serviceAccount: account.name)
                wanted[id] = entries[id] ?? Entry()
            } catch {
                nameless[account] = SVIDFailure(.name, "account \(account): \(error)")
            }
        }
        entries = wanted
    }

    /// Looks at the source and at every certificate; makes new `credentials` if anything changed.
    ///
    /// - Returns: lines for the log.
    /// - Complexity: linear in identities; at most `asksPerTurnMax` certificates are asked for.
    mutating func turn(_ moment: Moment) -> [String] {
        var lines: [String] = []
        let jump = clock.note(moment)
        if jump != 0 {
            counts.clockJumps += 1
            lines.append(
                "the clock was set \(abs(jump)) s \(jump < 0 ? "back" : "forward"): certificates "
                    + "are judged by the new time")
        }
        readBundles(moment.wall, &lines)
        var asks = Self.asksPerTurnMax
        hasMore = false
        for id in entries.keys.sorted() {
            guard var entry = entries[id] else { continue }
            update(&entry, id, moment, &asks, &lines)
            entries[id] = entry
        }
        publish()
        return lines
    }

    // MARK: Bundles

    private mutating func readBundles(_ now: Int64, _ lines: inout [String]) {
        do throws(SVIDFailure) {
            let read = try source.bundles(at: now)
            note(source.refused, &lines)
            guard read != bundles else { return }
            bundles = read
            retryAtOnce()
            lines.append("identity: \(source.title): \(Self.described(read))")
            for (id, entry) in entries {
                guard let svid = entry.svid else { continue }
                let isGood = verdict(svid, at: now) == .good
                entries[id]?.isRefused = !isGood
            }
        } catch {
            note([error], &lines)
        }
    }

    private mutating func note(_ failures: [SVIDFailure], _ lines: inout [String]) {
        let before = bundleFailures
        bundleFailures = failures
        for failure in failures where !before.contains(failure) {
            counts.failures[failure.reason, default: 0] += 1
            lines.append("identity: \(failure.message)")
        }
        guard !before.allSatisfy(failures.contains) else { return }
        retryAtOnce()
        if failures.isEmpty { lines.append("identity: \(source.title) is well again") }
    }

    /// What failed by what was there before may succeed now.
    private mutating func retryAtOnce() {
        for id in entries.keys {
            entries[id]?.attempts = 0
            entries[id]?.retryAt = 0
        }
    }

    private static func described(_ bundles: [TrustBundle]) -> String {
        bundles.map { bundle in
            let lists = bundle.revocations.isEmpty ? "" : ", \(bundle.revocations.count) CRL(s)"
            return "\(bundle.trustDomain) has \(bundle.roots.count) root(s)\(lists)"
        }.joined(separator: "; ")
    }

    private func verdict(_ svid: X509SVID, at now: Int64) -> TrustBundle.Verdict {
        let bundle = bundles.first { $0.trustDomain == svid.id.trustDomain }
        return bundle?.verify(svid.chain, at: now) ?? .untrusted
    }

    // MARK: Certificates

    private mutating func update(
        _ entry: inout Entry, _ id: SPIFFEID, _ moment: Moment, _ asks: inout Int,
        _ lines: inout [String]
    ) {
        let now = moment.wall
        if let svid = entry.svid {
            let state = Rotation.state(svid, renewAt: entry.renewAt, at: now)
            if state == .fresh, source.issues, !entry.isRefused { return }
            if state == .expired || entry.isRefused && revoked(svid, at: now) {
                counts.expired += 1
                lines.append("the certificate of \(id) is taken out of use: it is no longer good")
                entry.svid = nil
            }
        }
        guard moment.steady >= entry.retryAt else { return }
        // What others make costs a look.
        if source.issues {
            guard asks > 0 else {
                hasMore = true
                return
            }
            asks -= 1
        }
        do throws(SVIDFailure) {
            guard let new = try source.certificate(for: id, after: entry.svid, at: now) else {
                entry.failure = nil
                return
            }
            try check(new, at: now)
            counts.issued += 1
            // Of what others made, all that is known of the beginning of its life is notBefore.
            let issued = source.issues ? now : new.notBefore
            entry = Entry(
                svid: new, issuedAt: issued,
                renewAt: Rotation.renewal(
                    issued: issued, notAfter: new.notAfter, random: random()))
        } catch {
            fail(&entry, id, error, moment, &lines)
        }
    }

    private func revoked(_ svid: X509SVID, at now: Int64) -> Bool {
        verdict(svid, at: now) == .revoked
    }

    /// What nobody would accept is not taken.
    private func check(_ svid: X509SVID, at now: Int64) throws(SVIDFailure) {
        if svid.notAfter - Rotation.marginSeconds <= now {
            throw SVIDFailure(
                .expired, "the certificate for \(svid.id), or one above it, has expired")
        }
        switch verdict(svid, at: now) {
        case .good: return
        case .revoked: throw SVIDFailure(.revoked, "the certificate for \(svid.id) is revoked")
        case .expired:
            throw SVIDFailure(.expired, "a certificate in the chain of \(svid.id) has expired")
        case .notYetValid:
            throw SVIDFailure(.expired, "a certificate in the chain of \(svid.id) is not valid yet")
        case .untrusted, .unreadable:
            throw SVIDFailure(
                .untrusted, "the certificate for \(svid.id) does not lead to a root of the bundle")
        }
    }

    private mutating func fail(
        _ entry: inout Entry, _ id: SPIFFEID, _ failure: SVIDFailure, _ moment: Moment,
        _ lines: inout [String]
    ) {
        let isNew = entry.failure != failure
        // What only watches looks at each turn: the same failure is one.
        if isNew || source.issues { counts.failures[failure.reason, default: 0] += 1 }
        if isNew { lines.append("identity: \(failure.message)") }
        entry.failure = failure
        // What appears by itself is looked for at each turn: a look costs nothing there.
        guard source.issues else {
            if failure.reason == .missing, entry.svid != nil {
                lines.append("identity: the certificate of \(id) is withdrawn")
                entry.svid = nil
            }
            return
        }
        let wait = Self.retrySeconds * Double(1 << min(entry.attempts, 6))
        entry.retryAt = moment.steady + min(wait, Self.retrySecondsMax) * (0.5 + random() / 2)
        entry.attempts += 1
    }

    // MARK: What the engine gets

    private mutating func publish() {
        var svids: [SPIFFEID: X509SVID] = [:]
        for (id, entry) in entries { svids[id] = entry.svid }
        var byDomain: [TrustDomain: TrustBundle] = [:]
        for bundle in bundles { byDomain[bundle.trustDomain] = bundle }
        let isSame =
            svids.count == credentials.svids.count && byDomain == credentials.bundles
            && svids.allSatisfy { $0.value.isSame(as: credentials.svids[$0.key]) }
        guard !isSame else { return }
        credentials = Credentials(
            version: credentials.version + 1, svids: svids, bundles: byDomain)
    }
}
