import AdminAPI
import Foundation
import Testing

@testable import CLI

/// The built program against a socket that answers listings.
@Suite("malla prints what the agent says")
struct ProgramTests {
    private func withAgent(_ body: (_ socket: String) throws -> Void) throws {
        let agent = try FakeAgent([
            AdminAPI.status.path: FakeAgent.json(Output.json(Sample.status)),
            AdminAPI.policies.path: FakeAgent.json(Output.json(Sample.policies)),
            AdminAPI.policyTrace.path
                + "?from=shop/web-1&to=shop/cart-1&port=8080&protocol=tcp":
                FakeAgent.json(Output.json(Sample.policyTrace)),
            AdminAPI.endpoints.path: FakeAgent.json(Output.json(Sample.endpoints)),
            AdminAPI.services.path: FakeAgent.json(Output.json(Sample.services)),
            AdminAPI.serviceRows.path: FakeAgent.json(Output.json(Sample.serviceRows)),
            AdminAPI.routes.path: FakeAgent.json(Output.json(Sample.routes)),
            AdminAPI.bpfStats.path: FakeAgent.json(Output.json(Sample.bpfStats)),
            AdminAPI.flows.path: FakeAgent.json(Output.json(Sample.flows)),
            AdminAPI.ipcache.path: FakeAgent.json(Output.json(Sample.ipcache)),
            AdminAPI.policyRows.path: FakeAgent.json(Output.json(Sample.policyRows)),
            AdminAPI.flowEvents.path + "?last=20&pod=shop/web-1&verdict=denied&port=8080":
                FakeAgent.json(Output.json(Sample.flowEvents)),
            AdminAPI.flowEvents.path + "?last=20&follow=1":
                "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n" + Self.lines(Sample.flowEvents),
            AdminAPI.flowFlush("all").path: FakeAgent.json(Output.json(Sample.flowFlush)),
        ])
        defer { agent.stop() }
        try body(agent.path)
    }

