// A pod's annotation about its share of new connections, against the other pods of a service.

internal import MeshModel

enum EndpointWeight {
    /// Of one pod. Maglev's table has a hundred positions an endpoint.
    static let range = 0...256

    /// - Returns: what the annotation says, 1 where there is none, and what is wrong with it.
    static func read(
        _ annotations: [String: String]
    ) -> (weight: UInt16, problems: [(annotation: String, problem: String)]) {
        guard let text = annotations[Annotation.weight] else { return (1, []) }
        guard let weight = weight(text) else {
            let problem = "'\(text)' is no weight: an integer in 0...\(range.upperBound)"
            return (1, [(Annotation.weight, problem)])
        }
        return (weight, [])
    }

    /// By address, of pods that have another weight than 1.
    static func all(_ pods: [ConfigObject]) -> [IPAddress: UInt16] {
        var weights: [IPAddress: UInt16] = [:]
        var isWeighted = false
        for pod in pods where Workload.absence(pod) == nil {
            let text = pod.root["metadata"]?["annotations"]?[Annotation.weight]?.text
            let weight = text.flatMap(weight) ?? 1
            if weight != 1 { isWeighted = true }
            // Of two pods with one address the first one counts, as everywhere.
            for address in Workload.addresses(pod) where weights[address] == nil {
                weights[address] = weight
            }
        }
        return isWeighted ? weights : [:]
    }

    private static func weight(_ text: String) -> UInt16? {
        guard (1...3).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }),
            let number = Int(text), range.contains(number)
        else { return nil }
        return UInt16(number)
    }
}
