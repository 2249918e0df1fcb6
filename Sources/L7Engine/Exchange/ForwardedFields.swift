// What a forwarded head says of where it came from and through whom: Host, X-Forwarded-*,
// Forwarded, X-Request-ID, Via, TE; and which fields of a response its client must not get.
//
// A Gateway is the edge: what a stranger claims there is replaced. Between pods the claim came from
// a workload of the mesh and is appended to.

internal import Glibc
internal import MeshModel

/// The fields that we write ourselves, but for those that a filter sets or removes: the operator's
/// word is the last.
struct OwnFields: OptionSet {
    let rawValue: UInt8
    static let forwardedFor = OwnFields(rawValue: 1)
    static let forwardedProto = OwnFields(rawValue: 2)
    static let forwardedHost = OwnFields(rawValue: 4)
    static let forwarded = OwnFields(rawValue: 8)
    static let requestID = OwnFields(rawValue: 16)
    static let maxForwards = OwnFields(rawValue: 32)

    init(rawValue: UInt8) { self.rawValue = rawValue }

    @inline(__always)
    init(_ table: CompiledRoutes, _ first: HeaderEdits, _ second: HeaderEdits) {
        self.init(rawValue: .max)
        if first.isEmpty, second.isEmpty { return }
        subtract(Self.named(table, first))
        subtract(Self.named(table, second))
    }

    @inline(__always) func has(_ field: OwnFields) -> Bool { rawValue & field.rawValue != 0 }

    private static func named(_ table: CompiledRoutes, _ edits: HeaderEdits) -> OwnFields {
        var named: OwnFields = []
        for index in Int(edits.dropsStart)..<Int(edits.dropsEnd) {
            let name = table.names[index]
            let words = Self.words
            for each in 0..<6 where isWord(table.text, name, words[each].0) {
                named.insert(words[each].1)
            }
        }
        return named
    }

    private static var words: [6 of (StaticString, OwnFields)] {
        [
            ("x-forwarded-for", .forwardedFor), ("x-forwarded-proto", .forwardedProto),
            ("x-forwarded-host", .forwardedHost), ("forwarded", .forwarded),
            ("x-request-id", .requestID), ("max-forwards", .maxForwards),
        ]
    }

    private static func isWord(_ text: [UInt8], _ name: ByteRange, _ word: StaticString) -> Bool {
        guard name.count == word.utf8CodeUnitCount else { return false }
        for offset in 0..<name.count
        where unsafe text[name.lower + offset] != word.utf8Start[offset] {
            return false
        }
        return true
    }
}

extension Worker {
    /// `Host` of a request that came without: of its target, else the address that was dialled.
    func writeHost(_ link: Link, _ bytes: Bytes) {
        writer.append("Host: ")
        if head.authority.isEmpty {
            writeDialled(link)
            writer.append(":")
            writer.append(decimal: Int(link.it.target.port))
        } else {
            writer.append(bytes, head.authority)
        }
        writer.append("\r\n")
    }

    /// The address that was dialled, as a URI's host: who named none has spoken to this one.
    func writeDialled(_ link: Link) {
        let isIPv4 = link.it.target.address.isIPv4
        if !isIPv4 { writer.append("[") }
        writer.append(address: link.it.target.address)
        if !isIPv4 { writer.append("]") }
    }

