// The `forwarded` field of a CONNECT: for whom it is asked, `for=10.1.0.5` or `for="[fd00::5]"`.
// Other forms of RFC 7239, and what may stand beside it, nobody of Malla's writes or reads.

internal import MeshModel

enum ForwardedElement {
    /// RFC 7239 section 6: an IPv6 address stands in brackets and quotes.
    static func text(_ address: IPAddress) -> String {
        address.isIPv4 ? "for=\(address)" : "for=\"[\(address)]\""
    }

    /// Of an address that names a client to another node; `nil` otherwise.
    static func address(_ text: String) -> IPAddress? {
        guard text.hasPrefix("for=") else { return nil }
        var host = text.dropFirst(4)
        let isQuoted = host.hasPrefix("\"[") && host.hasSuffix("]\"")
        if isQuoted { host = host.dropFirst(2).dropLast(2) }
        guard let address = IPAddress(host), address.isIPv4 != isQuoted, isClient(address) else {
            return nil
        }
        return address
    }

    /// Whether another node knows whose the address is: a machine's own, and those of its links,
    /// mean something else everywhere.
    static func isClient(_ address: IPAddress) -> Bool {
        !address.isLoopback && !address.isUnspecified && !address.isMulticast
            && !address.isLinkLocal
    }
}
