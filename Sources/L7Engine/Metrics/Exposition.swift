// Counts of all workers as Prometheus text. Runs on the thread that scrapes; allocates freely.

internal import MeshModel
internal import Synchronization

/// Numbers under which the workers count workloads and service ports; they outlive snapshots.
struct MetricNames: Sendable {
    /// What Istio's labels say of a workload. Source: istio.io, Istio Standard Metrics, Labels.
    struct Source: Sendable, Hashable {
        var workload: String
        var namespace: String
        var app = "unknown"
        var version = "unknown"
        var canonicalService = "unknown"
        var canonicalRevision = "latest"
        /// Of the pods; empty: unknown.
        var serviceAccount = ""
        /// Who it has proved to be and is no pod: a Gateway, a host outside.
        var id = ""

        static let unknown = Source(workload: "unknown", namespace: "unknown")

        init(workload: String, namespace: String) {
            self.workload = workload
            self.namespace = namespace
        }

        init(_ pod: Workload) {
            self.init(workload: pod.workloadName, namespace: pod.name.namespace)
            let labels = pod.labels
            if pod.isMeshed { serviceAccount = pod.serviceAccount }
            app = labels["app"] ?? app
            version = labels["version"] ?? version
            canonicalService =
                labels["service.istio.io/canonical-name"] ?? labels["app.kubernetes.io/name"]
                ?? labels["app"] ?? workload
            canonicalRevision =
                labels["service.istio.io/canonical-revision"]
                ?? labels["app.kubernetes.io/version"] ?? labels["version"] ?? canonicalRevision
        }

        /// As Istio names what runs under an account of its own.
        init(_ id: SPIFFEID) {
            self.init(
                workload: id.account?.name ?? "unknown",
                namespace: id.account?.namespace ?? "unknown")
            canonicalService = workload
            self.id = id.description
        }

        func principal(_ domain: TrustDomain?) -> String {
            if domain != nil, !id.isEmpty { return id }
            guard let domain, !serviceAccount.isEmpty,
                let id = try? SPIFFEID(
                    domain, namespace: namespace, serviceAccount: serviceAccount)
            else { return "unknown" }
            return id.description
        }

        /// With the side's prefix, `source` or `destination`.
        ///
        /// - Parameter domain: of what both sides proved to be; `nil`: nobody did.
        func labels(_ side: String, _ domain: TrustDomain?) -> String {
            "\(side)_workload=\"\(workload)\",\(side)_workload_namespace=\"\(namespace)\""
                + ",\(side)_principal=\"\(principal(domain))\",\(side)_app=\"\(app)\""
                + ",\(side)_version=\"\(version)\""
                + ",\(side)_canonical_service=\"\(canonicalService)\""
                + ",\(side)_canonical_revision=\"\(canonicalRevision)\""
        }
    }
    struct Destination: Sendable {
        var name: String
        var namespace: String
        var port: UInt16
        var host: String { name == "unknown" ? name : "\(name).\(namespace).svc.cluster.local" }
    }

    /// `nil`: this node has no identities.
    var trustDomain: TrustDomain?
    private(set) var sources = [Source.unknown]
    private(set) var destinations = [Destination(name: "unknown", namespace: "unknown", port: 0)]
    private var sourceNumbers: [Source: UInt32] = [:]
    private var destinationNumbers: [String: UInt32] = [:]
    /// Of identities that are no pod's; more are not known.
    private static let peersMax = 1024
    private var peers = 0

    mutating func numbers(of snapshot: Snapshot) -> (sources: [UInt32], ports: [UInt32]) {
        let sources = snapshot.mesh.workloads.map { number(of: Source($0)) }
        let ports = snapshot.ports.map { port -> UInt32 in
            let key = "\(port.service):\(port.number)"
            if let known = destinationNumbers[key] { return known }
            let number = UInt32(destinations.count)
            destinations.append(
                Destination(
                    name: port.service.name, namespace: port.service.namespace, port: port.number))
            destinationNumbers[key] = number
            return number
        }
        return (sources, ports)
    }

    private mutating func number(of key: Source) -> UInt32 {
        if let known = sourceNumbers[key] { return known }
        let number = UInt32(sources.count)
        sources.append(key)
        sourceNumbers[key] = number
        return number
    }

    /// Of an identity that is no pod's; 0 for more of them than `peersMax`.
    fileprivate mutating func number(of id: SPIFFEID) -> UInt32 {
        let key = Source(id)
        if sourceNumbers[key] == nil {
            guard peers < Self.peersMax else { return 0 }
            peers += 1
        }
        return number(of: key)
    }
}

/// The names of all workers' numbers.
///
/// - Threads: any; a worker holds the lock once a tunnel that is no pod's.
final class MetricRegister: Sendable {
    private let names = Mutex(MetricNames())

    var all: MetricNames { names.withLock { $0 } }

    func numbers(of snapshot: Snapshot) -> (sources: [UInt32], ports: [UInt32]) {
        names.withLock { $0.numbers(of: snapshot) }
    }

