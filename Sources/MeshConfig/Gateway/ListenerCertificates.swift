// The `tls` of an HTTPS listener -> ListenerTLS, or why there is none.

internal import MeshModel

extension GatewayResolution {
    /// The option that raises the least version of TLS; the values are those of
    /// `ListenerTLS.Version`.
    static let versionMinOption = "malla.io/tls-version-min"

    mutating func readTLS(
        _ value: Value, _ path: String, _ object: ConfigObject, _ listener: inout ListenerState
    ) {
        let tls = value["tls"]
        let references = tls?["certificateRefs"]?.list ?? []
        var indices: [Int] = []
        var refusals: [CertificateResolution.Refusal] = []
        for (index, reference) in references.enumerated() {
            do throws(CertificateResolution.Refusal) {
                let found = try certificates.index(
                    reference, ofGatewayIn: object.name.namespace)
                if !indices.contains(found) { indices.append(found) }
            } catch {
                refusals.append(error)
                diagnostics.note(
                    object, .warning, .reference, "\(path).tls.certificateRefs[\(index)]",
                    reference.line, error.message + "; the listener serves without it, if at all",
                    .init(type: "ResolvedRefs", reason: error.reason))
            }
        }
        if references.isEmpty {
            let message = "an HTTPS listener needs tls.certificateRefs"
            refusals.append(.init(reason: "InvalidCertificateRef", message: message))
            diagnostics.note(
                object, .error, .reference, "\(path).tls", tls?.line ?? value.line, message,
                .init(type: "ResolvedRefs", reason: "InvalidCertificateRef"))
        }
        if let first = refusals.first {
            listener.resolvedRefs = Condition(
                "ResolvedRefs", .isFalse, first.reason, first.message)
        }
        guard !indices.isEmpty else { return }
        listener.tls = ListenerTLS(
            certificates: indices, versionMin: versionMin(tls?["options"], path, object))
    }

    private mutating func versionMin(
        _ options: Value?, _ path: String, _ object: ConfigObject
    ) -> ListenerTLS.Version {
        var version = ListenerTLS.Version.v12
        for option in options?.fields ?? [] {
            let text = option.value.text ?? ""
            let isVersion = option.name == Self.versionMinOption
            if isVersion, let known = ListenerTLS.Version(rawValue: text) {
                version = known
                continue
            }
            let message =
                isVersion
                ? "'\(text)' is neither 1.2 nor 1.3; 1.2 is the least version"
                : "is not supported by this build: it is ignored"
            diagnostics.note(
                object, .warning, .unsupported, "\(path).tls.options[\(option.name)]", option.line,
                message)
        }
        return version
    }
}
