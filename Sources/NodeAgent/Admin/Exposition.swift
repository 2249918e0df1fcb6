/// Prometheus' text format 0.0.4, one family after another.
///
/// - Source: Prometheus exposition formats; HELP and TYPE before the samples of each family, which
///   stand in one group.
struct Exposition {
    /// Of each family all that is said.
    private var families: [String] = []
    private var places: [String: Int] = [:]

    var text: String { families.joined() }

    enum Kind: String {
        case counter, gauge
    }

    /// Writes a family with its samples; nothing where there are none.
    mutating func family(
        _ name: String, _ kind: Kind, _ help: String,
        _ samples: [(labels: [(String, String)], value: UInt64)]
    ) {
        guard !samples.isEmpty else { return }
        var text = ""
        for sample in samples {
            text += name
            if !sample.labels.isEmpty {
                let pairs = sample.labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }
                text += "{" + pairs.joined(separator: ",") + "}"
            }
            text += " \(sample.value)\n"
        }
        add(name, kind, help, text)
    }

    mutating func family(_ name: String, _ kind: Kind, _ help: String, _ value: UInt64) {
        family(name, kind, help, [([], value)])
    }

    /// A gauge of a time.
    mutating func family(_ name: String, _ help: String, seconds: Duration) {
        add(name, .gauge, help, "\(name) \(Self.text(seconds))\n")
    }

    /// A gauge of several times, by one label.
    mutating func family(
        _ name: String, _ help: String, by label: String, _ times: [(value: String, Duration)]
    ) {
        var text = ""
        for (value, time) in times {
            text += "\(name){\(label)=\"\(Self.escaped(value))\"} \(Self.text(time))\n"
        }
        add(name, .gauge, help, text)
    }

    private static func text(_ seconds: Duration) -> String {
        let microseconds = Int64(seconds / .microseconds(1))
        return "\(microseconds / 1_000_000)."
            + String(1_000_000 + microseconds % 1_000_000).dropFirst()
    }

    /// Adds another exposition. Samples of a family that is here already go to it, by its HELP.
    mutating func append(_ exposition: String) {
        let marks = ["# HELP ".utf8, "# TYPE ".utf8]
        var (name, isKnown) = ("", false)
        var place = self.place(of: "")
        for line in exposition.utf8.split(separator: UInt8(ascii: "\n")) {
            let isHead = marks.contains { line.starts(with: $0) }
            if isHead {
                let found = String(Substring(line.dropFirst(7).prefix { $0 != 0x20 }))
                if found != name {
                    name = found
                    isKnown = places[name] != nil
                    place = self.place(of: name)
                }
            }
            if isHead, isKnown { continue }
            families[place].append(contentsOf: Substring(line))
            families[place].append("\n")
        }
    }

    private mutating func add(_ name: String, _ kind: Kind, _ help: String, _ samples: String) {
        let place = self.place(of: name)
        if families[place].isEmpty {
            families[place] = "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
        }
        families[place] += samples
    }

    /// Where the family stands; one that is new stands last.
    private mutating func place(of name: String) -> Int {
        if let place = places[name] { return place }
        places[name] = families.count
        families.append("")
        return families.count - 1
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
