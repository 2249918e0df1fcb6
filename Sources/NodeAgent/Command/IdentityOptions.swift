internal import ArgumentParser
internal import MeshModel

/// A trust domain as an argument.
struct TrustDomainName: ExpressibleByArgument, Equatable, Sendable {
    var domain: TrustDomain

    init(_ domain: TrustDomain) { self.domain = domain }

    init?(argument: String) {
        guard let domain = try? TrustDomain(argument) else { return nil }
        self.domain = domain
    }

    var defaultValueDescription: String { domain.name }
}

/// How long what the built-in authority issues lives: `24h`, `90m`, `20s`, `1h30m`.
struct CertificateLife: ExpressibleByArgument, Equatable, Sendable {
    /// Less leaves no time to replace it, more is what an authority lives.
    static let secondsAllowed: ClosedRange<Int64> = 10...365 * 86_400
    static let standard = CertificateLife(seconds: 86_400)

    var seconds: Int64

    init(seconds: Int64) { self.seconds = seconds }

    init?(argument: String) {
        var total: Int64 = 0
        var rest = argument[...]
        guard !rest.isEmpty else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { ("0"..."9").contains($0) }
            rest = rest.dropFirst(digits.count)
            guard digits.count <= 9, let number = Int64(digits), let unit = rest.popFirst(),
                let factor: Int64 = ["d": 86_400, "h": 3_600, "m": 60, "s": 1][unit]
            else { return nil }
            total += number * factor
        }
        guard Self.secondsAllowed.contains(total) else { return nil }
        seconds = total
    }

    var description: String {
        let units: [(Int64, String)] = [(3_600, "h"), (60, "m"), (1, "s")]
        let best = units.first { seconds % $0.0 == 0 } ?? (1, "s")
        return "\(seconds / best.0)\(best.1)"
    }

    var defaultValueDescription: String { description }
}

/// Who the node's workloads are, and who says so.
struct IdentityOptions: ParsableArguments {
    /// There is a source of certificates.
    var isOn: Bool { ca != nil || svids != nil || workloadAPI != nil }

    @Option(
        help: ArgumentHelp(
            "Certificate authority of the node's workloads: ca.crt and ca.key, made if there are "
                + "none; nodes of one mesh share them (default: no identity).", valueName: "dir"))
    var ca: String?

    @Option(
        help: ArgumentHelp(
            "Certificates that another program keeps, instead of --ca.", valueName: "dir"))
    var svids: String?

    @Option(
        name: .customLong("workload-api"),
        help: ArgumentHelp(
            "Socket of a SPIFFE Workload API such as SPIRE's agent, instead of --ca.",
            valueName: "socket"))
    var workloadAPI: String?

    @Option(
        name: .customLong("trust-domain"),
        help: ArgumentHelp("The first part of every identity.", valueName: "name"))
    var trustDomain = TrustDomainName(.standard)

    @Option(
        name: .customLong("cert-ttl"),
        help: ArgumentHelp(
            "How long certificates of --ca live, 10s to 365d; replaced at half of it.",
            valueName: "duration"))
    var certTTL = CertificateLife.standard

    @Option(
        name: .customLong("root-namespace"),
        help: ArgumentHelp(
            "Where Istio's objects without a selector are mesh-wide.", valueName: "namespace"))
    var rootNamespace = "istio-system"

    func validate() throws {
        let sources = [("--ca", ca), ("--svids", svids), ("--workload-api", workloadAPI)]
        if sources.count(where: { $0.1 != nil }) > 1 {
            throw ValidationError("--ca, --svids and --workload-api exclude each other: give one")
        }
        for (name, value) in sources + [("--root-namespace", rootNamespace)]
        where value?.isEmpty == true {
            throw ValidationError("\(name) must not be empty")
        }
    }

    /// The same options as arguments; those of a source only where it is given.
    var arguments: [String] {
        var list: [String] = []
        if let ca { list += ["--ca", ca] }
        if let svids { list += ["--svids", svids] }
        if let workloadAPI { list += ["--workload-api", workloadAPI] }
        list += ["--trust-domain", trustDomain.domain.name, "--cert-ttl", certTTL.description]
        return list + ["--root-namespace", rootNamespace]
    }
}