    @Test func `status says why it is not ready and which listener is not programmed`() throws {
        try withAgent { socket in
            let result = try Program.run(["status", "--socket", socket])
            #expect(result.code == 0)
            #expect(
                result.output == """
                    NODE      node1
                    ready     no
                    agent     0.1.0, pid 4242 under 4200, up 1h2m, 1 restarts, started in 61 ms
                    datapath  on, ABI 1, 9 programs, 12 maps: one map is full
                    engine    2 workers, 7 of 120 connections open, 90000 requests
                    identity  none
                    config    /etc/malla, generation 3
                    objects   31, 1 refused, 2 warnings, 3 ignored
                    reloaded  2026-11-21T14:00:00Z
                    kept      30 objects, 9 KiB
                      not ready: broken.yaml cannot be read
                      refused: HTTPRoute shop/web: a.yaml:7: spec.rules[0]: no such method
                      unreadable: broken.yaml
                      state: a.good is damaged
                      quarantined: shop/cart (two crashes named it)

                    GATEWAY   LISTENER  ADDRESS   PORT  PROGRAMMED  MESSAGE
                    shop/web  http      *         8080  yes         -
                    shop/web  alt       10.0.0.1  8081  no          port in use

                    REPAIRED  TIMES  LAST                  OF               MESSAGE
                    link          2  2026-11-21T14:01:00Z  pod shop/cart-1  was detached

                    """)
        }
    }

    private static func lines(_ listing: Listing<FlowEventItem>) throws -> String {
        try listing.items.map { String(decoding: try JSONEncoder().encode($0), as: UTF8.self) }
            .joined(separator: "\n") + "\n"
    }

    @Test func `observe --follow prints a line an event until the agent ends`() throws {
        try withAgent { socket in
            let table = try Program.run(["--socket", socket, "observe", "--follow"])
            #expect(table.code == 69 && table.complaint.contains("broke off"))
            #expect(
                table.output == """
                    TIME          VERDICT  REASON          PROTOCOL  FROM              TO                \
                    PACKETS  RULE                    WHY
                    19:40:01.123  denied   denied_ingress  TCP       shop/web-1:40312  shop/cart-1:8080  \
                          3  default deny (ingress)  nearest NetworkPolicy shop/cart ingress[0]: shop/\
                    web-1 is not app=api
                    19:40:02.000  allowed  captured        TCP       shop/web-1:40313  [fd00:96::1]:80 \
                    (shop/api)        1  -                       -
                    19:40:03.5Z   lost     ring_full       -         -                 -               \
                                     12  -                       -

                    """)
            let json = try Program.run(["--socket", socket, "observe", "-f", "-o", "json"])
            let lines = json.output.split(separator: "\n")
            #expect(lines.count == 3)
            let first = try JSONDecoder().decode(FlowEventItem.self, from: Data(lines[0].utf8))
            #expect(first == Sample.flowEvents.items[0])
        }
    }

    struct Row: CustomTestStringConvertible {
        var arguments: [String]
        var lines: [String]
        var testDescription: String { arguments.joined(separator: " ") }
    }

    @Test(arguments: [
        Row(
            arguments: ["bpf", "ct", "--pod", "shop/web-1"],
            lines: [
                "PROTOCOL  FROM             TO            KIND  STATE   SENT  RECEIVED  IDLE"
                    + "    LEFT  NOTE",
                "TCP       10.1.0.10:40312  10.1.0.11:80  own   open   73291      8120   2 s"
                    + "  8587 s  -",
            ]),
        Row(
            arguments: [
                "observe", "--pod", "shop/web-1", "--verdict", "denied", "--port", "8080",
            ],
            lines: [
                "TIME          VERDICT  REASON          PROTOCOL  FROM              TO             "
                    + "             PACKETS  RULE                    WHY",
                "19:40:01.123  denied   denied_ingress  TCP       shop/web-1:40312  shop/cart-1:808"
                    + "0                  3  default deny (ingress)  nearest NetworkPolicy shop/cart"
                    + " ingress[0]: shop/web-1 is not app=api",
                "19:40:02.000  allowed  captured        TCP       shop/web-1:40313  [fd00:96::1]:80"
                    + " (shop/api)        1  -                       -",
                "19:40:03.5Z   lost     ring_full       -         -                 -              "
                    + "                  12  -                       -",
            ]),
        Row(arguments: ["bpf", "ct", "flush", "--all"], lines: ["12 flows are judged anew."]),
        Row(
            arguments: ["bpf", "identities"],
            lines: [
                "IDENTITY  PREFIXES  NAME                 FIRST         STANDS FOR",
                "       9         1  reserved:world-ipv4  0.0.0.0/0     world",
                "     257         1  shop/web-1           10.1.0.10/32  pod,pod:app=web",
            ]),
        Row(
            arguments: ["bpf", "policy"],
            lines: [
                "SET  PODS         DIRECTION  IDENTITY  PROTOCOL  PORTS  VERDICT       RULE",
                "  1  shop/cart-1  ingress         257  TCP       8080   allow            3",
                "  1  shop/cart-1  ingress     default  any       any    deny (audit)     0",
            ]),
        Row(
            arguments: ["endpoints"],
            lines: [
                "NAMESPACE  NAME      NODE   ADDRESSES           INTERFACE    MESHED"
                    + "  SERVICE ACCOUNT  STATE     REPAIRS",
                "shop       cart-1    node1  10.1.0.2,fd00:1::2  veth-cart#7  yes   "
                    + "  cart             attached        0",
                "bank       ledger-1  node2  10.2.0.2            -            no    "
                    + "  -                remote          0",
            ]),
        Row(
            arguments: ["endpoints", "-n", "bank"],
            lines: [
                "NAMESPACE  NAME      NODE   ADDRESSES  INTERFACE  MESHED  SERVICE ACCOUNT  STATE"
                    + "   REPAIRS",
                "bank       ledger-1  node2  10.2.0.2   -          no      -                remote"
                    + "        0",
            ]),
        Row(arguments: ["endpoints", "-n", "bank", "--local"], lines: ["No pods found."]),
        Row(
            arguments: ["services"],
            lines: [
                "NAMESPACE  NAME      TYPE       ADDRESSES   PORT  NODE PORT  PROTOCOL  PATH  READY"
                    + "  TRAFFIC                          ROUTES               NOTE",
                "shop       catalog   ClusterIP  10.96.0.10    80      30080  TCP/http  L7      1/2"
                    + "  external Local, from 10.0.0.0/8  shop/catalog-canary  -",
                "bank       payments  ClusterIP  -           9000          -  TCP       L4      0/0"
                    + "  -                                -                    not as declared",
            ]),
        Row(
            arguments: ["services", "--endpoints"],
            lines: [
                "NAMESPACE  SERVICE  PORT  ENDPOINT          NODE   ZONE  READY  SERVING"
                    + "  TERMINATING  USE",
                "shop       catalog    80  10.1.0.3:8080     node1  a     yes    yes      no"
                    + "           used",
                "shop       catalog    80  [fd00:1::3]:8080  node2  -     no     yes      yes"
                    + "          draining",
            ]),
        Row(
            arguments: ["policy"],
            lines: [
                "TIER           PRIORITY  NAMESPACE  NAME  NAMESPACES  PODS SELECTED BY  INGRESS"
                    + "  EGRESS  MODE     PODS",
                "Admin                 7  -          wall  team=red    <all>                   -"
                    + "       2  audit       0",
                "NetworkPolicy         -  shop       cart  shop        app=cart                1"
                    + "       -  enforce     2",
            ]),
        Row(arguments: ["policy", "list", "-n", "none"], lines: ["No network policies found."]),
        Row(arguments: ["services", "-n", "none"], lines: ["No services found."]),
        Row(
            arguments: ["bpf", "services"],
            lines: [
                "ADDRESS     FAMILY   PORT  PROTOCOL  OWNER                 INSIDE"
                    + "                          OUTSIDE              FLAGS",
                "10.96.0.10  IPv4       80  TCP       Service shop/catalog  #3 10.1.0.3:8080,"
                    + "10.1.0.4:8080  -                    captured",
                "*           IPv6    30080  TCP       Service shop/catalog  #4 none"
                    + "                         #5 [fd00:1::3]:8080  -",
            ]),
        Row(
            arguments: ["routes", "--rules"],
            lines: [
                "KIND       NAMESPACE  NAME            HOSTNAMES     PARENT                 "
                    + "  ACCEPTED  RESOLVED             MESSAGE",
                "HTTPRoute  shop       catalog-canary  catalog.shop  Service shop/catalog:80"
                    + "  yes       no: BackendNotFound  change refused: "
                    + "spec.rules[0].backendRefs[0].weight: -5 is not in 0...1000000"
                    + "; no Service shop/gone",
                "",
                "ROUTE                RULE  MATCHES                         FILTERS            "
                    + "  BACKEND             WEIGHT  PROBLEM",
                "shop/catalog-canary     0  path /* or header x-version=v2  set header x-seen=1"
                    + "  shop/catalog-v1:80      90  -",
                "shop/catalog-canary     0  path /* or header x-version=v2  set header x-seen=1"
                    + "  shop/gone:80            10  no such Service",
            ]),
        Row(
            arguments: ["bpf", "stats"],
            lines: [
                "HOOK      VERDICT   PACKETS", "connect4  captured     1234", "",
                "MAP            TYPE  ENTRIES    MAX  REFUSED",
                "malla_service  hash       12  65536        3", "",
                "PROGRAM         ID  ATTACHED TO            PINNED  ADOPTED  RUNS  NS/RUN",
                "malla_connect4  17  cgroup /sys/fs/cgroup  yes     yes        10     250",
            ]),
        Row(
            arguments: ["version"],
            lines: ["COMPONENT    VERSION", "malla        0.1.0", "malla-agent  0.1.0"]),
    ])
    func `a list is a table`(row: Row) throws {
        try withAgent { socket in
            let result = try Program.run(row.arguments + ["--socket", socket])
            #expect(result.code == 0)
            #expect(result.output == row.lines.map { $0 + "\n" }.joined())
            #expect(result.complaint == "")
        }
    }

    @Test func `JSON is what the agent said, filtered`() throws {
        try withAgent { socket in
            let all = try Program.run(["--socket", socket, "services", "-o", "json"])
            #expect(try all.output == Output.json(Sample.services))
            var filtered = Sample.services
            filtered.items.removeFirst()
            let some = try Program.run(
                ["services", "-n", "bank", "--output", "json"],
                environment: ["MALLA_SOCKET": socket])
            #expect(try some.output == Output.json(filtered))
        }
    }

    @Test func `a trace says which rule decides on each side; denied is exit code 1`() throws {
        try withAgent { socket in
            let result = try Program.run([
                "policy", "trace", "-n", "shop", "--from", "web-1", "--to", "cart-1", "--port",
                "8080", "--protocol", "tcp", "--socket", socket,
            ])
            #expect(result.code == 1, "\(result.complaint)")
            #expect(
                result.output == """
                    FROM      TO        PORT      SIDE     POD          VERDICT  RULE                    POLICIES
                    10.1.0.1  10.1.0.2  8080/TCP  egress   shop/web-1   allowed  no policy (egress)             0
                    10.1.0.1  10.1.0.2  8080/TCP  ingress  shop/cart-1  denied   default deny (ingress)         1
                    10.1.0.1  10.1.0.2  8080/TCP  both     -            denied   -                              -

                    Nearest to ingress of shop/cart-1: NetworkPolicy shop/cart ingress[0]: shop/web-1 is not app=api.

                    """)
        }
    }

    @Test func `an agent that is not ready fails the check, with the reason`() throws {
        try withAgent { socket in
            let result = try Program.run(["check", "--datapath", "off", "--socket", socket])
            #expect(result.code == 1)
            #expect(result.output.contains("broken.yaml cannot be read"))
            #expect(result.output.contains("shop/web/alt: port in use"))
        }
    }

    @Test func `without an agent a check of the machine still works`() throws {
        let result = try Program.run(
            ["check", "--datapath", "off", "--socket", "/nonexistent/agent.sock", "-o", "json"])
        let listing = try JSONDecoder().decode(
            Listing<CheckItem>.self, from: Data(result.output.utf8))
        #expect(listing.kind == "CheckList")
        #expect(listing.items.first { $0.name == "agent" }?.status == "WARN")
    }

    @Test(arguments: [
        ["status"], ["endpoints"], ["services"], ["routes", "-o", "json"], ["bpf", "stats"],
    ])
    func `without an agent one line says which socket and what to do, and the code is 69`(
        arguments: [String]
    ) throws {
        let result = try Program.run(arguments + ["--socket", "/nonexistent/agent.sock"])
        #expect(result.code == 69)
        #expect(result.output == "")
        #expect(
            result.complaint == "malla: no agent at /nonexistent/agent.sock; start "
                + "`malla-agent run`, or name its socket by --socket\n")
    }

    @Test(arguments: [
        ("HTTP/1.1 500 Oops\r\n\r\nbroken", "refused: 500 broken"),
        ("HTTP/1.1 200 OK\r\n\r\n<html>", "no JSON"),
        ("HTTP/1.1 200 OK\r\n\r\n{\"kind\":\"StatusList\",\"items\":[]}", "`apiVersion`"),
        ("", "it closed the connection"),
    ])
    func `an answer that is not the agent's is told apart, and the code is 76`(
        answer: String, words: String
    ) throws {
        let agent = try FakeAgent([AdminAPI.status.path: answer])
        defer { agent.stop() }
        let result = try Program.run(["status", "--socket", agent.path])
        #expect(result.code == 76)
        #expect(result.complaint.contains(words))
    }
}

