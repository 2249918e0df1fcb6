internal import L7Engine
internal import MeshModel

extension Agent {
    /// Certificates: how old, how long still, what went wrong. Nothing without a source.
    func addIdentity(_ out: inout Exposition) {
        guard let identities = identity.identities else { return }
        let now = Moment.now.wall
        let held = identities.credentials.svids.sorted { $0.key < $1.key }
        out.family(
            "malla_certificate_age_seconds", .gauge,
            "How long ago the life of a workload's certificate began.",
            held.map {
                let issued = identities.entries[$0.key]?.issuedAt ?? $0.value.notBefore
                return ([("identity", $0.key.description)], UInt64(max(0, now - issued)))
            })
        out.family(
            "malla_certificate_expiry_timestamp_seconds", .gauge,
            "When a workload's certificate ends, or the first of a listener's chain, Unix time.",
            held.map { ([("identity", $0.key.description)], UInt64(max(0, $0.value.notAfter))) })
        out.family(
            "malla_certificates_missing", .gauge,
            "Identities of this node's pods that have no certificate in force.",
            UInt64(
                identities.nameless.count
                    + identities.entries.values.count { $0.svid == nil }))
        out.family(
            "malla_authority_expiry_timestamp_seconds", .gauge,
            "When the first root of a trust domain ends, Unix time.",
            authorityEnds().map { ([("trust_domain", $0.domain)], $0.end) })
        out.family(
            "malla_signer_expiry_timestamp_seconds", .gauge,
            "When the first intermediate that this node signs with ends, Unix time.",
            signerEnds().map { ([], $0) })
        out.family(
            "malla_identity_stale", .gauge,
            "1 while something that says whom to believe, or who signs, cannot be used.",
            identities.bundleFailure == nil ? 0 : 1)
        out.family(
            "malla_certificates_issued_total", .counter,
            "Certificates made, or taken from files.", identities.counts.issued)
        out.family(
            "malla_certificates_expired_total", .counter,
            "Certificates that were taken out of use because nobody would have accepted them.",
            identities.counts.expired)
        out.family(
            "malla_certificate_failures_total", .counter,
            "Certificates and bundles that could not be had.",
            SVIDFailure.Reason.allCases.map {
                ([("reason", $0.rawValue)], identities.counts.failures[$0] ?? 0)
            })
        out.family(
            "malla_clock_jumps_total", .counter,
            "Times that the wall clock was set, by five seconds or more.",
            identities.counts.clockJumps)
        out.family(
            "malla_credentials_version", .gauge,
            "Changes of certificates or bundles that took effect.", identities.credentials.version)
    }
}
