internal import AdminAPI
internal import BPFLoader
internal import Foundation
internal import L7Engine
internal import MeshConfig
internal import MeshModel
internal import Supervisor

// The agent's state as the items of AdminAPI: nothing is decided here.

extension Agent {
    /// What of the datapath is not as it should be.
    private var lacks: [String] {
        let lines =
            [datapath.message] + repairs.open.map { "\($0.subject): \($0.message)" }
            + healthChecks.problems.map { "service \($0.service): \($0.message)" }
        return lines.filter { !$0.isEmpty }
    }

    func statusItem() -> StatusItem {
        let kept = keeper.report
        let totals = engine.totals()
        let loaded = datapath.datapath
        return StatusItem(
            node: options.nodeName, version: mallaVersion, pid: Int(getpid()),
            supervisorPID: Int(supervisor), restarts: Int(inheritance.restarts),
            uptimeSeconds: Int(Date().timeIntervalSince(started)),
            startMilliseconds: startMilliseconds, ready: reasons.isEmpty, reasons: reasons,
            datapath: .init(
                mode: datapath.word, abi: datapathABI,
                programs: loaded?.programs().count ?? 0, maps: loaded?.mapUsage().count ?? 0,
                message: lacks.joined(separator: "; "),
                bpffs: datapath.mode == .on ? datapath.options.bpffsPath : "",
                cgroup: datapath.options.cgroupPath),
            engine: .init(
                workers: options.workerCount, connections: totals.connections,
                connectionsActive: totals.connectionsActive, requests: totals.requests),
            identity: identity.summary,
            config: .init(
                directory: config.directory, generation: config.generation,
                objects: config.result.objectCount, refused: config.refusals.count,
                warnings: config.result.warningCount, ignored: config.result.ignored.count,
                refusals: config.refusals.map { found in
                    "\(found.object): \(found.file):\(found.line): "
                        + (found.field.isEmpty ? "" : found.field + ": ") + found.message
                },
                unreadableFiles: config.result.unreadableFiles,
                lastReload: config.lastReload.map { $0.ISO8601Format() } ?? "",
                lastGood: .init(
                    objects: kept.objects, bytes: kept.bytes, problems: kept.problems)),
            listeners: listenerItems() + unservedItems(), repairs: repairItems(),
            quarantined: engine.quarantined)
    }

    private func repairItems() -> [StatusItem.Repair] {
        Repairs.whats.compactMap { what in
            guard let count = repairs.counts[what], let last = repairs.last[what] else {
                return nil
            }
            return StatusItem.Repair(
                what: what, count: count, subject: last.subject, message: last.message,
                time: last.time.ISO8601Format())
        }
    }

    /// The version in the pins' path, found where they are; 0 when off.
    private var datapathABI: Int {
        guard datapath.datapath != nil else { return 0 }
        let path = options.bpffs + "/malla"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        return names.compactMap { $0.first == "v" ? Int($0.dropFirst()) : nil }.max() ?? 0
    }

    /// What cost most comes first.
    func accountItems() -> [AccountItem] {
        let now = Date()
        return engine.accounts().sorted { $0.cpuNanoseconds > $1.cpuNanoseconds }.map { account in
            AccountItem(
                namespace: account.namespace, workload: account.workload,
                cpuMilliseconds: Double(account.cpuNanoseconds / 1000) / 1000,
                requests: account.requests, receivedBytes: account.receivedBytes,
                sentBytes: account.sentBytes, connections: account.connections,
                bufferBytes: account.bufferBytes, shed: account.shed,
                quarantined: account.isQuarantined,
                quarantinedUntil: account.quarantineMilliseconds.map {
                    now.addingTimeInterval((Double($0) / 1000).rounded()).ISO8601Format()
                } ?? "")
        }
    }

    func listenerItems() -> [StatusItem.Listener] {
        guard let snapshot else { return [] }
        return snapshot.gatewaySockets.flatMap { socket in
            let errno = listeners.errno(address: socket.address, port: socket.port)
            return socket.listeners.map { index in
                let listener = snapshot.mesh.listeners[index]
                return StatusItem.Listener(
                    gateway: listener.gateway.description, listener: listener.name,
                    address: socket.address?.description ?? "*", port: Int(socket.port),
                    programmed: errno == 0,
                    message: errno == 0
                        ? ""
                        : "port \(socket.port) cannot be opened: \(systemText(errno)); "
                            + "it is tried again every 2 s")
            }
        }
    }

    /// Listeners that no socket was asked for, and Gateways that are refused whole.
    func unservedItems() -> [StatusItem.Listener] {
        config.result.gatewayStatuses.flatMap { gateway in
            let unserved = gateway.listeners.filter { listener in
                listener.conditions.contains { $0.type == "Programmed" && $0.status == .isFalse }
            }
            let items = unserved.map { listener in
                StatusItem.Listener(
                    gateway: gateway.name.description, listener: listener.name,
                    address: gateway.addresses.first?.description ?? "*",
                    port: Int(listener.port), programmed: false,
                    message: listener.conditions.first { $0.type == "Programmed" }?.message ?? "")
            }
            guard gateway.listeners.isEmpty, let accepted = gateway.conditions.first,
                accepted.status == .isFalse
            else { return items }
            return [
                StatusItem.Listener(
                    gateway: gateway.name.description, listener: "", address: "", port: 0,
                    programmed: false, message: accepted.message)
            ]
        }
    }