@Suite("Questions that mean nothing are wrong usage")
struct WrongQuestionTests {
    @Test(arguments: [
        ["observe", "--pod", "x/nope"], ["observe", "--from", "x/nope"],
        ["bpf", "ct", "--pod", "x/nope"], ["bpf", "policy", "--pod", "x/nope"],
    ])
    func `a pod that there is not is said, and the code is 64`(arguments: [String]) throws {
        let agent = try FakeAgent([
            AdminAPI.endpoints.path: FakeAgent.json(Output.json(Sample.endpoints)),
            AdminAPI.flows.path: FakeAgent.json(Output.json(AdminAPI.flows.listing([]))),
            AdminAPI.policyRows.path: FakeAgent.json(Output.json(AdminAPI.policyRows.listing([]))),
            AdminAPI.flowEvents.path + "?last=20&pod=x/nope":
                FakeAgent.json(Output.json(AdminAPI.flowEvents.listing([]))),
            AdminAPI.flowEvents.path + "?last=20&from=x/nope":
                FakeAgent.json(Output.json(AdminAPI.flowEvents.listing([]))),
        ])
        defer { agent.stop() }
        let result = try Program.run(arguments + ["--socket", agent.path])
        #expect(result.code == 64)
        #expect(result.complaint == "malla: there is no pod x/nope; see `malla endpoints`\n")
    }

