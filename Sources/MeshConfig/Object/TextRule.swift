// The patterns of the Kubernetes and Gateway API schemas, as functions on bytes: each says what is
// wrong with a text in words.

internal import MeshModel

/// What a text must look like.
enum TextRule: Hashable, Sendable {
    case any(bytesMax: Int)
    case nonEmpty(bytesMax: Int)
    /// DNS-1123 label: at most 63 of [a-z0-9-], not at its ends a dash.
    case label
    /// DNS-1123 subdomain: labels with dots, at most 253.
    case subdomain
    /// Names of objects that Gateway API only bounds (1...253).
    case objectName
    /// A subdomain or nothing (core group).
    case group
    case kind
    /// A hostname, `*.` allowed in front. IP addresses are refused, as Gateway API says.
    case hostname
    /// A hostname without wildcard.
    case preciseHostname
    case headerName
    /// What a header field may hold (RFC 9110 §5.5): no line ends, no other control characters.
    case fieldValue
    /// Kubernetes' labels: `example.com/name` or `name`, and at most 63 of [A-Za-z0-9_.-].
    case labelKey
    case labelValue
    /// GEP-2257: up to four of h, m, s, ms.
    case duration
    case ipAddress
    /// `example.com/name`: GatewayClass.spec.controllerName.
    case controllerName
    /// A replaced path: absolute or empty, no query.
    case replacedPath
    /// An RFC 3339 time.
    case time

    func problem(with text: String) -> String? {
        let bytes = text.utf8
        switch self {
        case .any(let most):
            return tooLong(bytes.count, most)
        case .nonEmpty(let most):
            return bytes.isEmpty ? "must not be empty" : tooLong(bytes.count, most)
        case .label:
            return Self.isLabel(text, most: 63)
                ? nil : "'\(text)' is no DNS label: 1 to 63 of a-z, 0-9 and -, no - at the ends"
        case .subdomain:
            return Self.isSubdomain(text)
                ? nil : "'\(text)' is no DNS name: labels of a-z, 0-9 and -, joined by dots"
        case .objectName:
            return bytes.isEmpty ? "must not be empty" : tooLong(bytes.count, 253)
        case .group:
            return text.isEmpty || Self.isSubdomain(text)
                ? nil : "'\(text)' is no API group: empty for core, else a DNS name"
        case .kind:
            return Self.isKind(text) ? nil : "'\(text)' is no kind: letters, digits and -"
        case .hostname, .preciseHostname:
            return hostnameProblem(text)
        case .headerName:
            return Self.isToken(text)
                ? tooLong(bytes.count, 256) : "'\(text)' is no name of a header or parameter"
        case .fieldValue:
            if bytes.contains(where: { ($0 < 0x20 && $0 != 9) || $0 == 0x7f }) {
                return "holds a line end or another control character, which no header field may"
            }
            return bytes.isEmpty ? "must not be empty" : tooLong(bytes.count, 4096)
        case .labelKey:
            return Self.isLabelKey(text)
                ? nil : "'\(text)' is no key of a label: name or example.com/name"
        case .labelValue:
            return text.isEmpty || Self.isLabelName(text)
                ? nil
                : "'\(text)' is no value of a label: at most 63 letters, digits, '-', '_' and '.',"
                    + " a letter or digit at both ends"
        case .duration:
            return Duration.gatewayAPI(text) == nil
                ? "'\(text)' is no duration: up to four of h, m, s, ms, such as 1m30s or 500ms"
                : nil
        case .ipAddress:
            return IPAddress(text) == nil ? "'\(text)' is no IPv4 or IPv6 address" : nil
        case .controllerName:
            let parts = text.split(separator: "/", maxSplits: 1)
            return parts.count == 2 && Self.isSubdomain(String(parts[0])) && bytes.count <= 253
                ? nil : "'\(text)' is no controller name: a DNS name, a slash and a path"
        case .replacedPath:
            return pathProblem(text)
        case .time:
            return Timestamp.seconds(text) == nil ? "'\(text)' is no RFC 3339 time" : nil
        }
    }

