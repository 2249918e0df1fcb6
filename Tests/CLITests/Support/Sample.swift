// One listing of each kind with every field filled in, so that no test sees a field by chance.

import AdminAPI

enum Sample {
    static let status = AdminAPI.status.listing([
        StatusItem(
            node: "node1", version: "0.1.0", pid: 4242, supervisorPID: 4200, restarts: 1,
            uptimeSeconds: 3725, startMilliseconds: 61, ready: false,
            reasons: ["broken.yaml cannot be read"],
            datapath: .init(mode: "on", abi: 1, programs: 9, maps: 12, message: "one map is full"),
            engine: .init(workers: 2, connections: 120, connectionsActive: 7, requests: 90_000),
            identity: "none",
            config: .init(
                directory: "/etc/malla", generation: 3, objects: 31, refused: 1, warnings: 2,
                ignored: 3,
                refusals: ["HTTPRoute shop/web: a.yaml:7: spec.rules[0]: no such method"],
                unreadableFiles: ["broken.yaml"], lastReload: "2026-11-21T14:00:00Z",
                lastGood: .init(objects: 30, bytes: 9_000, problems: ["a.good is damaged"])),
            listeners: [
                .init(
                    gateway: "shop/web", listener: "http", address: "*", port: 8080,
                    programmed: true),
                .init(
                    gateway: "shop/web", listener: "alt", address: "10.0.0.1", port: 8081,
                    programmed: false, message: "port in use"),
            ],
            repairs: [
                .init(
                    what: "link", count: 2, subject: "pod shop/cart-1", message: "was detached",
                    time: "2026-11-21T14:01:00Z")
            ], quarantined: ["shop/cart"])
    ])

    static let certificates = AdminAPI.certificates.listing([
        CertificateItem(
            type: "workload", identity: "spiffe://cluster.local/ns/shop/sa/cart",
            serial: "0a1b2c3d4e5f60718293a4b5", issuer: "O=Malla,CN=Malla root 01020304",
            notBefore: "2026-11-21T14:00:00Z", notAfter: "2026-11-22T14:00:00Z",
            remainingSeconds: 40_000, renewAt: "2026-11-22T02:00:00Z", state: "due",
            message: "ca.crt has expired: replace it", pods: ["shop/cart-1"],
            pem: "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"),
        CertificateItem(
            type: "authority", identity: "spiffe://cluster.local", serial: "01",
            issuer: "O=Malla,CN=Malla root 01020304", notBefore: "2026-11-21T14:00:00Z",
            notAfter: "2036-11-21T14:00:00Z", remainingSeconds: 315_360_000, state: "valid",
            revocationLists: 1,
            pem: "-----BEGIN CERTIFICATE-----\nMQA=\n-----END CERTIFICATE-----\n"),
        CertificateItem(
            type: "gateway", identity: "shop/edge-tls", serial: "05", issuer: "CN=Example CA",
            notBefore: "2026-10-01T00:00:00Z", notAfter: "2026-12-30T00:00:00Z",
            remainingSeconds: 3_300_000, state: "valid",
            names: ["shop.example", "*.shop.example"],
            listeners: ["shop/edge web"],
            pem: "-----BEGIN CERTIFICATE-----\nMgA=\n-----END CERTIFICATE-----\n"),
    ])

    static let endpoints = AdminAPI.endpoints.listing([
        EndpointItem(
            namespace: "shop", name: "cart-1", node: "node1", local: true,
            addresses: ["10.1.0.2", "fd00:1::2"], interface: "veth-cart", interfaceIndex: 7,
            meshed: true, serviceAccount: "cart", state: "attached"),
        EndpointItem(
            namespace: "bank", name: "ledger-1", node: "node2", local: false,
            addresses: ["10.2.0.2"], meshed: false, state: "remote"),
    ])

    static let services = AdminAPI.services.listing([
        ServiceItem(
            namespace: "shop", name: "catalog", type: "ClusterIP", addresses: ["10.96.0.10"],
            port: 80, portName: "http", protocol: "TCP", appProtocol: "http", l7: true,
            routes: ["shop/catalog-canary"],
            endpoints: [
                .init(
                    address: "10.1.0.3", port: 8080, node: "node1", ready: true, serving: true,
                    terminating: false, zone: "a"),
                .init(
                    address: "fd00:1::3", port: 8080, node: "node2", ready: false, serving: true,
                    terminating: true, use: "draining"),
            ],
            nodePort: 30080, externalTrafficPolicy: "Local",
            sourceRanges: ["10.0.0.0/8"]),
        ServiceItem(
            namespace: "bank", name: "payments", type: "ClusterIP", addresses: [], port: 9000,
            protocol: "TCP", appProtocol: "undeclared", l7: false, note: "not as declared"),
    ])