    @Test func `top prints the accounts in the agent's order, numbers to the right`() throws {
        var listing = Sample.accounts
        listing.items.append(
            AccountItem(
                namespace: "unknown", workload: "unknown", cpuMilliseconds: 0.4, requests: 7,
                receivedBytes: 0, sentBytes: 70, connections: 0, bufferBytes: 0, shed: 0))
        for until in ["2026-11-23T04:10:31Z", ""] {
            listing.items.append(
                AccountItem(
                    namespace: "shop", workload: "cart", cpuMilliseconds: 0, requests: 0,
                    receivedBytes: 0, sentBytes: 0, connections: 0, bufferBytes: 0, shed: 1,
                    quarantined: true, quarantinedUntil: until))
        }
        let agent = try FakeAgent([AdminAPI.accounts.path: FakeAgent.json(Output.json(listing))])
        defer { agent.stop() }

        let all = try Program.run(["top", "--socket", agent.path])
        #expect(
            all.output == """
                NAMESPACE  WORKLOAD  CPU MS  REQUESTS  RECEIVED    SENT  CONNECTIONS  BUFFERS  SHED  QUARANTINED UNTIL
                shop       web           12       300      4096  900000            3    65536     2  -
                unknown    unknown        0         7         0      70            0        0     0  -
                shop       cart           0         0         0       0            0        0     1  2026-11-23T04:10:31Z
                shop       cart           0         0         0       0            0        0     1  unknown

                """)
        let json = try Program.run(["top", "-o", "json", "--socket", agent.path]).output
        #expect(json.contains("\"quarantinedUntil\" : \"2026-11-23T04:10:31Z\""), "\(json)")
        let one = try Program.run(["top", "-n", "unknown", "--socket", agent.path])
        #expect(one.output.split(separator: "\n").count == 2)
        let none = try Program.run(["top", "-n", "nobody", "--socket", agent.path])
        #expect(none.output == "Nobody used the engine yet.\n")
    }

    @Test func `what the agent does not understand is wrong usage, in the agent's words`() throws {
        let agent = try FakeAgent([
            AdminAPI.flowEvents.path + "?last=20&verdict=bogus":
                "HTTP/1.1 400 Bad Request\r\n\r\nverdict 'bogus' is not denied"
        ])
        defer { agent.stop() }
        let result = try Program.run(["observe", "--verdict", "bogus", "--socket", agent.path])
        #expect(result.code == 64)
        #expect(result.complaint == "malla: verdict 'bogus' is not denied\n")
    }

    @Test func `an identity that many pods share has no one pod's name`() throws {
        let rows = ["x/a", "x/b", "y/a"].enumerated().map { index, name in
            IPCacheItem(prefix: "10.1.0.\(index)/32", identity: 256, name: name, labels: ["pod"])
        }
        let lines = BPF.Identities.table(rows).lines(colour: false)
        #expect(lines.last == "     256         3  3 pods  10.1.0.0/32  pod")
    }
}

