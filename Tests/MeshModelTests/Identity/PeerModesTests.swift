import MeshModel
import Testing

@Suite("PeerAuthentication: mesh < namespace < workload < port")
struct PeerModesTests {
    /// Who says what: `nil` for no object at all, `.unset` for one that inherits.
    enum Said: CaseIterable { case nothing, unset, permissive, strict, disable }

    private static func mode(_ said: Said) -> MutualTLSMode? {
        switch said {
        case .nothing, .unset: nil
        case .permissive: .permissive
        case .strict: .strict
        case .disable: .disable
        }
    }

    @Test func `the narrowest scope that says anything decides, in all 625 combinations`() {
        var count = 0
        for mesh in Said.allCases {
            for namespace in Said.allCases {
                for workload in Said.allCases {
                    for port in Said.allCases {
                        check(mesh, namespace, workload, port)
                        count += 1
                    }
                }
            }
        }
        #expect(count == 625)
    }

    @Test func `people are told which object decided`() {
        let modes = PeerModes([
            .init(name: .init("istio-system", "m"), mode: .strict),
            .init(name: .init("shop", "n"), mode: .permissive),
            .init(
                name: .init("shop", "w"), selector: LabelSelector(["app": "web"]),
                ports: [80: .strict, 81: nil]),
        ])
        func origin(_ space: String, _ labels: [String: String], _ port: UInt16) -> String {
            modes.origin(
                of: Workload(
                    name: .init(space, "a"), serviceAccount: "a", node: "n", labels: labels,
                    addresses: [], interface: nil, isMeshed: true, workloadName: "a"),
                port: port)
        }
        #expect(origin("other", [:], 80) == "PeerAuthentication istio-system/m")
        #expect(origin("shop", [:], 80) == "PeerAuthentication shop/n")
        #expect(origin("shop", ["app": "web"], 80) == "PeerAuthentication shop/w port 80")
        #expect(origin("shop", ["app": "web"], 81) == "PeerAuthentication shop/n")
    }

    private func check(_ mesh: Said, _ namespace: Said, _ workload: Said, _ port: Said) {
        var policies: [PeerAuthentication] = []
        if mesh != .nothing {
            policies.append(.init(name: .init("istio-system", "m"), mode: Self.mode(mesh)))
        }
        if namespace != .nothing {
            policies.append(.init(name: .init("shop", "n"), mode: Self.mode(namespace)))
        }
        // A port stands in an object with a selector, which says nothing else then.
        if workload != .nothing || port != .nothing {
            policies.append(
                .init(
                    name: .init("shop", "w"), selector: LabelSelector(["app": "web"]),
                    mode: Self.mode(workload),
                    ports: port == .nothing ? [:] : [8080: Self.mode(port)]))
        }
        let modes = PeerModes(policies)
        let general =
            Self.mode(workload) ?? Self.mode(namespace) ?? Self.mode(mesh) ?? .permissive
        #expect(modes.mode(of: Self.web, port: 80) == general)
        #expect(modes.mode(of: Self.web, port: 8080) == Self.mode(port) ?? general)
        let others = Self.mode(namespace) ?? Self.mode(mesh) ?? .permissive
        #expect(modes.mode(of: Self.pod("shop", ["app": "db"]), port: 8080) == others)
        #expect(
            modes.mode(of: Self.pod("bank", ["app": "web"]), port: 8080)
                == Self.mode(mesh) ?? .permissive)
    }

    @Test func `of two of a scope the older counts, then the name that comes first`() {
        func mode(_ policies: [PeerAuthentication]) -> MutualTLSMode {
            PeerModes(policies).mode(of: Self.web, port: 80)
        }
        let old = PeerAuthentication(name: .init("shop", "z"), created: 1, mode: .strict)
        let young = PeerAuthentication(name: .init("shop", "a"), created: 2, mode: .disable)
        let silent = PeerAuthentication(name: .init("shop", "0"), mode: .permissive)
        let unset = PeerAuthentication(name: .init("shop", "0"), created: 0)
        #expect(mode([young, old]) == .strict)
        #expect(mode([old, young]) == .strict)
        #expect(mode([silent, young]) == .disable)
        #expect(
            mode([.init(name: .init("shop", "b"), mode: .strict), silent]) == .permissive)
        // Istio's rule: the oldest object of a scope, even where it inherits.
        #expect(mode([old, unset]) == .permissive)
    }

    @Test func `the oldest selector that fits is the workload's only one`() {
        let modes = PeerModes([
            .init(
                name: .init("shop", "a"), created: 1, selector: LabelSelector(["app": "web"]),
                mode: .strict),
            .init(
                name: .init("shop", "b"), created: 2,
                selector: LabelSelector(["app": "web", "tier": "front"]), mode: .disable,
                ports: [8080: .disable]),
        ])
        #expect(modes.modes(of: Self.web) == WorkloadModes(.strict))
    }

    @Test func `a selector in the root namespace selects nothing`() {
        let policy = PeerAuthentication(
            name: .init("istio-system", "web"), selector: LabelSelector(["app": "web"]),
            mode: .strict)
        #expect(PeerModes([policy]).mode(of: Self.web, port: 80) == .permissive)
        #expect(
            PeerModes([policy]).mode(of: Self.pod("istio-system", ["app": "web"]), port: 80)
                == .permissive)
    }

    @Test func `the root namespace can have another name`() {
        let policy = PeerAuthentication(name: .init("mesh", "default"), mode: .strict)
        #expect(PeerModes([policy]).mode(of: Self.web, port: 80) == .permissive)
        #expect(PeerModes([policy], rootNamespace: "mesh").mode(of: Self.web, port: 80) == .strict)
    }

    static let peers: [(String, String, Bool, Bool, Bool)] = [
        ("a meshed pod of a node", "one", true, false, true),
        ("not in the mesh", "one", false, false, false),
        ("a node without an agent", "absent", true, false, false),
        ("a node without an object", "none", true, false, false),
        ("ztunnel serves it, whatever its node", "absent", false, true, true),
    ]

    @Test(arguments: peers) func `who speaks HBONE`(
        _ rule: String, _ node: String, _ isMeshed: Bool, _ isRedirected: Bool, _ speaks: Bool
    ) {
        let peers = TunnelPeers([
            Node(name: "one", addresses: []),
            Node(name: "absent", addresses: [], labels: ["malla.io/agent": "absent"]),
        ])
        var pod = Self.web
        (pod.node, pod.isMeshed, pod.isRedirected) = (node, isMeshed, isRedirected)
        #expect(peers.speaksHBONE(pod) == speaks)
    }

    static let web = pod("shop", ["app": "web", "tier": "front"])

    static func pod(_ namespace: String, _ labels: [String: String]) -> Workload {
        Workload(
            name: ObjectName(namespace, "pod"), serviceAccount: "default", node: "one",
            labels: labels, addresses: [], interface: nil, isMeshed: true, workloadName: "web")
    }
}