    static let serviceRows = AdminAPI.serviceRows.listing([
        ServiceRowItem(
            address: "10.96.0.10", family: "IPv4", port: 80, protocol: "TCP",
            owner: "Service shop/catalog",
            inside: .init(id: 3, positions: 251, endpoints: ["10.1.0.3:8080", "10.1.0.4:8080"]),
            outside: .init(id: 0), flags: ["captured"]),
        ServiceRowItem(
            address: "*", family: "IPv6", port: 30080, protocol: "TCP",
            owner: "Service shop/catalog", inside: .init(id: 4),
            outside: .init(id: 5, endpoints: ["[fd00:1::3]:8080"]), affinitySeconds: 60),
    ])

    static let flowEvents = AdminAPI.flowEvents.listing([
        FlowEventItem(
            time: "2026-11-21T19:40:01.123456Z", node: "node1", verdict: "denied",
            reason: "denied_ingress", hook: "from_pod", direction: "ingress", protocol: "TCP",
            source: "10.1.0.10", sourcePort: 40312, sourcePod: "shop/web-1", sourceIdentity: 257,
            sourceLabels: ["pod", "pod:app=web"], target: "10.1.0.11", targetPort: 8080,
            targetPod: "shop/cart-1", targetIdentity: 258, targetLabels: ["pod", "pod:app=cart"],
            rule: "default deny (ingress)", policies: ["NetworkPolicy shop/cart"],
            nearest: "NetworkPolicy shop/cart ingress[0]", why: "shop/web-1 is not app=api",
            packets: 3),
        FlowEventItem(
            time: "2026-11-21T19:40:02.000001Z", node: "node1", verdict: "allowed",
            reason: "captured", hook: "from_pod", direction: "egress", protocol: "TCP",
            source: "fd00:1::2", sourcePort: 40313, sourcePod: "shop/web-1",
            target: "fd00:96::1", targetPort: 80, targetService: "shop/api"),
        FlowEventItem(
            time: "2026-11-21T19:40:03.5Z", node: "node1", verdict: "lost", reason: "ring_full",
            packets: 12),
    ])

    static let routes = AdminAPI.routes.listing([
        RouteItem(
            kind: "HTTPRoute", namespace: "shop", name: "catalog-canary",
            hostnames: ["catalog.shop"],
            parents: [
                .init(
                    parent: "Service shop/catalog:80", accepted: true, reason: "Accepted",
                    resolvedRefs: false, resolvedRefsReason: "BackendNotFound",
                    message: "no Service shop/gone")
            ],
            rules: [
                .init(
                    name: "canary", matches: ["path /*", "header x-version=v2"],
                    filters: ["set header x-seen=1"],
                    backends: [
                        .init(name: "shop/catalog-v1", port: 80, weight: 90),
                        .init(name: "shop/gone", port: 80, weight: 10, problem: "no such Service"),
                    ])
            ], refusal: "spec.rules[0].backendRefs[0].weight: -5 is not in 0...1000000")
    ])

    static let flows = AdminAPI.flows.listing([
        FlowItem(
            protocol: "TCP", source: "10.1.0.10:40312", target: "10.1.0.11:80",
            sourcePod: "shop/web-1", targetPod: "shop/cart-1", kind: "own", state: "open",
            packetsSent: 90, packetsReceived: 45, bytesSent: 73_291, bytesReceived: 8_120,
            idleSeconds: 2, remainingSeconds: 8_587, rule: 3),
        FlowItem(
            protocol: "UDP", source: "[fd00:1::2]:40000", target: "[fd96::1]:53",
            kind: "translated", state: "opening", other: "[fd00:1::3]:5353", cut: true,
            audited: true),
    ])

    static let ipcache = AdminAPI.ipcache.listing([
        IPCacheItem(
            prefix: "0.0.0.0/0", identity: 9, name: "reserved:world-ipv4", labels: ["world"]),
        IPCacheItem(
            prefix: "10.1.0.10/32", identity: 257, name: "shop/web-1",
            labels: ["pod", "pod:app=web"]),
    ])

