// The bed of Kubernetes' NetworkPolicy tests: namespaces x, y and z with pods a, b and c each, on
// two nodes; every pod serves ports 80 and 81 by TCP and UDP, and probes all others on demand.

import Foundation
import TestSupport

/// A pod of the bed.
struct PolicyEnd: Hashable, Sendable, Comparable, CustomStringConvertible {
    var space: String
    var name: String

    var description: String { "\(space)/\(name)" }
    var pod: String { "\(space)-\(name)" }

    static func < (left: PolicyEnd, right: PolicyEnd) -> Bool {
        (left.space, left.name) < (right.space, right.name)
    }

    static let all = ["x", "y", "z"].flatMap { space in
        ["a", "b", "c"].map { PolicyEnd(space: space, name: $0) }
    }
}

/// One probe: who, whom, how.
struct PolicyProbe: Hashable, Sendable, CustomStringConvertible {
    var from: PolicyEnd
    var to: PolicyEnd
    var port: Int
    var transport: String

    var description: String { "\(from) -> \(to) \(transport)/\(port)" }

    static let all = PolicyEnd.all.flatMap { from in
        PolicyEnd.all.flatMap { to in
            [80, 81].flatMap { port in
                ["TCP", "UDP"].map {
                    PolicyProbe(from: from, to: to, port: port, transport: $0)
                }
            }
        }
    }
}

final class PolicyMesh {
    let bed: Testbed
    private(set) var agents: [TestProcess] = []
    private var probers: [TestProcess] = []
    private var generation = 0

    /// - Parameter tunnels: with identities, so that TCP between the nodes goes by HBONE.
    init(tunnels: Bool) throws {
        bed = try Testbed("n1: x-a, x-b, x-c, y-a, y-b; n2: y-c, z-a, z-b, z-c")
        for end in PolicyEnd.all {
            let path = "\(bed.directory)/\(end.pod).sock"
            probers.append(
                try bed[end.pod].start(
                    "prober", ["/usr/bin/python3", "-c", Self.prober, end.pod, path]))
        }
        try describe()
        for node in ["n1", "n2"] {
            let more = tunnels ? ["--ca", "\(bed.directory)/ca"] : []
            agents.append(
                try bed[node: node].start("agent", bed[node: node].agentArguments(more: more)))
        }
        for (node, agent) in zip(["n1", "n2"], agents) {
            try bed[node: node].waitUntilReady(agent, within: 60)
        }
    }

    func close() { bed.close() }

    var logs: String { agents.map { String($0.text.suffix(1500)) }.joined(separator: "\n--\n") }

    /// The mesh itself, with labels changed where a test asks for it.
    func describe(
        spaces: [String: String] = [:], pods: [PolicyEnd: String] = [:]
    ) throws {
        var objects = bed.topology.nodes.map { node in
            """
            {apiVersion: v1, kind: Node, metadata: {name: \(node.name)}, status: {addresses: [\
            {type: InternalIP, address: \(node.v4)}, {type: InternalIP, address: '\(node.v6)'}]}}
            """
        }
        objects += ["x", "y", "z"].map { space in
            "{apiVersion: v1, kind: Namespace, metadata: {name: \(space), labels: "
                + "{ns: \(spaces[space] ?? space)}}}"
        }
        for pod in bed.topology.pods {
            let parts = pod.name.split(separator: "-").map(String.init)
            let end = PolicyEnd(space: parts[0], name: parts[1])
            objects.append(
                """
                {apiVersion: v1, kind: Pod, metadata: {name: \(end.name), namespace: \
                \(end.space), labels: {pod: \(pods[end] ?? end.name)}, annotations: \
                {malla.io/interface: \(pod.interface)}}, spec: {nodeName: \(pod.node), containers: \
                [{name: c, ports: [{name: serve-80-tcp, containerPort: 80}, {name: serve-81-tcp, \
                containerPort: 81}, {name: serve-80-udp, containerPort: 80, protocol: UDP}, \
                {name: serve-81-udp, containerPort: 81, protocol: UDP}]}]}, status: {podIP: \
                \(pod.v4), podIPs: [{ip: \(pod.v4)}, {ip: '\(pod.v6)'}]}}
                """)
        }
        try bed.configure("mesh.yaml", objects.joined(separator: "\n---\n") + "\n")
    }

    /// Puts these policies in place of those before, and waits until both agents have them in
    /// force, with all that was described before.
    func enforce(_ policies: [String]) throws {
        generation += 1
        let marker =
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: "
            + "generation-\(generation), namespace: none}, spec: {podSelector: {}}}"
        try bed.configure(
            "policies.yaml", (policies + [marker]).joined(separator: "\n---\n") + "\n")
        for node in ["n1", "n2"] {
            try eventually("\(node) has generation \(generation)", within: 20) {
                try bed[node: node].malla("policy", "list", "-o", "json").output
                    .contains("\"generation-\(generation)\"")
            }
        }
    }