    func writeOrigin(_ link: Link, _ bytes: Bytes, _ own: OwnFields) {
        let isEdge = !link.it.isCaptured
        if own.has(.forwardedFor) {
            writer.append("X-Forwarded-For: ")
            let isNamed = !isEdge && writeOld(FieldKind.forwardedFor, bytes)
            let start = writer.count
            writer.append(address: link.it.peer.address)
            // The client's node may have said already who asks.
            if isNamed, link.it.isStream { writer.takeBackRepeated(from: start) }
            writer.append("\r\n")
        }
        if isEdge {
            if own.has(.forwardedProto) {
                writer.append("X-Forwarded-Proto: ")
                writer.append(link.it.hasTLS ? "https\r\n" : "http\r\n")
            }
            if !head.authority.isEmpty, own.has(.forwardedHost) {
                writer.append("X-Forwarded-Host: ")
                writer.append(bytes, head.authority)
                writer.append("\r\n")
            }
        } else {
            if own.has(.forwarded) { appendForwarded(link, bytes) }
            if link.it.isStream { writeClientCertificate(link) }
        }
        if link.it.madeRequestID, own.has(.requestID) {
            writer.append("X-Request-ID: ")
            requestID(link).write(&writer)
            writer.append("\r\n")
        }
        if head.maxForwards > 0, own.has(.maxForwards) {
            writer.append("Max-Forwards: ")
            writer.append(decimal: Int(head.maxForwards) - 1)
            writer.append("\r\n")
        }
        writer.append(head.minor == 1 ? "Via: 1.1 malla\r\n" : "Via: 1.0 malla\r\n")
        if head.takesTrailers {
            writer.append("TE: trailers\r\nConnection: TE")
            writer.append(link.it.wantsUpgrade ? ", Upgrade\r\n" : "\r\n")
        } else if link.it.wantsUpgrade {
            writer.append("Connection: Upgrade\r\n")
        }
    }

    /// Whom mutual TLS has proved the client to be. Source: Envoy's x-forwarded-client-cert.
    private func writeClientCertificate(_ link: Link) {
        let own = config(link).peers?.contexts(at: link.it.target.address)
        guard let own, !link.it.carrier.isNone, let peer = peerName(of: link.it.carrier) else {
            return
        }
        writer.append("X-Forwarded-Client-Cert: By=")
        writer.append(own.name, ByteRange(0, own.name.count))
        writer.append(";URI=")
        writer.append(element: peer)
        writer.append("\r\n")
    }

    /// `Forwarded` (RFC 7239) goes on where it came, with the client appended; we begin none.
    private func appendForwarded(_ link: Link, _ bytes: Bytes) {
        var hasOld = false
        for index in 0..<head.fieldsCount where head.field(index).kind == FieldKind.forwarded {
            hasOld = true
        }
        guard hasOld else { return }
        writer.append("Forwarded: ")
        let isNamed = writeOld(FieldKind.forwarded, bytes)
        let start = writer.count
        let isIPv4 = link.it.peer.address.isIPv4
        writer.append(isIPv4 ? "for=" : "for=\"[")
        writer.append(address: link.it.peer.address)
        if !isIPv4 { writer.append("]\"") }
        if isNamed, link.it.isStream { writer.takeBackRepeated(from: start) }
        writer.append("\r\n")
    }

    /// The values that came, each with a comma behind.
    private func writeOld(_ kind: UInt8, _ bytes: Bytes) -> Bool {
        var isThere = false
        for index in 0..<head.fieldsCount where head.field(index).kind == kind {
            let value = head.field(index).value
            if value.isEmpty { continue }
            writer.append(bytes, value)
            writer.append(", ")
            isThere = true
        }
        return isThere
    }

    /// Framing that this client must not see: chunks that were taken apart, and a length where
    /// there is never a body (RFC 9110 sections 8.6 and 15.3.5).
    func responseDrop(_ client: Link) -> FieldDrop {
        let isUnframed = head.status == 204 || (client.it.minor == 0 && head.isChunked)
        let drop: FieldDrop = isUnframed ? .framing : []
        return demandsUpgrade ? drop.union(.allButUpgrade) : drop
    }

    /// The answer says what its client must upgrade to (RFC 9110 section 15.5.22).
    @inline(__always)
    private var demandsUpgrade: Bool { head.status == 426 && head.hasUpgrade }

    /// `Upgrade` never goes without its option (RFC 9110 section 7.8).
    func writeUpgradeOption() {
        if demandsUpgrade { writer.append("Connection: Upgrade\r\n") }
    }

