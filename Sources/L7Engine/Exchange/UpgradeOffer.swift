// What a client offered to upgrade to, and whether an answer of 101 takes it at its word: what
// passes behind that answer nobody looks at.
//
// - Source: RFC 9110 section 7.8.

internal import MeshModel

extension Worker {
    /// Whether the upstream switches to what the client offered, and to nothing else. The head of
    /// the answer is in `base`, the request is kept until it is answered.
    func isOffered(_ client: Link, _ base: UnsafeMutablePointer<UInt8>) -> Bool {
        guard client.it.wantsUpgrade, head.hasUpgrade, !head.upgradesToHTTP2,
            let sent = unsafe client.it.request.base
        else { return false }
        let offer = unsafe UpgradeOffer(
            Bytes(sent, count: client.it.request.end), client.it.request.start)
        let answer = unsafe Bytes(base, count: head.end)
        var count = 0
        for index in 0..<head.fieldsCount where head.field(index).kind == FieldKind.upgrade {
            var items = ListItems(head.field(index).value)
            while let item = unsafe items.item(base) {
                if !offer.names(answer, item) { return false }
                count += 1
            }
        }
        return count > 0
    }
}

/// The `Upgrade` fields of a request as it went upstream: `bytes[start...]` begins with its head,
/// which was parsed before.
struct UpgradeOffer {
    let bytes: Bytes
    let start: Int

    init(_ bytes: Bytes, _ start: Int) {
        self.bytes = bytes
        self.start = start
    }

    /// Whether a protocol is one of those offered; case does not matter.
    func names(_ other: Bytes, _ item: ByteRange) -> Bool {
        var line = start
        while line < bytes.count {
            var end = line
            while end < bytes.count, bytes[end] != UInt8(ascii: "\r") { end += 1 }
            // The empty line: the head is over.
            if end == line { return false }
            if isUpgrade(line, end), lists(line + 8, end, other, item) { return true }
            line = end + 2
        }
        return false
    }

    private func isUpgrade(_ line: Int, _ end: Int) -> Bool {
        guard end - line >= 8 else { return false }
        let name: [8 of UInt8] = [0x75, 0x70, 0x67, 0x72, 0x61, 0x64, 0x65, 0x3a]
        for offset in 0..<8 where Self.lower(bytes[line + offset]) != name[offset] { return false }
        return true
    }

    private func lists(_ from: Int, _ end: Int, _ other: Bytes, _ item: ByteRange) -> Bool {
        var at = from
        while at < end {
            while at < end, isBetween(bytes[at]) { at += 1 }
            let first = at
            while at < end, !isBetween(bytes[at]) { at += 1 }
            guard at - first == item.count, at > first else { continue }
            var isSame = true
            for offset in 0..<item.count {
                let (one, two) = (bytes[first + offset], other[item.lower + offset])
                isSame = isSame && Self.lower(one) == Self.lower(two)
            }
            if isSame { return true }
        }
        return false
    }

    private func isBetween(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: ",") || byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
    }

    private static func lower(_ byte: UInt8) -> UInt8 { byte &- 0x41 < 26 ? byte | 0x20 : byte }
}