    func number(of id: SPIFFEID) -> UInt32 { names.withLock { $0.number(of: id) } }
}

enum Exposition {
    static func text(_ tallies: [Tally], names: MetricNames) -> String {
        var out = ""
        istio(tallies, names, &out)
        counters(tallies, &out)
        limits(tallies, &out)
        tunnels(tallies, &out)
        return out
    }

    private static func istio(_ tallies: [Tally], _ names: MetricNames, _ out: inout String) {
        // The same labels in several workers are one series, and a flag is a label of requests
        // only.
        var sums: [[UInt64]: [UInt64]] = [:]
        for tally in tallies {
            tally.forEachSeries { words in
                let key = [words[0], words[1]]
                if let known = sums[key] {
                    sums[key] = known.indices.map { $0 < 2 ? known[$0] : known[$0] + words[$0] }
                } else {
                    sums[key] = words
                }
            }
        }
        let all = sums.values.sorted { ($0[0], $0[1]) < ($1[0], $1[1]) }
        opaque(all.filter { $0[1] & Tally.opaqueMark != 0 }, names, &out)
        let rows = all.filter { $0[1] & Tally.opaqueMark == 0 }
        out += "# HELP istio_requests_total Requests served, by source, destination and outcome.\n"
        out += "# TYPE istio_requests_total counter\n"
        for row in rows { out += "istio_requests_total{\(labels(row, names))} \(row[2])\n" }
        out += "# HELP istio_request_duration_milliseconds Time from head to last byte.\n"
        out += "# TYPE istio_request_duration_milliseconds histogram\n"
        for row in rows {
            let labels = labels(row, names)
            var sum: UInt64 = 0
            for (index, bound) in Tally.bounds.enumerated() {
                sum += row[4 + index]
                let le = bound == 0.5 ? "0.5" : String(Int(bound))
                out += "istio_request_duration_milliseconds_bucket{\(labels),le=\"\(le)\"} \(sum)\n"
            }
            sum += row[4 + Tally.bounds.count]
            out += "istio_request_duration_milliseconds_bucket{\(labels),le=\"+Inf\"} \(sum)\n"
            out += "istio_request_duration_milliseconds_sum{\(labels)} \(Double(row[3]) / 1e6)\n"
            out += "istio_request_duration_milliseconds_count{\(labels)} \(sum)\n"
        }
    }

    private static func opaque(_ rows: [[UInt64]], _ names: MetricNames, _ out: inout String) {
        for (word, name, help) in [
            (2, "istio_tcp_connections_opened_total", "Connections opened that are not HTTP."),
            (3, "istio_tcp_connections_closed_total", "Connections closed that are not HTTP."),
            (4, "istio_tcp_sent_bytes_total", "Bytes to clients of such connections."),
            (5, "istio_tcp_received_bytes_total", "Bytes from clients of such connections."),
        ] {
            out += "# HELP \(name) \(help)\n# TYPE \(name) counter\n"
            for row in rows { out += "\(name){\(labels(row, names))} \(row[word])\n" }
        }
    }

    private static func labels(_ row: [UInt64], _ names: MetricNames) -> String {
        let isOpaque = row[1] & Tally.opaqueMark != 0
        let source = names.sources[Int(row[0] >> 32)]
        let destination = names.destinations[Int(row[0] & 0xffff_ffff)]
        let workload = names.sources[Int(row[1] >> 32)]
        let flag = ResponseFlag(rawValue: UInt8(truncatingIfNeeded: row[1])) ?? .none
        let tunnel = row[1] & (Tally.Tunnel.out.rawValue | Tally.Tunnel.into.rawValue)
        let domain = tunnel == 0 ? nil : names.trustDomain
        let reporter = tunnel == Tally.Tunnel.into.rawValue ? "destination" : "source"
        return "reporter=\"\(reporter)\",\(source.labels("source", domain))"
            + ",\(workload.labels("destination", domain))"
            + ",destination_service=\"\(destination.host)\""
            + ",destination_service_name=\"\(destination.name)\""
            + ",destination_service_namespace=\"\(destination.namespace)\""
            + ",destination_port=\"\(destination.port)\""
            + (isOpaque
                ? ",request_protocol=\"tcp\""
                : ",request_protocol=\"http\",response_code=\"\(row[1] >> 8 & 0xffff)\"")
            + ",response_flags=\"\(flag.label)\""
            + ",connection_security_policy=\"\(tunnel == 0 ? "none" : "mutual_tls")\""
    }