    /// Who reaches whom by IPv4 and by IPv6, as the pods themselves found out.
    func reachable() throws -> (v4: Set<PolicyProbe>, v6: Set<PolicyProbe>) {
        var arguments = ["/usr/bin/python3", "-c", Self.conductor, bed.directory]
        arguments += PolicyEnd.all.map { "\($0.pod)=\(bed[$0.pod].v4)=\(bed[$0.pod].v6)" }
        let outcome = try Command.run(arguments, seconds: 30)
        var found: (v4: Set<PolicyProbe>, v6: Set<PolicyProbe>) = ([], [])
        let lines = outcome.output.split(separator: "\n")
        guard lines.count == PolicyProbe.all.count * 2 else {
            throw CommandFailure(description: "\(lines.count) answers\n\(outcome)")
        }
        for line in lines {
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 6, words[5] == "yes" else { continue }
            func end(_ text: String) -> PolicyEnd {
                let parts = text.split(separator: "-").map(String.init)
                return PolicyEnd(space: parts[0], name: parts[1])
            }
            let probe = PolicyProbe(
                from: end(words[0]), to: end(words[1]), port: Int(words[2]) ?? 0,
                transport: words[3])
            if words[4] == "4" { found.v4.insert(probe) } else { found.v6.insert(probe) }
        }
        return found
    }

    /// Serves, and on a Unix socket takes lists of probes, all tried at once.
    private static let prober = """
        import asyncio, json, socket, sys
        name, path = sys.argv[1:3]
        LIMIT = 1.0
        async def serve(reader, writer):
            writer.write(name.encode())
            writer.close()
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport): self.transport = transport
            def datagram_received(self, text, peer): self.transport.sendto(name.encode(), peer)
        class Ask(asyncio.DatagramProtocol):
            def __init__(self): self.answer = asyncio.get_running_loop().create_future()
            def connection_made(self, transport): transport.sendto(b"who?")
            def datagram_received(self, text, peer):
                if not self.answer.done(): self.answer.set_result(text)
            def error_received(self, error): pass
        async def tcp(address, port):
            reader, writer = await asyncio.open_connection(address, port)
            text = await reader.read(64)
            writer.close()
            return text
        async def udp(address, port):
            transport, ask = await asyncio.get_running_loop().create_datagram_endpoint(
                Ask, remote_addr=(address, port))
            try: return await ask.answer
            finally: transport.close()
        async def probe(pod, address, port, kind):
            try:
                text = await asyncio.wait_for((tcp if kind == "TCP" else udp)(address, port), LIMIT)
                return text.decode() == pod
            except (OSError, asyncio.TimeoutError):
                return False
        async def command(reader, writer):
            probes = json.loads(await reader.readline())
            writer.write(json.dumps(await asyncio.gather(*[probe(*p) for p in probes])).encode())
            await writer.drain()
            writer.close()
        async def main():
            loop = asyncio.get_running_loop()
            for port in (80, 81):
                await asyncio.start_server(serve, ["0.0.0.0", "::"], port)
                for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                    s = socket.socket(family, socket.SOCK_DGRAM)
                    if family == socket.AF_INET6:
                        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    s.bind((host, port))
                    await loop.create_datagram_endpoint(Echo, sock=s)
            await asyncio.start_unix_server(command, path)
            await asyncio.Event().wait()
        asyncio.run(main())
        """

    /// Has all pods probe at the same time; one line a probe.
    private static let conductor = """
        import asyncio, json, sys
        pods = [p.split("=") for p in sys.argv[2:]]
        async def ask(name):
            jobs = [(pod, address, port, kind, family) for pod, v4, v6 in pods
                for family, address in (("4", v4), ("6", v6))
                for port in (80, 81) for kind in ("TCP", "UDP")]
            for attempt in range(50):
                try:
                    reader, writer = await asyncio.open_unix_connection(
                        f"{sys.argv[1]}/{name}.sock")
                    break
                except OSError:
                    await asyncio.sleep(0.1)
            writer.write(json.dumps([j[:4] for j in jobs]).encode() + b"\\n")
            answers = json.loads(await reader.read(-1))
            writer.close()
            for (pod, address, port, kind, family), answer in zip(jobs, answers):
                print(name, pod, port, kind, family, "yes" if answer else "no")
        async def main():
            await asyncio.gather(*[ask(p[0]) for p in pods])
        asyncio.run(main())
        """
}
