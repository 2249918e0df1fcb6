// How old certificates of listeners are and when they expire, as Prometheus text.

internal import MeshModel

extension Exposition {
    /// - Parameters:
    ///   - lives: seconds since 1970.
    ///   - now: the same.
    static func text(ofCertificates lives: [Certificate: Range<Int64>], at now: Int64) -> String {
        guard !lives.isEmpty else { return "" }
        let rows = lives.map { ($0.key.name, $0.value) }.sorted { $0.0 < $1.0 }
        var out = ""
        func family(_ metric: String, _ help: String, _ value: (Range<Int64>) -> Int64) {
            out += "# HELP \(metric) \(help)\n# TYPE \(metric) gauge\n"
            for (name, life) in rows {
                out += "\(metric){namespace=\"\(name.namespace)\",secret=\"\(name.name)\"}"
                out += " \(value(life))\n"
            }
        }
        family(
            "malla_certificate_age_seconds", "How long ago a listener's certificate began."
        ) { max(0, now - $0.lowerBound) }
        family(
            "malla_certificate_expiry_timestamp_seconds",
            "When the first of a listener's certificate and its intermediates expires."
        ) { $0.upperBound }
        return out
    }
}