    private func pathProblem(_ text: String) -> String? {
        if let long = tooLong(text.utf8.count, 1024) { return long }
        if text.contains("?") || text.contains("#") {
            return "'\(text)' holds a query or fragment: only the path is replaced"
        }
        if text.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f }) {
            return "'\(text)' holds a space or control character: percent-encode it"
        }
        if Self.hasDotSegment(text) {
            return "'\(text)' holds the segment . or ..: write the path that is meant"
        }
        return text.isEmpty || text.hasPrefix("/") ? nil : "'\(text)' must start with /"
    }

    private func tooLong(_ count: Int, _ most: Int) -> String? {
        count > most ? "is \(count) bytes long, at most \(most) allowed" : nil
    }

    private func hostnameProblem(_ text: String) -> String? {
        var name = Substring(text)
        if self == .hostname, name.hasPrefix("*.") { name = name.dropFirst(2) }
        if IPAddress(name) != nil { return "'\(text)' is an IP address, not a hostname" }
        return text.utf8.count <= 253 && Self.isSubdomain(String(name))
            ? nil
            : "'\(text)' is no hostname: lower case labels joined by dots"
                + (self == .hostname ? ", '*.' in front at most" : ", no wildcard")
    }

    static func isLabel(_ text: some StringProtocol, most: Int) -> Bool {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, let last = bytes.last, bytes.count <= most else {
            return false
        }
        func isInner(_ byte: UInt8) -> Bool {
            (byte >= 97 && byte <= 122) || (byte >= 48 && byte <= 57) || byte == 45
        }
        return first != 45 && last != 45 && bytes.allSatisfy(isInner)
    }

    static func isSubdomain(_ text: String) -> Bool {
        guard !text.isEmpty, text.utf8.count <= 253 else { return false }
        return text.split(separator: ".", omittingEmptySubsequences: false)
            .allSatisfy { isLabel($0, most: 253) }
    }

    private static func isKind(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, let last = bytes.last, bytes.count <= 63 else {
            return false
        }
        func isLetter(_ byte: UInt8) -> Bool {
            (byte | 0x20) >= 97 && (byte | 0x20) <= 122
        }
        func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }
        return isLetter(first) && (isLetter(last) || isDigit(last))
            && bytes.allSatisfy { isLetter($0) || isDigit($0) || $0 == 45 }
    }

    private static func isLabelKey(_ text: String) -> Bool {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, isLabelName(String(parts[parts.count - 1])) else { return false }
        return parts.count == 1 || isSubdomain(String(parts[0]))
    }

    private static func isLabelName(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        func isAlphanumeric(_ byte: UInt8) -> Bool {
            ((byte | 0x20) >= 97 && (byte | 0x20) <= 122) || (byte >= 48 && byte <= 57)
        }
        guard let first = bytes.first, let last = bytes.last, bytes.count <= 63 else {
            return false
        }
        return isAlphanumeric(first) && isAlphanumeric(last)
            && bytes.allSatisfy { isAlphanumeric($0) || $0 == 45 || $0 == 46 || $0 == 95 }
    }

    /// Whether a path holds `.` or `..` between slashes, percent-encoded or not (RFC 3986 §5.2.4).
    private static func hasDotSegment(_ text: String) -> Bool {
        text.split(separator: "/").contains { segment in
            let plain = segment.lowercased().replacing("%2e", with: ".")
            return plain == "." || plain == ".."
        }
    }

    /// RFC 9110 §5.6.2.
    static func isToken(_ text: String) -> Bool {
        let others = "!#$%&'*+-.^_`|~".utf8
        return !text.isEmpty
            && text.utf8.allSatisfy { byte in
                (byte >= 48 && byte <= 57) || ((byte | 0x20) >= 97 && (byte | 0x20) <= 122)
                    || others.contains(byte)
            }
    }
}

extension Duration {
    /// Reads Gateway API's duration. Source: GEP-2257, `^([0-9]{1,5}(h|m|s|ms)){1,4}$`.
    static func gatewayAPI(_ text: String) -> Duration? {
        var rest = Array(text.utf8)[...]
        var milliseconds = 0
        var parts = 0
        while !rest.isEmpty {
            let digits = rest.prefix { $0 >= 48 && $0 <= 57 }
            guard (1...5).contains(digits.count) else { return nil }
            let number = digits.reduce(0) { $0 * 10 + Int($1 - 48) }
            rest = rest.dropFirst(digits.count)
            let unit: Int
            if rest.starts(with: "ms".utf8) {
                unit = 1
                rest = rest.dropFirst(2)
            } else {
                switch rest.first {
                case UInt8(ascii: "h"): unit = 3_600_000
                case UInt8(ascii: "m"): unit = 60_000
                case UInt8(ascii: "s"): unit = 1_000
                default: return nil
                }
                rest = rest.dropFirst()
            }
            milliseconds += number * unit
            parts += 1
        }
        return (1...4).contains(parts) ? .milliseconds(milliseconds) : nil
    }

    var wholeMilliseconds: UInt32 {
        let (seconds, attoseconds) = components
        let total = seconds * 1000 + attoseconds / 1_000_000_000_000_000
        return UInt32(clamping: total)
    }
}
