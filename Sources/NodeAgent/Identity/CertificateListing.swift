internal import AdminAPI
internal import Foundation
internal import L7Engine
internal import MeshModel
internal import SwiftASN1
internal import X509

extension Agent {
    /// Workloads by identity, the roots of every trust domain, then Gateways by Secret.
    func certificateItems() -> [CertificateItem] {
        let ofGateways = snapshot.map { CertificateItem.gateways($0, at: Moment.now.wall) } ?? []
        return identityItems() + ofGateways
    }

    private func identityItems() -> [CertificateItem] {
        guard let identities = identity.identities else { return [] }
        var pods: [SPIFFEID: [String]] = [:]
        for workload in snapshot?.mesh.workloads ?? []
        where snapshot?.isLocal(workload) == true && workload.isMeshed {
            let id = try? SPIFFEID(
                identities.trustDomain, namespace: workload.name.namespace,
                serviceAccount: workload.serviceAccount)
            if let id { pods[id, default: []].append(workload.name.description) }
        }
        var gateways: [SPIFFEID: Set<String>] = [:]
        for listener in snapshot?.ownListeners ?? [] {
            let id = try? SPIFFEID(
                identities.trustDomain, namespace: listener.account.namespace,
                serviceAccount: listener.account.name)
            if let id { gateways[id, default: []].insert(listener.gateway.description) }
        }
        let now = Moment.now.wall
        let workloads = identities.entries.sorted { $0.key < $1.key }.map { id, entry in
            var item = CertificateItem(id, entry, pods: (pods[id] ?? []).sorted(), at: now)
            item.gateways = (gateways[id] ?? []).sorted()
            return item
        }
        let nameless = identities.nameless.sorted { $0.key < $1.key }.map { account, failure in
            CertificateItem(
                type: "workload", identity: account.description, state: "missing",
                message: failure.message)
        }
        var roots = identities.bundles.flatMap { bundle in
            bundle.roots.map {
                var item = CertificateItem(
                    authority: $0, "authority", of: bundle.trustDomain, at: now)
                item.revocationLists = bundle.revocations.count
                return item
            }
        }
        if let failure = identities.bundleFailure, !roots.isEmpty {
            roots[0].message = failure.message
        }
        let signers = identities.signers.map {
            CertificateItem(
                authority: $0, "signer", of: identities.trustDomain, at: now)
        }
        return workloads + nameless + roots + signers
    }
}

extension Agent {
    /// When the first certificate ends that this node signs with, beneath a root.
    func signerEnds() -> [UInt64] {
        let ends = (identity.identities?.signers ?? []).compactMap {
            try? X509.Certificate(der: $0).notAfterSeconds
        }
        return ends.min().map { [UInt64(max(0, $0))] } ?? []
    }

    /// When the first root of each trust domain ends.
    func authorityEnds() -> [(domain: String, end: UInt64)] {
        (identity.identities?.bundles ?? []).compactMap { bundle in
            let ends = bundle.roots.compactMap { try? X509.Certificate(der: $0).notAfterSeconds }
            return ends.min().map { (bundle.trustDomain.name, UInt64(max(0, $0))) }
        }
    }
}

extension CertificateItem {
    fileprivate init(_ id: SPIFFEID, _ entry: Identities.Entry, pods: [String], at now: Int64) {
        let message = entry.failure?.message ?? ""
        guard let svid = entry.svid, let leaf = try? X509.Certificate(der: svid.chain[0]) else {
            self.init(
                type: "workload", identity: id.description, state: "missing",
                message: message.isEmpty ? "not made yet" : message, pods: pods)
            return
        }
        self.init(
            type: "workload", identity: id.description, serial: leaf.serialText,
            issuer: leaf.issuer.description, notBefore: Self.time(svid.notBefore),
            notAfter: Self.time(svid.notAfter), remainingSeconds: Int(svid.notAfter - now),
            renewAt: Self.time(entry.renewAt),
            state: Rotation.state(svid, renewAt: entry.renewAt, at: now).rawValue,
            message: message, pods: pods, pem: Self.pem(svid.chain))
    }

    fileprivate init(
        authority der: [UInt8], _ type: String, of domain: TrustDomain, at now: Int64
    ) {
        let identity = domain.id.description
        guard let certificate = try? X509.Certificate(der: der) else {
            self.init(
                type: type, identity: identity, state: "valid",
                message: "a certificate that this command cannot read", pem: Self.pem([der]))
            return
        }
        let (begin, end) = (certificate.notBeforeSeconds, certificate.notAfterSeconds)
        self.init(
            type: type, identity: identity, serial: certificate.serialText,
            issuer: certificate.issuer.description, notBefore: Self.time(begin),
            notAfter: Self.time(end), remainingSeconds: Int(end - now),
            state: now >= end ? "expired" : now < begin ? "not-yet-valid" : "valid",
            pem: Self.pem([der]))
    }

    static func time(_ seconds: Int64) -> String {
        Date(timeIntervalSince1970: Double(seconds)).ISO8601Format()
    }

    static func pem(_ chain: [[UInt8]]) -> String {
        chain.map { PEMDocument(type: "CERTIFICATE", derBytes: $0).pemString + "\n" }.joined()
    }
}
