// The load of Tests/Pace: so many requests a second, whatever the server does.

import Foundation
import TestSupport

struct Pace {
    static let program = Binaries.repository + "/.build/release/Pace"

    /// `rate` 0: as fast as the server answers.
    static func command(
        rate: Int, connections: Int, seconds: Int, address: String, port: Int = 80,
        path: String = "/"
    ) -> [String] {
        [program, "\(rate)", "\(connections)", "\(seconds)", address, "\(port)", path]
    }

    private let values: [String: Double]
    let text: String

    /// - Parameter text: what the program printed.
    init(_ text: String) {
        self.text = text
        var values: [String: Double] = [:]
        for word in text.split(whereSeparator: \.isWhitespace) {
            let parts = word.split(separator: "=")
            if parts.count == 2, let value = Double(parts[1]) { values[String(parts[0])] = value }
        }
        self.values = values
    }

    private func value(_ name: String) -> Double { values[name] ?? .nan }

    var requests: Int { Int(values["requests"] ?? 0) }
    var perSecond: Double { value("per_second") }
    var p50Milliseconds: Double { value("p50_us") / 1000 }
    var p99Milliseconds: Double { value("p99_us") / 1000 }
    /// All were answered, with a status of success.
    var isClean: Bool { value("failed") == 0 && value("refused") == 0 && requests > 0 }
}

/// A figure with so many places behind the point.
func rounded(_ value: Double, _ places: Int = 2) -> String { String(format: "%.\(places)f", value) }

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
