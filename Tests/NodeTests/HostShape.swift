import TestSupport

/// What else a host may have set up that its pods' traffic has to live with: shell commands that a
/// node runs, and those that undo them.
struct HostShape: Sendable {
    var name: String
    var apply: String
    var undo: String

    static let pods4 = "10.77.0.0/16"
    static let pods6 = "fd00:77::/32"

    /// Each rule for IPv4 and, with the addresses of the other family, for IPv6.
    private static func both(_ rules: [String]) -> String {
        (rules.map { "iptables -w \($0)" }
            + rules.map { "ip6tables -w \($0.replacing(pods4, with: pods6))" })
            .joined(separator: "\n")
    }

    private static let clearTables = """
        for program in iptables ip6tables; do
          $program -w -P FORWARD ACCEPT
          for table in nat filter mangle; do
            $program -w -t $table -F
            $program -w -t $table -X
          done
        done
        nft flush ruleset
        """

    private static func reversePath(_ value: Int) -> String {
        "for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo \(value) > $file; done"
    }

    /// Flannel's and Docker's way: nothing is forwarded, but what the pod network admits.
    private static let podsForwarded = both([
        "-P FORWARD DROP", "-A FORWARD -s \(pods4) -j ACCEPT", "-A FORWARD -d \(pods4) -j ACCEPT",
    ])

    private static let noStrangers = """
        nft add table inet strict
        nft add chain inet strict forward '{ type filter hook forward priority 0; }'
        nft add rule inet strict forward ct state invalid counter drop
        """

    private static let masquerade = both([
        "-t nat -A POSTROUTING -s \(pods4) ! -o lxc+ -j MASQUERADE"
    ])

    /// As firewalld writes it for `IPv6_rpfilter=strict`, here for both families.
    private static let reverseRoute = """
        nft add table inet firewalld
        nft add chain inet firewalld pre '{ type filter hook prerouting priority -140; }'
        nft add rule inet firewalld pre icmpv6 type nd-router-advert accept
        nft add rule inet firewalld pre icmpv6 type nd-neighbor-solicit accept
        nft add rule inet firewalld pre fib saddr . iif oif missing counter drop
        nft add chain inet firewalld forward '{ type filter hook forward priority 10; }'
        nft add rule inet firewalld forward ct state '{ established, related }' accept
        nft add rule inet firewalld forward ct status dnat accept
        nft add rule inet firewalld forward ct state invalid drop
        """

    /// Every service's address on an interface of the node, as IPVS needs it.
    static func boundAddresses(_ services: [TestService]) -> HostShape {
        let adds = services.flatMap {
            [
                "ip addr add \($0.v4)/32 dev kube-ipvs0",
                "ip addr add \($0.v6)/128 dev kube-ipvs0 nodad",
            ]
        }
        return HostShape(
            name: "IPVS' addresses: every service's is the node's own",
            // kube-proxy makes a dummy, which not every kernel has; it is never up.
            apply: (["ip link add kube-ipvs0 type bridge"] + adds).joined(separator: "\n"),
            undo: "ip link del kube-ipvs0")
    }

    /// What IPVS would take, taken: counted and dropped at every hook, before everybody else and
    /// after.
    static let taken: String = {
        let ends = ["ip daddr 10.96.0.0/24", "ip6 daddr fd00:96::/64"]
        let hooks = [
            ("prerouting", -400), ("input", -400), ("input", 98), ("forward", -400),
            ("output", -400), ("output", -99), ("postrouting", -400), ("postrouting", 400),
            ("prerouting", 400), ("forward", 400),
        ]
        var lines = ["nft add table inet taken"]
        for (number, (hook, priority)) in hooks.enumerated() {
            let chain = "\(hook)\(number)"
            lines.append(
                "nft add chain inet taken \(chain) '{ type filter hook \(hook) priority \(priority); }'"
            )
            lines += ends.map { "nft add rule inet taken \(chain) \($0) counter drop" }
        }
        return lines.joined(separator: "\n")
    }()

