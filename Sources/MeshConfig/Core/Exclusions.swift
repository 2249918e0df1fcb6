// A pod's annotations about what it keeps from the engine: lists with commas.

internal import MeshModel

extension Exclusions {
    /// Each has this many at most.
    static let countMax = 64

    enum Direction {
        case outbound, inbound

        fileprivate var ports: [String] {
            self == .outbound ? Annotation.excludedPorts : Annotation.excludedInboundPorts
        }

        fileprivate var blocks: [String] {
            self == .outbound ? Annotation.excludedBlocks : Annotation.excludedInboundBlocks
        }
    }

    /// - Returns: what the annotations say, and what is wrong with each, by annotation.
    static func read(
        _ annotations: [String: String], _ direction: Direction
    ) -> (exclusions: Exclusions, problems: [(annotation: String, problem: String)]) {
        var exclusions = Exclusions()
        var problems: [(annotation: String, problem: String)] = []
        for name in direction.ports {
            for word in words(annotations[name]) {
                guard let port = UInt16(word), port > 0 else {
                    problems.append((name, "'\(word)' is no port: 1 to 65535"))
                    continue
                }
                if !exclusions.ports.contains(port) { exclusions.ports.append(port) }
            }
        }
        for name in direction.blocks {
            for word in words(annotations[name]) {
                guard let block = IPPrefix(word) else {
                    problems.append((name, "'\(word)' is no block of addresses: 10.0.0.0/8"))
                    continue
                }
                if !exclusions.blocks.contains(block) { exclusions.blocks.append(block) }
            }
        }
        if exclusions.ports.count > countMax {
            problems.append((direction.ports[0], "more than \(countMax) ports"))
        }
        if exclusions.blocks.count > countMax {
            problems.append((direction.blocks[0], "more than \(countMax) blocks"))
        }
        return (exclusions, problems)
    }

    private static func words(_ text: String?) -> [String] {
        (text ?? "").split(separator: ",")
            .map { word in String(word.drop { $0 == " " }.prefix { $0 != " " }) }
            .filter { !$0.isEmpty }
    }
}
