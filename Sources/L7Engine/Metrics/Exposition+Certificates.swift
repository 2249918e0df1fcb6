// When certificates of listeners expire, as Prometheus text.

internal import MeshModel

extension Exposition {
    /// - Parameter expiries: seconds since 1970.
    static func text(ofCertificates expiries: [Certificate: Int64]) -> String {
        guard !expiries.isEmpty else { return "" }
        let metric = "malla_certificate_expiry_timestamp_seconds"
        var out = "# HELP \(metric) When the first certificate of a listener's chain expires.\n"
        out += "# TYPE \(metric) gauge\n"
        let rows = expiries.map { ($0.key.name, $0.value) }.sorted { $0.0 < $1.0 }
        for (name, at) in rows {
            out += "\(metric){namespace=\"\(name.namespace)\",secret=\"\(name.name)\"} \(at)\n"
        }
        return out
    }
}