    /// kube-proxy's IPVS rules, on top of the addresses.
    static func ipvs(_ services: [TestService], _ bed: Testbed) -> HostShape {
        var shape = boundAddresses(services)
        shape.name = "kube-proxy's IPVS rules"
        for service in services {
            let pod = bed[service.pods[0]]
            for (address, end) in [(service.v4, pod.v4), ("[\(service.v6)]", "[\(pod.v6)]")] {
                shape.apply += "\nipvsadm -A -t \(address):\(service.port) -s rr"
                shape.apply +=
                    "\nipvsadm -a -t \(address):\(service.port) -r \(end):\(service.targetPort) -m"
            }
        }
        shape.undo = "ipvsadm -C\n" + shape.undo
        return shape
    }

    /// kube-proxy's rules for the services, in its own words.
    static func kubeProxy(_ services: [TestService], _ bed: Testbed) -> HostShape {
        let text = [true, false].map { isIPv4 in
            """
            \(isIPv4 ? "iptables" : "ip6tables")-restore -w --noflush <<'RULES'
            \(rules(services, bed, isIPv4: isIPv4))
            RULES
            """
        }
        return HostShape(
            name: "kube-proxy's iptables rules", apply: text.joined(separator: "\n"),
            undo: clearTables)
    }

    private static func rules(
        _ services: [TestService], _ bed: Testbed, isIPv4: Bool
    ) -> String {
        let bits = isIPv4 ? 32 : 128
        let own = isIPv4 ? pods4 : pods6
        var chains: [String] = []
        var rules: [String] = []
        for service in services {
            let pod = bed[service.pods[0]]
            let (address, end) = isIPv4 ? (service.v4, pod.v4) : (service.v6, "[\(pod.v6)]")
            let source = isIPv4 ? pod.v4 : pod.v6
            let (chain, last) = ("KUBE-SVC-\(service.index)", "KUBE-SEP-\(service.index)")
            let match = "-d \(address)/\(bits) -p tcp -m tcp --dport \(service.port)"
            chains += [":\(chain) - [0:0]", ":\(last) - [0:0]"]
            rules += [
                "-A KUBE-SERVICES \(match) -j \(chain)",
                "-A \(chain) ! -s \(own) \(match) -j KUBE-MARK-MASQ", "-A \(chain) -j \(last)",
                "-A \(last) -s \(source)/\(bits) -j KUBE-MARK-MASQ",
                "-A \(last) -p tcp -m tcp -j DNAT --to-destination \(end):\(service.targetPort)",
            ]
        }
        return """
            *nat
            :KUBE-SERVICES - [0:0]
            :KUBE-POSTROUTING - [0:0]
            :KUBE-MARK-MASQ - [0:0]
            \(chains.joined(separator: "\n"))
            -A PREROUTING -j KUBE-SERVICES
            -A OUTPUT -j KUBE-SERVICES
            -A POSTROUTING -j KUBE-POSTROUTING
            -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
            -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
            -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
            -A KUBE-POSTROUTING -j MASQUERADE --random-fully
            \(rules.joined(separator: "\n"))
            COMMIT
            *filter
            :KUBE-FORWARD - [0:0]
            -A FORWARD -j KUBE-FORWARD
            -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
            -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
            -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            COMMIT
            """
    }

    /// The shapes that need no other topology, one after another, and at last all at once.
    static func all(_ services: [TestService], _ bed: Testbed) -> [HostShape] {
        var shapes = [kubeProxy(services, bed), boundAddresses(services)]
        shapes += [1, 2, 0].map {
            HostShape(name: "rp_filter \($0)", apply: reversePath($0), undo: reversePath(0))
        }
        shapes += [
            HostShape(
                name: "FORWARD drops all", apply: both(["-P FORWARD DROP"]), undo: clearTables),
            HostShape(
                name: "FORWARD drops all but pods'", apply: podsForwarded, undo: clearTables),
            HostShape(name: "FORWARD drops ct INVALID", apply: noStrangers, undo: clearTables),
            HostShape(name: "MASQUERADE", apply: masquerade, undo: clearTables),
            HostShape(
                name: "firewalld's reverse path check", apply: reverseRoute, undo: clearTables),
        ]
        let together = [
            kubeProxy(services, bed).apply, boundAddresses(services).apply, reversePath(1),
            podsForwarded, noStrangers, masquerade, reverseRoute,
        ]
        shapes.append(
            HostShape(
                name: "all of it at once", apply: together.joined(separator: "\n"),
                undo: [clearTables, boundAddresses(services).undo, reversePath(0)]
                    .joined(separator: "\n")))
        return shapes
    }
}