    func endpointItems() -> [EndpointItem] {
        guard let snapshot else { return [] }
        let problems = datapath.problems
        return snapshot.mesh.workloads.map { pod in
            let isLocal = snapshot.isLocal(pod)
            let interface = pod.interface ?? ""
            let index = isLocal && !interface.isEmpty ? unsafe if_nametoindex(interface) : 0
            let subject = "pod \(pod.name)"
            let hasRows = pod.addresses.allSatisfy {
                datapath.datapath?.isInForce(podAt: $0) ?? true
            }
            let problem =
                problems.first { $0.subject == subject }?.message
                ?? repairs.open.first { $0.subject == subject }?.message
                ?? (hasRows ? nil : "not in the map malla_pod: its packets are dropped")
            let state =
                !isLocal
                ? "remote"
                : interface.isEmpty || datapath.mode == .off
                    ? "unmanaged"
                    : problem ?? (index == 0 ? "no interface \(interface)" : "attached")
            return EndpointItem(
                namespace: pod.name.namespace, name: pod.name.name, node: pod.node,
                local: isLocal, addresses: pod.addresses.map(\.description),
                interface: interface, interfaceIndex: Int(index), meshed: pod.isMeshed,
                serviceAccount: pod.serviceAccount, state: state,
                repairs: repairs.pods[pod.name.description] ?? 0)
        }
    }

    func serviceItems() -> [ServiceItem] {
        guard let snapshot else { return [] }
        let mesh = snapshot.mesh
        return snapshot.ports.filter { !$0.isInbound }.map { port in
            let service = mesh.services[port.serviceIndex]
            let declared = service.ports[port.portIndex]
            let routes = mesh.routes.filter { route in
                route.attachments.contains(.service(port.serviceIndex, port: port.portIndex))
            }
            let traffic = service.traffic
            let choice = EndpointChoice(
                declared.endpoints, distribution: traffic.distribution, node: snapshot.node,
                zone: snapshot.zone)
            return ServiceItem(
                namespace: service.name.namespace, name: service.name.name, type: service.type,
                addresses: port.addresses.map(\.description), port: Int(port.number),
                portName: declared.name, protocol: port.transport.rawValue,
                appProtocol: port.application.rawValue, l7: port.isCaptured,
                routes: routes.map(\.name.description),
                note: note(service.name, declared.application, port),
                endpoints: declared.endpoints.enumerated().map { index, endpoint in
                    ServiceItem.Endpoint(
                        address: endpoint.address.address.description,
                        port: Int(endpoint.address.port), node: endpoint.node,
                        ready: endpoint.isReady, serving: endpoint.isServing,
                        terminating: endpoint.isTerminating, zone: endpoint.zone,
                        use: choice.use(index).rawValue)
                },
                nodePort: Int(declared.nodePort ?? 0),
                internalTrafficPolicy: traffic.internalPolicy.rawValue,
                externalTrafficPolicy: traffic.externalPolicy.rawValue,
                trafficDistribution: traffic.distribution?.rawValue ?? "",
                affinitySeconds: Int(traffic.affinitySeconds ?? 0),
                sourceRanges: traffic.sourceRanges.map(\.description),
                healthCheckNodePort: Int(traffic.healthCheckNodePort ?? 0))
        }
    }

    /// What is not as the object says.
    private func note(
        _ service: ObjectName, _ application: ApplicationProtocol, _ port: SnapshotPort
    ) -> String {
        var notes: [String] = []
        if let refusal = config.refusal(of: "Service \(service)") {
            notes.append("change refused: \(refusal)")
        }
        if datapath.datapath?.isShort(service, port: port.number, port.transport) ?? false {
            notes.append("not in force as a whole: malla status says why")
        }
        if port.transport == .sctp {
            notes.append("SCTP is not served: its packets are dropped (verdict sctp)")
        }
        if application.isHTTP, !application.isSpoken {
            notes.append(
                port.isCaptured
                    ? "\(application.rawValue) is answered with 505, HTTP/1 is served"
                    : "\(application.rawValue) is not served by the engine yet: balanced in the "
                        + "kernel")
        }
        return notes.joined(separator: "; ")
    }

    func bpfStatsItems() -> [BPFStatsItem] {
        guard let loaded = datapath.datapath else { return [] }
        return [
            BPFStatsItem(
                verdicts: loaded.verdictCounts().map {
                    .init(hook: $0.hook, verdict: $0.verdict, packets: $0.count)
                },
                maps: loaded.mapUsage().map {
                    .init(
                        name: $0.name, type: $0.type, entries: $0.entries,
                        entriesMax: $0.entriesMax, refused: $0.refused)
                },
                programs: loaded.programs().map {
                    .init(
                        name: $0.name, id: $0.id, attachedTo: $0.attachedTo, pinned: $0.isPinned,
                        adopted: $0.isAdopted, runCount: $0.runCount,
                        runNanoseconds: $0.runNanoseconds)
                })
        ]
    }

    func diagnosticItems() -> [DiagnosticItem] {
        let ofFiles = config.result.diagnostics.map { found in
            DiagnosticItem(
                severity: found.severity.rawValue, category: found.category.rawValue,
                file: found.file, line: found.line, object: found.object, field: found.field,
                condition: found.condition.map { "\($0.type): \($0.reason)" } ?? "",
                message: found.message)
        }
        let ofListeners = listenerItems().filter { !$0.programmed }.map { item in
            DiagnosticItem(
                severity: "error", category: "invalid", file: "",
                object: "Gateway \(item.gateway)",
                field: "spec.listeners[name=\(item.listener)]",
                condition: "Programmed: PortUnavailable", message: item.message)
        }
        let ofDatapath = datapath.problems.map { problem in
            DiagnosticItem(
                severity: "error", category: "invalid", file: "", object: problem.subject,
                message: problem.message)
        }
        let ofChecks = healthChecks.problems.map { service, message in
            DiagnosticItem(
                severity: "error", category: "invalid", file: "", object: "Service \(service)",
                field: "spec.healthCheckNodePort", message: message)
        }
        return ofFiles + ofListeners + ofDatapath + ofChecks
    }
}
