// Whether the node's agent is there, ready, and has its pods.

internal import AdminAPI

enum AgentChecks {
    static func all(_ client: AgentClient) -> [CheckItem] {
        let status: StatusItem
        do {
            guard let item = try client.list(AdminAPI.status).items.first else {
                return [.fail("agent", "it says nothing of itself", remedy: "see its log")]
            }
            status = item
        } catch {
            return [unreachable(client, error)]
        }
        var items = [
            reachable(status), readiness(status), datapath(status), configuration(status),
            listeners(status),
        ]
        if let pods = try? client.list(AdminAPI.endpoints).items {
            items.append(enrolment(pods, datapath: status.datapath.mode))
        }
        if let stats = try? client.list(AdminAPI.bpfStats).items.first {
            items.append(maps(stats.maps))
        }
        do {
            let certificates = try client.list(AdminAPI.certificates).items
            items += CertificateChecks.all(certificates, identity: status.identity)
        } catch {
            items.append(
                .warn(
                    "certificates", "not looked at: \(client.describe(error))",
                    remedy: "see the agent's log; take malla of the agent's version"))
        }
        return items
    }

    /// No agent is a warning: the machine may be fit for one. An agent that does not answer is not.
    private static func unreachable(
        _ client: AgentClient, _ error: AgentClient.Failure
    ) -> CheckItem {
        if case .unreachable = error {
            return .warn(
                "agent", client.describe(error),
                remedy: "malla-agent run --config DIR, or --socket PATH")
        }
        return .fail("agent", client.describe(error), remedy: "see the agent's log")
    }

    private static func reachable(_ status: StatusItem) -> CheckItem {
        .ok("agent", "malla-agent \(status.version) on node \(status.node), pid \(status.pid)")
    }

    static func readiness(_ status: StatusItem) -> CheckItem {
        if status.datapath.mode == "failed" {
            return .fail(
                "agent ready", "the datapath failed: \(status.datapath.message)",
                remedy: "see the failed checks above and the agent's log")
        }
        return status.ready
            ? .ok("agent ready", "yes")
            : .fail(
                "agent ready", status.reasons.joined(separator: "; "),
                remedy: "`malla status` and the agent's log say more")
    }

    /// A full map, an interface that is gone: the rest is in force, and readiness does not tell.
    static func datapath(_ status: StatusItem) -> CheckItem {
        let name = "datapath in force"
        guard status.datapath.mode == "on" else { return .ok(name, status.datapath.mode) }
        return status.datapath.message.isEmpty
            ? .ok(name, "as a whole")
            : .warn(
                name, status.datapath.message,
                remedy: "`malla bpf stats` shows how full the maps are; --map-entries sizes them "
                    + "after `malla-agent cleanup`")
    }

    /// Nine tenths full: what the programs write themselves, nobody refuses before it is too late.
    static func maps(_ maps: [BPFStatsItem.Map]) -> CheckItem {
        // The ring gives no place back and needs none; in an LRU the oldest makes room.
        let full = maps.filter {
            ["hash", "lpm_trie"].contains($0.type) && $0.name != "malla_ring"
                && $0.entries * 10 >= $0.entriesMax * 9
        }
        guard !full.isEmpty else { return .ok("maps", "all have room") }
        let texts = full.map { "\($0.name) holds \($0.entries) of \($0.entriesMax)" }
        return .warn(
            "maps", texts.joined(separator: "; "),
            remedy: "`malla bpf ct list` shows whose flows; --map-entries sizes maps after "
                + "`malla-agent cleanup`")
    }

    static func configuration(_ status: StatusItem) -> CheckItem {
        let config = status.config
        let text = "\(config.directory): \(config.objects) objects, \(config.refused) refused"
        return config.refused == 0 && config.unreadableFiles.isEmpty
            ? .ok("configuration", text)
            : .warn(
                "configuration", text, remedy: "malla config validate \(config.directory)")
    }

    static func listeners(_ status: StatusItem) -> CheckItem {
        guard let first = status.listeners.first(where: { !$0.programmed }) else {
            return .ok("listeners", "\(status.listeners.count) programmed")
        }
        return .warn(
            "listeners", "\(first.gateway)/\(first.listener): \(first.message)",
            remedy: "free its port or address, or change the Gateway; `malla status` lists all")
    }

    static func enrolment(_ pods: [EndpointItem], datapath: String) -> CheckItem {
        let local = pods.filter(\.local)
        let meshed = local.filter(\.meshed)
        let text = "\(meshed.count) of \(local.count) local pods are meshed"
        guard datapath == "on" else { return .ok("pods", "\(text); the datapath is \(datapath)") }
        if let broken = meshed.first(where: { $0.state != "attached" }) {
            return .warn(
                "pods", "\(broken.namespace)/\(broken.name) is \(broken.state)",
                remedy: "`malla endpoints --local` shows all; a pod's interface is given by the "
                    + "annotation malla.io/interface, and `malla bpf stats` shows full maps")
        }
        return .ok("pods", text)
    }
}
