import TestSupport
import Testing

@Suite("An address of the nodes' blocks without a Pod is unmanaged (docs/cli.md)", .serialized)
struct UnmanagedTests {
    private static let (unknown, unknown6) = ("10.77.2.99", "fd00:77:2::99")

    /// Two datagrams to each.
    private static let ask = """
        import socket, sys
        for address in sys.argv[1:]:
            s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, 2)
            for _ in range(2):
                try: s.sendto(b"x", (address, 53))
                except OSError: pass
        """

    /// The one address is allowed by its block and the other one is not.
    private static let policy = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: cage, namespace: bed}
        spec:
          podSelector: {matchLabels: {app: client}}
          policyTypes: [Egress]
          egress:
          - to: [{ipBlock: {cidr: 10.77.2.96/28}}]

        """

    @Test func `and is called so, while policies know it by its address`() throws {
        let mesh = try SmallMesh.running { bed in
            let text = try Command.shell("cat \(bed.configuration)/bed.yaml")
            let n2 = "metadata: {name: n2}\n"
            #expect(text.contains(n2))
            try bed.configure(
                "bed.yaml",
                text.replacing(
                    n2, with: n2 + "spec: {podCIDRs: [10.77.2.0/24, \"fd00:77:2::/64\"]}\n"))
            try bed.configure("policy.yaml", Self.policy)
        }
        defer { mesh.close() }
        let words = ["/usr/bin/python3", "-c", Self.ask, Self.unknown, Self.unknown6]
        #expect(try mesh.client.run(words).isSuccess)

        let flows = try mesh.node.malla("bpf", "ct", "list").output
        #expect(flows.contains("\(Self.unknown):53 (unmanaged)"), "the block allows it: \(flows)")
        var events = ""
        try eventually("the other one is denied: \(events)") {
            events = try mesh.node.malla("observe", "--verdict", "denied").output
            return events.contains("[\(Self.unknown6)]:53 (unmanaged)")
        }
        #expect(!events.contains(Self.unknown), "\(events)")

        let rows = try mesh.node.malla("bpf", "ipcache").output.split(separator: "\n")
        for block in ["10.77.2.0/24", "10.77.2.96/28", "fd00:77:2::/64"] {
            let row = rows.first { $0.hasPrefix(block + " ") } ?? "none"
            #expect(row.contains("reserved:unmanaged"), "\(block): \(row)\n\(rows)")
        }
        let pod = rows.first { $0.hasPrefix(mesh.bed["far"].v4 + "/32 ") } ?? "none"
        #expect(pod.contains("bed/far"), "\(rows)")
        let identities = try mesh.node.malla("bpf", "identities").output
        #expect(identities.contains("reserved:unmanaged"), "\(identities)")
        #expect(identities.contains("reserved:world-ipv6"), "\(identities)")

        for (address, verdict) in [(Self.unknown, "allowed"), (Self.unknown6, "denied")] {
            let trace = try mesh.node.malla(
                "policy", "trace", "--from", "bed/client", "--to", address, "--port", "53",
                "--protocol", "UDP"
            ).output
            #expect(trace.contains("\(address) is unmanaged"), "\(trace)")
            #expect(trace.contains(verdict), "\(trace)")
        }
        let known = try mesh.node.malla(
            "policy", "trace", "--from", "bed/client", "--to", "bed/far", "--port", "53"
        ).output
        #expect(!known.contains("unmanaged"), "\(known)")
    }
}
