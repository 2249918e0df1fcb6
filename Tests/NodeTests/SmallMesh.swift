import TestSupport

/// The mesh that most node tests look at: a client and a server on one node, a server on another,
/// and a service of each kind for each server.
enum SmallMesh {
    static let kernelNear = TestService("kernel-near", 1, "tcp", to: ["near"])
    static let kernelFar = TestService("kernel-far", 2, "tcp", to: ["far"])
    static let engineNear = TestService("engine-near", 3, "http", to: ["near"])
    static let engineFar = TestService("engine-far", 4, "http", to: ["far"])
    static let shared = TestService("shared", 5, "http", to: ["near", "far"])
    static let datagramNear = TestService(
        "udp-near", 6, "udp", to: ["near"], port: 5300, targetPort: 5353)
    static let datagramFar = TestService(
        "udp-far", 7, "udp", to: ["far"], port: 5300, targetPort: 5353)
    static let services = [
        kernelNear, kernelFar, engineNear, engineFar, shared, datagramNear, datagramFar,
    ]

    /// The mesh with its servers, and `configure` done, before any agent runs.
    ///
    /// - Parameter more: pods of the first node beside the two.
    static func bed(
        more: [String] = [], _ configure: (Testbed) throws -> Void = { _ in }
    ) throws -> Quiet {
        let local = ["client", "near"] + more
        let bed = try Testbed("n1: \(local.joined(separator: ", ")); n2: far")
        let near = try bed["near"].serve()
        let far = try bed["far"].serve()
        try bed.describe(services)
        try configure(bed)
        return Quiet(bed: bed, near: near, far: far)
    }

    /// The same with an agent on each node, both ready.
    ///
    /// - Parameter options: of the first node's agent.
    static func running(
        more: [String] = [], options: [String] = [],
        _ configure: (Testbed) throws -> Void = { _ in }
    ) throws -> Running {
        let quiet = try bed(more: more, configure)
        let first = try quiet.bed[node: "n1"].start(
            "agent", quiet.bed[node: "n1"].agentArguments(more: options))
        let node = quiet.bed[node: "n2"]
        let second = try node.start("agent", node.agentArguments())
        try quiet.bed[node: "n1"].waitUntilReady(first)
        try quiet.bed[node: "n2"].waitUntilReady(second)
        return Running(quiet: quiet, agents: [first, second])
    }

    struct Quiet {
        let bed: Testbed
        let near: WebServer
        let far: WebServer
    }

    struct Running {
        let quiet: Quiet
        let agents: [TestProcess]
        var bed: Testbed { quiet.bed }
        var client: TestPod { bed["client"] }
        var node: TestNode { bed[node: "n1"] }

        /// What an agent printed, for a failed expectation.
        var logs: String { agents.map { String($0.text.suffix(2000)) }.joined(separator: "\n--\n") }

        func close() { bed.close() }
    }

    static let canary = """
        - matches: [{headers: [{name: x-version, value: far}]}]
          backendRefs: [{name: engine-far, port: 80}]
        - matches: [{path: {type: PathPrefix, value: /old}}]
          filters:
            - type: URLRewrite
              urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
          backendRefs: [{name: engine-near, port: 80}]
        - matches: [{path: {type: Exact, value: /moved}}]
          filters:
            - type: RequestRedirect
              requestRedirect: {hostname: shop.example, statusCode: 301}
        - matches: [{path: {type: PathPrefix, value: /nowhere}}]
          backendRefs: [{name: no-such-service, port: 80}]
        - matches: [{path: {type: PathPrefix, value: /marked}}]
          filters:
            - type: RequestHeaderModifier
              requestHeaderModifier: {set: [{name: x-added, value: "yes"}]}
            - type: ResponseHeaderModifier
              responseHeaderModifier: {add: [{name: x-seen, value: "by malla"}]}
          backendRefs: [{name: engine-near, port: 80}]
        """

    /// The share of `shared` that `far` gets is `weight` of 100.
    static func split(_ weight: Int) -> String {
        canary + """

            - backendRefs:
                - {name: engine-near, port: 80, weight: \(100 - weight)}
                - {name: engine-far, port: 80, weight: \(weight)}
            """
    }
}
