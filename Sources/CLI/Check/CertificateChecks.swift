// Whether the node's certificates and authorities are good, and for how long still.

internal import AdminAPI

enum CertificateChecks {
    /// An authority is warned of so long before it ends: replacing one takes weeks.
    static let authoritySeconds = 30 * 86_400

    /// The same of an intermediate that signs: the operator's authority makes another in a moment.
    static let signerSeconds = 7 * 86_400

    static func all(_ items: [CertificateItem], identity: String) -> [CheckItem] {
        let ofGateways = gateways(items.filter { $0.type == "gateway" })
        guard identity != "none" else {
            let none = "no source of identity (--ca, --svids, --workload-api)"
            return [.ok("certificates", none)] + ofGateways
        }
        return [
            workloads(items.filter { $0.type == "workload" }),
            authorities(items.filter { $0.type == "authority" }),
        ] + signers(items.filter { $0.type == "signer" }) + ofGateways
    }

    /// Nothing where no listener of this node shows a certificate.
    static func gateways(_ items: [CertificateItem]) -> [CheckItem] {
        let name = "Gateway certificates"
        let inOrder = items.sorted { $0.remainingSeconds < $1.remainingSeconds }
        guard !inOrder.isEmpty else { return [] }
        // One does not hide another.
        let found = inOrder.filter { $0.state != "valid" || !$0.message.isEmpty }
        guard !found.isEmpty else {
            let first = inOrder.first { !$0.notAfter.isEmpty }
            let ends = first.map { ", the first ends in \(duration($0))" } ?? ""
            return [.ok(name, "\(items.count) valid\(ends)")]
        }
        let text = found.map(ofGateway).joined(separator: "; ")
        let remedy =
            found.contains { $0.state != "valid" }
            ? "renew it and put it into its Secret; open connections go on"
            : "see with `openssl x509 -text` what its Secret holds"
        let isBad = items.contains { ["expired", "not-yet-valid"].contains($0.state) }
        return [
            isBad
                ? .fail(name, text + ": clients refuse it", remedy: remedy)
                : .warn(name, text, remedy: remedy)
        ]
    }

    /// What is to be said of one that a Gateway shows.
    private static func ofGateway(_ item: CertificateItem) -> String {
        var says: [String] = []
        switch item.state {
        case "valid": break
        case "expired": says.append("ended at \(item.notAfter)")
        case "not-yet-valid": says.append("is not valid before \(item.notBefore)")
        default: says.append("ends in \(duration(item))")
        }
        if !item.message.isEmpty { says.append("has \(item.message)") }
        let names = item.names.isEmpty ? "" : " for \(item.names.joined(separator: ", "))"
        return "Secret \(item.identity)\(names) \(says.joined(separator: " and ")) "
            + "(\(item.listeners.joined(separator: ", ")))"
    }

    static func workloads(_ items: [CertificateItem]) -> CheckItem {
        let name = "certificates"
        if let bad = items.first(where: { ["missing", "expired"].contains($0.state) }) {
            let count = items.count { ["missing", "expired"].contains($0.state) }
            return .fail(
                name,
                "\(count) of \(items.count) are \(bad.state): \(bad.identity): \(bad.message)",
                remedy: "`malla certs` names all; see the agent's log")
        }
        // Half of its life is over and nothing has replaced it.
        if let late = items.first(where: { $0.state != "valid" || !$0.message.isEmpty }) {
            return .warn(
                name,
                "\(late.identity) ends in \(duration(late)) and is \(late.state): \(late.message)",
                remedy: "`malla certs` names all; see the agent's log")
        }
        guard let first = items.map(\.remainingSeconds).min() else {
            return .ok(name, "none needed: this node has no meshed pods")
        }
        return .ok(
            name, "\(items.count) valid, the first ends in \(Status.duration(seconds: first))")
    }

    /// Nothing where a root signs.
    static func signers(_ items: [CertificateItem]) -> [CheckItem] {
        let name = "signing certificate"
        guard let first = items.min(by: { $0.remainingSeconds < $1.remainingSeconds }) else {
            return []
        }
        let remedy = "put a new one into ca.crt with its key (docs/identity.md)"
        if first.remainingSeconds <= 0 {
            let text = "an intermediate of \(first.identity) ended at \(first.notAfter)"
            return [.fail(name, text + ": nothing can be signed", remedy: remedy)]
        }
        let text = "an intermediate of \(first.identity) ends in \(duration(first))"
        return [
            first.remainingSeconds < signerSeconds
                ? .warn(name, text, remedy: remedy) : .ok(name, text)
        ]
    }

    private static func duration(_ item: CertificateItem) -> String {
        Status.duration(seconds: max(0, item.remainingSeconds))
    }

    static func authorities(_ items: [CertificateItem]) -> CheckItem {
        let name = "authorities"
        let inOrder = items.sorted { $0.remainingSeconds < $1.remainingSeconds }
        guard let first = inOrder.first else {
            return .fail(name, "none: nobody is believed", remedy: "see the agent's log")
        }
        // One does not hide another.
        var found = inOrder.compactMap { about($0, among: items) }
        if let stale = items.first(where: { !$0.message.isEmpty }) {
            found.append(
                .warn(
                    name, "\(stale.identity): \(stale.message)",
                    remedy: "until it is mended what was good before goes on (docs/identity.md)"))
        }
        guard !found.isEmpty else {
            return .ok(name, "\(items.count) root(s), the first ends in \(duration(first))")
        }
        let text = found.map(\.message).joined(separator: "; ")
        var remedies: [String] = []
        for item in found where !remedies.contains(item.remedy) { remedies.append(item.remedy) }
        let remedy = remedies.joined(separator: "; ")
        return found.contains { $0.status == "FAIL" }
            ? .fail(name, text, remedy: remedy) : .warn(name, text, remedy: remedy)
    }

    /// What is to be said of one root; `nil`: it is good for long still.
    private static func about(_ item: CertificateItem, among all: [CertificateItem]) -> CheckItem? {
        guard item.remainingSeconds < authoritySeconds else { return nil }
        let name = "authorities"
        let renew =
            "make a new root, put it into every bundle beside the old one, then sign with "
            + "it (docs/identity.md)"
        if item.remainingSeconds > 0 {
            let text = "a root of \(item.identity) ends in \(duration(item))"
            return .warn(name, text, remedy: renew)
        }
        let text = "a root of \(item.identity) ended at \(item.notAfter)"
        let others = all.contains { $0.identity == item.identity && $0.remainingSeconds > 0 }
        return others
            ? .warn(name, text + " (others are valid)", remedy: "take it out of the bundle")
            : .fail(name, text, remedy: renew)
    }
}