/// `malla config validate` needs no agent.
@Suite("malla config validate judges a directory")
struct ValidateTests {
    private func validate(_ files: [String: String], _ options: [String] = []) throws
        -> Program.Result
    {
        let directory = FileManager.default.temporaryDirectory.path + "/malla-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        for (name, text) in files {
            try Data(text.utf8).write(to: URL(fileURLWithPath: directory + "/" + name))
        }
        return try Program.run(["config", "validate", directory] + options)
    }

    static let service = """
        apiVersion: v1
        kind: Service
        metadata: {name: cart, namespace: shop}
        spec:
          clusterIP: 10.96.0.1
          ports: [{name: http, port: 80}]

        """

    @Test func `a good directory is counted and the code is 0`() throws {
        let result = try validate(["cart.yaml": Self.service])
        #expect(result.output == "1 file, 1 object: 0 errors, 0 warnings\n")
        #expect(result.code == 0)
    }

    @Test func `an error is told with file and line, and the code is 65`() throws {
        let bad = Self.service.replacingOccurrences(of: "port: 80", with: "port: 800000")
        let result = try validate(["bad.yaml": bad])
        #expect(result.code == 65)
        #expect(result.output.hasPrefix("bad.yaml:6: error: Service shop/cart: spec.ports[0].port"))
    }

    @Test func `a file that is no YAML is an error, and JSON names its category`() throws {
        let result = try validate(["bad.yaml": "a: [1\n"], ["-o", "json"])
        #expect(result.code == 65)
        let listing = try JSONDecoder().decode(
            Listing<DiagnosticItem>.self, from: Data(result.output.utf8))
        #expect(listing.kind == "DiagnosticList")
        #expect(listing.items.map(\.category) == ["unreadable"])
    }

    @Test func `an unknown field is a warning, and an error with --strict`() throws {
        let odd = Self.service + "  colour: red\n"
        let lenient = try validate(["cart.yaml": odd])
        #expect(lenient.code == 0)
        #expect(lenient.output.contains("cart.yaml:7: warning: Service shop/cart: spec.colour"))
        let strict = try validate(["cart.yaml": odd], ["--strict"])
        #expect(strict.code == 65)
        #expect(strict.output.contains("cart.yaml:7: error: Service shop/cart: spec.colour"))
    }

    @Test func `a Gateway whose class is misspelt is counted, and named with --all`() throws {
        let gateway = """
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: {name: web}
            spec:
              gatewayClassName: mala
              listeners: [{name: http, port: 80, protocol: HTTP}]

            """
        let result = try validate(["web.yaml": gateway])
        #expect(result.code == 0)
        #expect(
            result.output
                == "1 file, 1 object: 0 errors, 0 warnings, 1 ignored (--all names them)\n")
        let all = try validate(["web.yaml": gateway], ["--all"])
        #expect(all.output.hasPrefix("web.yaml:1: info: Gateway default/web: "), "\(all.output)")
        #expect(all.output.contains("class 'mala' is not Malla's"))
        #expect(all.output.hasSuffix("1 ignored\n"))
    }

    @Test func `a directory that is not there is named, and the code is 66`() throws {
        let result = try Program.run(["config", "validate", "/nonexistent/config"])
        #expect(result.code == 66)
        #expect(
            result.complaint.hasPrefix("malla: cannot read the directory /nonexistent/config: "))
    }
}
