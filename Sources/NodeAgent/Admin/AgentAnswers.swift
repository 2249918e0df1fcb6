internal import AdminAPI
internal import Foundation

extension Agent {
    var startMilliseconds: Int { Int(startDuration / .milliseconds(1)) }

    /// What the admin server says at `path`; `/livez` it says by itself, and
    /// `/readyz` once it knows.
    func answer(_ path: String, _ query: String) -> AdminAnswer {
        switch path {
        case "/metrics": .text(200, metrics(), "text/plain; version=0.0.4; charset=utf-8")
        case "/readyz": Readiness.answer(reasons)
        case AdminAPI.status.path: json(AdminAPI.status.listing([statusItem()]))
        case AdminAPI.endpoints.path: json(AdminAPI.endpoints.listing(endpointItems()))
        case AdminAPI.services.path: json(AdminAPI.services.listing(serviceItems()))
        case AdminAPI.routes.path: json(AdminAPI.routes.listing(routeItems()))
        case AdminAPI.serviceRows.path: json(AdminAPI.serviceRows.listing(serviceRowItems()))
        case AdminAPI.accounts.path: json(AdminAPI.accounts.listing(accountItems()))
        case AdminAPI.certificates.path: json(AdminAPI.certificates.listing(certificateItems()))
        case AdminAPI.mutualTLS.path: json(AdminAPI.mutualTLS.listing(mutualTLSItems()))
        case AdminAPI.bpfStats.path: json(AdminAPI.bpfStats.listing(bpfStatsItems()))
        case AdminAPI.flows.path: json(AdminAPI.flows.listing(flowItems()))
        case AdminAPI.ipcache.path: json(AdminAPI.ipcache.listing(ipcacheItems()))
        case AdminAPI.policyRows.path: json(AdminAPI.policyRows.listing(policyRowItems()))
        case let path where path.hasPrefix(AdminAPI.flowFlushPrefix): flush(path)
        case AdminAPI.diagnostics.path: json(AdminAPI.diagnostics.listing(diagnosticItems()))
        case AdminAPI.policies.path: json(AdminAPI.policies.listing(policyItems()))
        case AdminAPI.policyTrace.path: trace(query)
        default: .text(404, "no such page; try /metrics, /livez, /readyz, /v1/status\n")
        }
    }

    /// Why this node is not ready; none when it is.
    var reasons: [String] {
        var reasons = snapshot == nil ? [Readiness.starting] : []
        reasons += config.reasons
        if datapath.word == "failed" { reasons.append(datapath.failure) }
        return reasons + identity.reasons
    }

    /// The server has seen to it that this came by POST over the Unix socket.
    private func flush(_ path: String) -> AdminAnswer {
        let what = path.dropFirst(AdminAPI.flowFlushPrefix.count)
        guard let item = flushFlows(what) else {
            return .text(400, "neither `all` nor an address, or the datapath is off\n")
        }
        return json(AdminAPI.flowFlush(String(what)).listing([item]))
    }

    private func trace(_ query: String) -> AdminAnswer {
        switch policyTrace(query) {
        case .success(let items): json(AdminAPI.policyTrace.listing(items))
        case .failure(let fault): .text(400, fault.text + "\n")
        }
    }

    private func json<Item>(_ listing: Listing<Item>) -> AdminAnswer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let bytes = try? encoder.encode(listing) else {
            return .text(500, "the listing cannot be written\n")
        }
        return .json(Array(bytes) + [UInt8(ascii: "\n")])
    }
}