    private static func limits(_ tallies: [Tally], _ out: inout String) {
        func sum(_ counter: Counter) -> UInt64 { tallies.reduce(0) { $0 + $1.value(counter) } }
        out += "# HELP malla_upstream_connections Upstream connections, by what they do.\n"
        out += "# TYPE malla_upstream_connections gauge\n"
        for (state, counter) in [
            ("active", Counter.upstreamsActive), ("connecting", .upstreamsConnecting),
            ("idle", .upstreamsIdle),
        ] {
            out += "malla_upstream_connections{state=\"\(state)\"} \(sum(counter))\n"
        }
        out += "# HELP malla_requests_shed_total Requests and connections turned away, by limit.\n"
        out += "# TYPE malla_requests_shed_total counter\n"
        for reason in Shed.allCases {
            let value = tallies.reduce(0) { $0 + $1.sheds(reason) }
            out += "malla_requests_shed_total{reason=\"\(reason.label)\"} \(value)\n"
        }
        pipes(tallies, &out)
    }

    private static func pipes(_ tallies: [Tally], _ out: inout String) {
        out += "# HELP malla_pipes_refused_total Moves copied for want of a pipe, by limit.\n"
        out += "# TYPE malla_pipes_refused_total counter\n"
        for (reason, counter) in [
            ("account", Counter.accountPipesRefused), ("worker", .pipesRefused),
        ] {
            let value = tallies.reduce(0) { $0 + $1.value(counter) }
            out += "malla_pipes_refused_total{reason=\"\(reason)\"} \(value)\n"
        }
    }

    private static func counters(_ tallies: [Tally], _ out: inout String) {
        func sum(_ counter: Counter) -> UInt64 { tallies.reduce(0) { $0 + $1.value(counter) } }
        func metric(_ name: String, _ type: String, _ help: String, _ value: UInt64) {
            out += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n\(name) \(value)\n"
        }
        metric(
            "malla_connections_total", "counter", "Downstream connections accepted.",
            sum(.connections))
        let (opened, closed) = (sum(.connections), sum(.connectionsClosed))
        metric(
            "malla_connections_active", "gauge", "Downstream connections open now.",
            opened > closed ? opened - closed : 0)
        metric(
            "malla_accept_paused_total", "counter",
            "Times that a listener was left alone because descriptors had run out.",
            sum(.acceptPaused))
        metric("malla_requests_total", "counter", "Requests begun.", sum(.requests))
        metric(
            "malla_requests_forged_client_cert_total", "counter",
            "Requests whose X-Forwarded-Client-Cert was taken out.", sum(.identitiesForged))
        metric(
            "malla_upstream_dials_total", "counter", "Upstream connections dialled.", sum(.dials))
        metric(
            "malla_upstream_dial_failures_total", "counter", "Upstream connections that failed.",
            sum(.dialFailures))
        metric(
            "malla_upstream_reuses_total", "counter", "Requests sent on a pooled connection.",
            sum(.reuses))
        metric(
            "malla_upstream_races_total", "counter",
            "Dials that took long, so that a second endpoint was dialled.", sum(.races))
        metric(
            "malla_upstream_retries_total", "counter", "Requests sent again or dialled again.",
            sum(.retries))
        metric(
            "malla_access_log_dropped_total", "counter", "Access log records lost to a full ring.",
            sum(.accessLogDropped))
        metric(
            "malla_series_dropped_total", "counter",
            "Requests not counted by label because a worker had its most label sets.",
            sum(.seriesDropped))
        metric(
            "malla_affinities_forgotten_total", "counter",
            "Clients whose endpoint was forgotten before its time, for want of room.",
            sum(.affinitiesForgotten))
        metric("malla_workers", "gauge", "Worker threads.", UInt64(tallies.count))
        out += "# HELP malla_requests_failed_total Exchanges that failed, by reason.\n"
        out += "# TYPE malla_requests_failed_total counter\n"
        for failure in Failure.own {
            let value = tallies.reduce(0) { $0 + $1.value(failure) }
            out += "malla_requests_failed_total{reason=\"\(failure.row.label)\"} \(value)\n"
        }
        handshakes(tallies, &out)
        out += "# HELP malla_requests_refused_total Messages refused by the parser, by reason.\n"
        out += "# TYPE malla_requests_refused_total counter\n"
        for refusal in Refusal.allCases {
            let value = tallies.reduce(0) { $0 + $1.value(refusal) }
            out += "malla_requests_refused_total{reason=\"\(refusal.label)\"} \(value)\n"
        }
    }

    private static func handshakes(_ tallies: [Tally], _ out: inout String) {
        out += "# HELP malla_tls_handshakes_total TLS handshakes by side and how they ended.\n"
        out += "# TYPE malla_tls_handshakes_total counter\n"
        for side in HandshakeSide.allCases {
            for result in TLSFailure.allCases {
                let value = tallies.reduce(0) { $0 + $1.value(side, result) }
                out += "malla_tls_handshakes_total{side=\"\(side.label)\""
                out += ",result=\"\(result.label)\"} \(value)\n"
            }
        }
        out += "# HELP malla_tls_floods_total TLS connections cut for messages that are no data.\n"
        out += "# TYPE malla_tls_floods_total counter\n"
        for side in HandshakeSide.allCases {
            let value = tallies.reduce(0) { $0 + $1.value(.floods(side)) }
            out += "malla_tls_floods_total{side=\"\(side.label)\"} \(value)\n"
        }
    }
}
