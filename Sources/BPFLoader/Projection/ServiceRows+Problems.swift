// What is told of services that are not in force as a whole.

internal import CMallaABI
internal import MeshModel

extension ServiceRows {
    /// Whether the port is not in force as a whole, in either family.
    func isShort(_ service: ObjectName, port: UInt16, _ transport: TransportProtocol) -> Bool {
        [true, false].contains { isIPv4 in
            shortFronts.contains(
                FrontName(
                    owner: service, isHostPort: false, port: port, transport: transport,
                    isIPv4: isIPv4))
        }
    }

    /// Whose the row of this key is; `nil`: an agent's before this one, or nobody's.
    func owner(of key: malla_end) -> FrontName? { rows[key]?.owner }

    /// Names a few: the log's line must stay readable with ten thousand services.
    func full(_ map: String, _ ports: [String]) -> ApplyProblem {
        let more = ports.count > 5 ? " and \(ports.count - 5) more" : ""
        return ApplyProblem(
            subject: "map \(map)",
            message: "full at \(maps.entriesMax(of: map)) entries; not in force as a whole: "
                + ports.prefix(5).joined(separator: ", ") + more
                + "; what was there before goes on working")
    }

    /// Applying again mends nothing until one of them is another.
    func conflict(
        _ key: malla_end, _ name: FrontName, _ owner: FrontName
    ) -> ApplyProblem {
        ApplyProblem(
            subject: name.isHostPort ? "pod \(name.owner)" : "service \(name.owner)",
            message: "\(key.socket) belongs to \(owner.isHostPort ? "pod" : "service") "
                + "\(owner.owner) already; it stays with that one", isWaiting: true)
    }
}
