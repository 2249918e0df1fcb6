internal import L7Engine
internal import Logging
internal import MeshModel

/// What the log says of tunnels that were refused, and of requests that brought a forged field:
/// who, at which pod, why, and what to do; whoever keeps on trying fills no log.
///
/// - Limits: `linesMax` of a reason at a look (every two seconds), the same again after `silence`;
///   meanwhile `RefusedTunnel.podsMax` of a peer for a reason, and `rememberedMax` others. What is
///   left out is counted, and said once in `silence`.
struct RefusalReport {
    static let linesMax = 4
    static let silence = Duration.seconds(60)
    static let rememberedMax = 256

    /// The same peer, for the same reason, whatever its port and whomever its certificate names:
    /// both are the peer's to choose.
    private struct Peer: Hashable {
        var isOurs: Bool
        var address: IPAddress
        var reason: String

        init(_ tunnel: RefusedTunnel) {
            (isOurs, address, reason) = (tunnel.isOurs, tunnel.peer.address, tunnel.reason)
        }
    }

    private struct LeftOut {
        var count = 0
        var since: ContinuousClock.Instant
    }

    /// Of whom, at which pods, and when.
    private var told: [Peer: [IPAddress: ContinuousClock.Instant]] = [:]
    private var leftOut: [String: LeftOut] = [:]

    /// - Parameters:
    ///   - refused: all since the last call.
    ///   - name: of the pod at an address; `nil`: there is none.
    mutating func lines(
        of refused: RefusedTunnels, at now: ContinuousClock.Instant,
        _ name: (IPAddress) -> String?
    ) -> [String] {
        told = told.mapValues { $0.filter { now - $0.value < Self.silence } }
            .filter { !$0.value.isEmpty }
        var lines: [String] = []
        var counts: [String: Int] = [:]
        for tunnel in inTurn(refused.tunnels) {
            let count = counts[tunnel.reason, default: 0]
            guard count < Self.linesMax, isNews(tunnel) else {
                leaveOut(1, tunnel.reason, at: now)
                continue
            }
            told[Peer(tunnel), default: [:]][tunnel.pod] = now
            counts[tunnel.reason] = count + 1
            lines.append(Self.line(of: tunnel, name))
        }
        for (reason, count) in refused.others { leaveOut(count, reason, at: now) }
        return lines + summary(at: now)
    }

    /// Peers of whom nothing was told come first, each once: who dials many pods hides nobody.
    private func inTurn(_ tunnels: [RefusedTunnel]) -> [RefusedTunnel] {
        var seen = Set(told.keys)
        var (first, later): ([RefusedTunnel], [RefusedTunnel]) = ([], [])
        for tunnel in tunnels {
            if seen.insert(Peer(tunnel)).inserted {
                first.append(tunnel)
            } else {
                later.append(tunnel)
            }
        }
        return first + later
    }

    private func isNews(_ tunnel: RefusedTunnel) -> Bool {
        guard let pods = told[Peer(tunnel)] else { return told.count < Self.rememberedMax }
        return pods[tunnel.pod] == nil && pods.count < RefusedTunnel.podsMax
    }

    private mutating func leaveOut(
        _ count: Int, _ reason: String, at now: ContinuousClock.Instant
    ) {
        leftOut[reason, default: LeftOut(since: now)].count += count
    }

    private mutating func summary(at now: ContinuousClock.Instant) -> [String] {
        let due = leftOut.filter { now - $0.value.since >= Self.silence }
        for reason in due.keys { leftOut[reason] = nil }
        return due.sorted { $0.key < $1.key }.map { reason, left in
            let seconds = (now - left.since).components.seconds
            let what =
                reason == RefusedTunnel.forgedClientCert
                ? "requests brought an x-forwarded-client-cert, which was taken out,"
                : "tunnels were refused"
            return "\(left.count) more \(what) within \(seconds) s (\(reason)), "
                + "of peers named before or too many to be named"
        }
    }

