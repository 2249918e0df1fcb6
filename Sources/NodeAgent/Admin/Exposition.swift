/// Prometheus' text format 0.0.4, one family after another.
///
/// - Source: Prometheus exposition formats; HELP and TYPE before the samples of each family.
struct Exposition {
    private(set) var text = ""

    enum Kind: String {
        case counter, gauge
    }

    /// Writes a family with its samples; nothing where there are none.
    mutating func family(
        _ name: String, _ kind: Kind, _ help: String,
        _ samples: [(labels: [(String, String)], value: UInt64)]
    ) {
        guard !samples.isEmpty else { return }
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
        for sample in samples {
            text += name
            if !sample.labels.isEmpty {
                let pairs = sample.labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }
                text += "{" + pairs.joined(separator: ",") + "}"
            }
            text += " \(sample.value)\n"
        }
    }

    mutating func family(_ name: String, _ kind: Kind, _ help: String, _ value: UInt64) {
        family(name, kind, help, [([], value)])
    }

    /// A gauge of a time.
    mutating func family(_ name: String, _ help: String, seconds: Duration) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) gauge\n"
        text += "\(name) \(Self.text(seconds))\n"
    }

    /// A gauge of several times, by one label.
    mutating func family(
        _ name: String, _ help: String, by label: String, _ times: [(value: String, Duration)]
    ) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) gauge\n"
        for (value, time) in times {
            text += "\(name){\(label)=\"\(Self.escaped(value))\"} \(Self.text(time))\n"
        }
    }

    private static func text(_ seconds: Duration) -> String {
        let microseconds = Int64(seconds / .microseconds(1))
        return "\(microseconds / 1_000_000)."
            + String(1_000_000 + microseconds % 1_000_000).dropFirst()
    }

    mutating func append(_ exposition: String) {
        text += exposition
        if !text.isEmpty, !text.hasSuffix("\n") { text += "\n" }
    }

    /// A label's value: backslash, quote and line feed are escaped.
    static func escaped(_ value: String) -> String {
        var out = ""
        for character in value {
            switch character {
            case "\\": out += "\\\\"
            case "\"": out += "\\\""
            case "\n": out += "\\n"
            default: out.append(character)
            }
        }
        return out
    }
}