    static let policyRows = AdminAPI.policyRows.listing([
        PolicyRowItem(
            set: 1, pods: ["shop/cart-1"], direction: "ingress", identity: 257, protocol: "TCP",
            ports: "8080", verdict: "allow", rule: 3),
        PolicyRowItem(
            set: 1, pods: ["shop/cart-1"], direction: "ingress", identity: 0, protocol: "any",
            ports: "any",
            verdict: "deny", audited: true, byDefault: true),
    ])

    static let flowFlush = AdminAPI.flowFlush("all").listing([FlowFlushItem(flows: 12)])

    static let policies = AdminAPI.policies.listing([
        PolicyItem(
            kind: "ClusterNetworkPolicy", namespace: "", name: "wall", tier: "Admin", priority: 7,
            mode: "audit", directions: ["egress"], ingressRules: 0, egressRules: 2,
            namespaces: "team=red", podSelector: "<all>", pods: []),
        PolicyItem(
            kind: "NetworkPolicy", namespace: "shop", name: "cart", tier: "NetworkPolicy",
            priority: 0, mode: "enforce", directions: ["ingress"], ingressRules: 1, egressRules: 0,
            namespaces: "shop", podSelector: "app=cart", pods: ["shop/cart-1", "shop/cart-2"]),
    ])

    static let policyTrace = AdminAPI.policyTrace.listing([
        PolicyTraceItem(
            from: "shop/web-1", to: "shop/cart-1", source: "10.1.0.1", target: "10.1.0.2",
            protocol: "TCP", port: 8080, verdict: "denied", note: "",
            sides: [
                .init(
                    direction: "egress", pod: "shop/web-1", node: "node1", verdict: "allowed",
                    rule: "no policy (egress)", policies: [], peerIdentity: 257,
                    peerLabels: ["pod", "pod:app=cart"]),
                .init(
                    direction: "ingress", pod: "shop/cart-1", node: "node1", verdict: "denied",
                    rule: "default deny (ingress)", policies: ["NetworkPolicy shop/cart"],
                    peerIdentity: 256, peerLabels: ["pod", "pod:app=web"],
                    nearest: "NetworkPolicy shop/cart ingress[0]", why: "shop/web-1 is not app=api"),
            ])
    ])

    static let accounts = AdminAPI.accounts.listing([
        AccountItem(
            namespace: "shop", workload: "web", cpuMilliseconds: 12.5, requests: 300,
            receivedBytes: 4096, sentBytes: 900_000, connections: 3, bufferBytes: 65536, shed: 2)
    ])

    static let mutualTLS = AdminAPI.mutualTLS.listing([
        MutualTLSItem(
            source: "shop/web", target: "shop/cart", security: "mutual_tls", protocol: "HBONE",
            sourcePrincipal: "spiffe://cluster.local/ns/shop/sa/web",
            targetPrincipal: "spiffe://cluster.local/ns/shop/sa/cart",
            peer: "spiffe://cluster.local/ns/shop/sa/cart", tlsVersion: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384", mode: "STRICT", flows: 2,
            bytesSent: 1200, bytesReceived: 3400)
    ])

    static let bpfStats = AdminAPI.bpfStats.listing([
        BPFStatsItem(
            verdicts: [.init(hook: "connect4", verdict: "captured", packets: 1234)],
            maps: [
                .init(
                    name: "malla_service", type: "hash", entries: 12, entriesMax: 65536, refused: 3)
            ],
            programs: [
                .init(
                    name: "malla_connect4", id: 17, attachedTo: "cgroup /sys/fs/cgroup",
                    pinned: true, adopted: true, runCount: 10, runNanoseconds: 2500)
            ])
    ])

    static let diagnostics = AdminAPI.diagnostics.listing([
        DiagnosticItem(
            severity: "error", category: "invalid", file: "shop.yaml", line: 12,
            object: "HTTPRoute shop/catalog", field: "spec.rules[0].name",
            condition: "Accepted: UnsupportedValue", message: "is too long")
    ])

    static let checks = Listing(
        kind: "CheckList",
        items: [
            CheckItem(name: "bpffs", status: "FAIL", message: "not mounted", remedy: "mount it")
        ])

    static let versions = Listing(
        kind: "VersionList", items: [VersionItem(component: "malla", version: "0.1.0")])
}