    private static func line(of tunnel: RefusedTunnel, _ name: (IPAddress) -> String?) -> String {
        func place(_ address: IPAddress, _ text: String) -> String {
            name(address).map { "pod \($0) (\(text))" } ?? text
        }
        let peer = place(tunnel.peer.address, "\(tunnel.peer)")
        let named = tunnel.claim.isEmpty ? "" : ", whose certificate names \(tunnel.claim),"
        let (why, remedy) = words(tunnel)
        if tunnel.reason == RefusedTunnel.forgedClientCert {
            let to = place(tunnel.pod, tunnel.asked.map { "\($0)" } ?? "\(tunnel.pod)")
            return "a request from \(peer)\(named) to \(to) brought an x-forwarded-client-cert, "
                + "which was taken out (\(tunnel.reason)): \(why); \(remedy)"
        }
        let asked = tunnel.asked.map { " for \($0)" } ?? ""
        let pod = place(tunnel.pod, "\(tunnel.pod)")
        let what =
            tunnel.isOurs
            ? "a tunnel from \(tunnel.pod == .anyV6 ? "a Gateway" : pod) to \(peer)\(named) was"
                + " given up"
            : "a tunnel\(asked) from \(peer)\(named) to \(pod) was refused"
        return "\(what) (\(tunnel.reason)): \(why); \(remedy)"
    }

    /// Why, and what to do.
    private static func words(_ tunnel: RefusedTunnel) -> (String, String) {
        switch tunnel.reason {
        case "name_mismatch":
            (
                "that is not who the pod at this address is, or it is a pod's name and no pod is "
                    + "there",
                "somebody uses a certificate that is not its own, or one of the nodes does not know "
                    + "the pod or its service account yet: compare `malla mtls` and `malla certs`"
            )
        case "untrusted":
            (
                "no authority that this node believes for its trust domain has signed its "
                    + "certificate",
                "compare the authorities of both nodes (`malla certs`), federate its trust domain, "
                    + "or find out who it is"
            )
        case "expired":
            (
                "its certificate has run out, or is not valid yet",
                "look at the clocks of both nodes, and at what renews its certificate"
            )
        case "revoked":
            (
                "its certificate, or one that has signed it, is revoked, or its authority is gone",
                "find out who still uses it, or give it another one"
            )
        case "no_certificate":
            ("it showed no certificate", "only workloads with an identity open tunnels")
        case "no_spiffe_id":
            (
                "its certificate names no workload as SPIFFE writes it",
                "find out who has signed it, and for whom"
            )
        case "no_context":
            ("this node has no valid certificate of the pod", "see `malla certs`")
        case "version", "cipher":
            ("it offers no TLS 1.3 with a suite that is allowed", "mend or replace its software")
        case "no_protocol":
            ("it does not speak HTTP/2 by ALPN", "mend or replace its software")
        case "not_tls", "plain_http":
            ("it does not speak TLS", "only HBONE is spoken at port 15008")
        case "peer_alert":
            (
                "it has refused this node's certificate, or the handshake",
                "see its log, and compare the authorities of both"
            )
        default: otherWords(tunnel)
        }
    }

    /// The same of what came behind a good handshake, or without one.
    private static func otherWords(_ tunnel: RefusedTunnel) -> (String, String) {
        switch tunnel.reason {
        case "connect_elsewhere":
            (
                "a tunnel leads to the pod that was dialled, and to nothing else",
                "find out who wants to reach that place by it"
            )
        case "connect_no_address", "connect_method", "connect_protocol", "connect_too_long":
            ("its CONNECT is not what HBONE says", "mend or replace its software")
        case "denied_by_policy":
            (
                "network policies do not let it reach the pod, or the client for whom it asks",
                "see `malla policy trace`; one that its own node has let through shows that the "
                    + "nodes do not know the same policies yet"
            )
        case "connect_unavailable":
            (
                "the pod did not take the connection",
                "see whether it runs, and listens at that port"
            )
        case RefusedTunnel.forgedClientCert:
            (
                "who a request is from is what its connection has proved, not what it says itself",
                "the request went on as from this peer: a proxy outside of the mesh, or a pod that "
                    + "passes on what it got, means no harm; else find out whom it pretends to be"
            )
        default:
            ("the handshake failed", "see docs/metrics.md, TLS handshakes")
        }
    }
}

extension Agent {
    func tellRefused() {
        let lines = refusals.lines(of: engine.takeRefused(), at: .now) { address in
            self.snapshot.flatMap { snapshot in
                snapshot.workloadsByAddress[address].map {
                    snapshot.mesh.workloads[$0].name.description
                }
            }
        }
        for line in lines { logger.warning("\(line)") }
    }
}