    /// A head of status 1xx in our own version, without what belongs to the upstream's hop.
    func writeInterim(_ client: Link, _ base: UnsafeMutablePointer<UInt8>) {
        let bytes = unsafe Bytes(base, count: head.end)
        let isSwitch = head.status == 101
        if head.namesFields { unsafe FieldReader.markNamed(base, &head) }
        writer.reset()
        writer.append("HTTP/1.1")
        writer.append(bytes, ByteRange(head.statusLine.lower + 8, head.statusLine.upper))
        // Neither is a field of a message that has no body.
        let drop: FieldDrop = isSwitch ? [.framing, .allButUpgrade] : .framing
        copyFields(bytes, without: drop)
        writer.append(isSwitch ? "Connection: Upgrade\r\n\r\n" : "\r\n")
    }

    // MARK: Request id

    /// The exchange's id: the client's where it is a plain one, else a new one. The head is
    /// somewhere in `base[..<end]`.
    func keepRequestID(_ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ end: Int) {
        let bytes = unsafe Bytes(base, count: end)
        guard RequestID.isKept(bytes, head.requestID), let text = unsafe link.it.logText else {
            makeRequestID(link)
            return
        }
        link.it.madeRequestID = false
        link.it.requestIDLength = UInt8(head.requestID.count)
        unsafe memcpy(
            text + Connection.logTextBytes, base + head.requestID.lower, head.requestID.count)
    }

    func makeRequestID(_ link: Link) {
        guard let text = unsafe link.it.logText else { return }
        link.it.madeRequestID = true
        link.it.requestIDLength = 36
        unsafe RequestID.make(text + Connection.logTextBytes, nextRandom(), nextRandom())
    }

    func requestID(_ link: Link) -> RequestID {
        // Behind the log's text, in the same block; none without a block.
        guard let text = unsafe link.it.logText else { return unsafe RequestID(scratch, count: 0) }
        return unsafe RequestID(
            text + Connection.logTextBytes, count: Int(link.it.requestIDLength))
    }
}

extension ByteWriter {
    /// A value of an element of x-forwarded-client-cert: quoted where it holds more than a SPIFFE
    /// ID may, so that it cannot begin another element, field or request, whoever let it come here.
    /// - Source: Envoy, "HTTP header manipulation", x-forwarded-client-cert.
    mutating func append(element value: Bytes) {
        var isPlain = true
        for index in 0..<value.count {
            let byte = value[index]
            let isWord = (0x61...0x7a).contains(byte | 0x20) || (0x2d...0x3a).contains(byte)
            isPlain = isPlain && (isWord || byte == UInt8(ascii: "_"))
        }
        if isPlain {
            append(value, ByteRange(0, value.count))
            return
        }
        append("\"")
        for index in 0..<value.count {
            let byte = value[index]
            // RFC 9110 section 5.5: neither is ever part of a field's value.
            if byte < 0x20 || byte == 0x7f { continue }
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { append("\\") }
            append(byte: byte)
        }
        append("\"")
    }

    /// RFC 5952 text, without allocating.
    mutating func append(address: IPAddress) {
        if address.isIPv4 {
            append(dotted: address.v4)
            return
        }
        let zeros = Self.zeros(address)
        var group = 0
        while group < 8 {
            if group == zeros.lowerBound, !zeros.isEmpty {
                append("::")
                group = zeros.upperBound
                continue
            }
            if group > 0, group != zeros.upperBound || zeros.isEmpty { append(":") }
            append(hexadecimal: address.byte(2 * group), address.byte(2 * group + 1))
            group += 1
        }
    }

    /// The first of the longest runs of groups that are zero, of two at least; empty: none.
    private static func zeros(_ address: IPAddress) -> Range<Int> {
        var longest = 0..<0
        var start = 0
        for group in 0..<8 {
            if address.byte(2 * group) | address.byte(2 * group + 1) != 0 {
                start = group + 1
            } else if group > start, group + 1 - start > longest.count {
                longest = start..<group + 1
            }
        }
        return longest
    }
}
