/// An address and a port.
public struct SocketAddress: Hashable, Sendable, BitwiseCopyable {
    public var address: IPAddress
    public var port: UInt16

    public init(_ address: IPAddress, _ port: UInt16) {
        self.address = address
        self.port = port
    }
}

extension SocketAddress {
    /// `192.0.2.1:80` or `[2001:db8::1]:80`, nothing else: no names, no zones, no port 0.
    ///
    /// - Complexity: that of 53 bytes at most, the longest that there is. A peer may have sent very
    ///   many, and among letters that belong together a colon is looked for in quadratic time.
    public init?(_ text: some StringProtocol) {
        guard text.utf8.count <= IPAddress.textBytesMax + 8, let colon = text.lastIndex(of: ":")
        else { return nil }
        let digits = text[text.index(after: colon)...]
        var host = text[..<colon]
        guard (1...5).contains(digits.utf8.count),
            digits.utf8.allSatisfy({ (48...57).contains($0) }),
            let port = UInt16(digits), port > 0
        else { return nil }
        let isBracketed = host.first == "[" && host.last == "]" && host.utf8.count > 2
        if isBracketed { host = host.dropFirst().dropLast() }
        guard let address = IPAddress(host), isBracketed == host.utf8.contains(58) else {
            return nil
        }
        self.init(address, port)
    }
}

extension SocketAddress: CustomStringConvertible {
    public var description: String {
        address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }
}

/// The transport of a service's port.
///
/// - Source: core/v1 ServicePort.protocol; `number` is IANA's protocol number.
public enum TransportProtocol: String, Sendable, Hashable {
    case tcp = "TCP"
    case udp = "UDP"
    case sctp = "SCTP"

    public var number: UInt8 {
        switch self {
        case .tcp: 6
        case .udp: 17
        case .sctp: 132
        }
    }
}
