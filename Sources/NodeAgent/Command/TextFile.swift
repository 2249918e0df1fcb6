internal import Foundation

/// The lines of a small text file; none when it cannot be read.
func textLines(_ path: String) -> [Substring] {
    guard let bytes = FileManager.default.contents(atPath: path) else { return [] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
}
