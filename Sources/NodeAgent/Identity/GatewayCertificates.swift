// The certificates that this node's Gateways show their clients, as `malla certs` lists them. The
// Secrets' keys are not looked at.

internal import AdminAPI
internal import L7Engine
internal import MeshModel
internal import SwiftASN1
internal import X509

extension CertificateItem {
    /// Whoever renews certificates has done it by then: ACME's at a third of their life, and few
    /// later than two weeks before the end.
    private static let gatewaySeconds: Int64 = 14 * 86_400

    /// - Parameter now: seconds since 1970.
    /// - Complexity: linear in certificates, each of which is read anew; for people.
    static func gateways(_ snapshot: Snapshot, at now: Int64) -> [CertificateItem] {
        var listeners: [Int: Set<String>] = [:]
        for listener in snapshot.ownListeners {
            for index in listener.tls?.certificates ?? [] {
                listeners[index, default: []].insert("\(listener.gateway) \(listener.name)")
            }
        }
        let certificates = snapshot.mesh.certificates
        return listeners.sorted { certificates[$0.key].name < certificates[$1.key].name }.map {
            CertificateItem(certificates[$0.key], listeners: $0.value.sorted(), at: now)
        }
    }

    private init(_ shown: MeshModel.Certificate, listeners: [String], at now: Int64) {
        let text = String(decoding: shown.chain, as: UTF8.self)
        let chain = ((try? PEMDocument.parseMultiple(pemString: text)) ?? [])
            .filter { $0.discriminator.hasSuffix("CERTIFICATE") }.map(\.derBytes)
        let read = SVIDCertificate.certificates(chain)
        guard let leaf = read.first, read.count == chain.count else {
            self.init(
                type: "gateway", identity: shown.name.description, state: "valid",
                message: "a certificate that this command cannot read", listeners: listeners,
                pem: Self.pem(chain))
            // OpenSSL, which shows it, can read what swift-certificates cannot.
            let life = shown.life
            guard !life.isEmpty else { return }
            (notBefore, notAfter) = (Self.time(life.lowerBound), Self.time(life.upperBound))
            remainingSeconds = Int(life.upperBound - now)
            state = Self.state(from: life.lowerBound, to: life.upperBound, at: now)
            return
        }
        let begin = leaf.notBeforeSeconds
        // Whom clients believe nobody knows here: all that leads on counts but roots.
        let end = SVIDCertificate.end(of: leaf, in: chain, below: [])
        self.init(
            type: "gateway", identity: shown.name.description, serial: leaf.serialText,
            issuer: leaf.issuer.description, notBefore: Self.time(begin),
            notAfter: Self.time(end), remainingSeconds: Int(end - now),
            state: Self.state(from: begin, to: end, at: now), names: leaf.names,
            listeners: listeners, pem: Self.pem(chain))
    }

    private static func state(from begin: Int64, to end: Int64, at now: Int64) -> String {
        if now >= end { return "expired" }
        if now < begin { return "not-yet-valid" }
        return end - now < min(gatewaySeconds, (end - begin) / 3) ? "due" : "valid"
    }
}

extension X509.Certificate {
    /// For whom it is, as a client of HTTPS reads it.
    fileprivate var names: [String] {
        let alternatives = (try? extensions.subjectAlternativeNames) ?? SubjectAlternativeNames()
        let names = alternatives.compactMap { name -> String? in
            switch name {
            case .dnsName(let host): host
            case .uniformResourceIdentifier(let uri): uri
            case .ipAddress(let address): Self.text(Array(address.bytes))
            default: nil
            }
        }
        return names.isEmpty && !subject.isEmpty ? [subject.description] : names
    }

    private static func text(_ address: [UInt8]) -> String? {
        func half(_ bytes: ArraySlice<UInt8>) -> UInt64 {
            bytes.reduce(0) { $0 << 8 | UInt64($1) }
        }
        switch address.count {
        case 4: return IPAddress(v4: UInt32(half(address[...]))).description
        case 16: return IPAddress(high: half(address[..<8]), low: half(address[8...])).description
        default: return nil
        }
    }
}
