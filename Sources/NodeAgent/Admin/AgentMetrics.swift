internal import AdminAPI
internal import BPFLoader
internal import Foundation
internal import L7Engine
internal import MeshConfig
internal import Supervisor

extension Agent {
    /// Everything `/metrics` says: the agent's own families, then the engine's.
    func metrics() -> String {
        var out = Exposition()
        out.family(
            "malla_build_info", .gauge, "The agent that runs; always 1.",
            [([("version", mallaVersion)], 1)])
        out.family(
            "malla_start_time_seconds", .gauge, "When this process began, Unix time.",
            UInt64(started.timeIntervalSince1970))
        out.family(
            "malla_agent_restarts_total", .counter, "Agent processes that died and were replaced.",
            UInt64(inheritance.restarts))
        out.family(
            "malla_agent_hangs_total", .counter,
            "Those of them that gave no sign of life and were killed.", UInt64(inheritance.hangs))
        out.family(
            "malla_accounts_quarantined", .gauge,
            "Workloads that are refused, because two crashes of the engine named them.",
            UInt64(engine.quarantined.count))
        out.family(
            "malla_agent_start_seconds", "How long this process took from its start to serving.",
            seconds: startDuration)
        out.family(
            "malla_agent_ready", .gauge, "1 when /readyz answers 200.", reasons.isEmpty ? 1 : 0)
        out.family(
            "malla_access_log_lost_total", .counter, "Access log lines that could not be written.",
            accessLog?.lost ?? 0)
        let ended = server?.ended ?? (limit: 0, idle: 0)
        out.family(
            "malla_admin_connections_ended_total", .counter,
            "Connections to the admin server that it ended.",
            [([("reason", "limit")], ended.limit), ([("reason", "idle")], ended.idle)])
        addConfig(&out)
        addIdentity(&out)
        if let loaded = datapath.datapath { addDatapath(&out, loaded) }
        out.append(engine.exposition())
        return out.text
    }

    private func addConfig(_ out: inout Exposition) {
        let result = config.result
        out.family(
            "malla_config_generation", .gauge, "Changes of configuration that took effect.",
            config.generation)
        out.family(
            "malla_change_seconds", "How long the last change that was read took, by stage.",
            by: "stage", times.stages.map { ($0.name, $0.duration) })
        out.family(
            "malla_config_reloads_total", .counter, "Times the directory was read.",
            [
                ([("result", "read")], config.reloads),
                ([("result", "failed")], config.reloadsFailed),
            ])
        out.family(
            "malla_config_objects", .gauge, "Objects in the directory, valid or not.",
            UInt64(result.objectCount))
        out.family(
            "malla_config_refused_objects", .gauge,
            "Objects whose present version is refused.", UInt64(config.refusals.count))
        out.family(
            "malla_config_unsupported_fields", .gauge,
            "Fields and kinds of the directory that this build does not honour.",
            UInt64(result.diagnostics.count { $0.category == .unsupported }))
        out.family(
            "malla_config_unreadable_files", .gauge, "Files that cannot be read.",
            UInt64(result.unreadableFiles.count))
        let kept = keeper.report
        out.family(
            "malla_state_objects", .gauge, "Objects kept in the state directory.",
            UInt64(kept.objects))
        out.family(
            "malla_state_bytes", .gauge, "Bytes kept in the state directory.", UInt64(kept.bytes))
        out.family(
            "malla_state_errors_total", .counter,
            "Files of the state directory that could not be used or written.",
            [
                ([("operation", "read")], kept.readErrors),
                ([("operation", "write")], kept.writeErrors),
            ])
        let items = listenerItems() + unservedItems()
        out.family(
            "malla_gateway_listeners", .gauge, "Listeners of this node's Gateways.",
            [
                ([("programmed", "true")], UInt64(items.count { $0.programmed })),
                ([("programmed", "false")], UInt64(items.count { !$0.programmed })),
            ])
    }

    private func addDatapath(_ out: inout Exposition, _ loaded: Datapath) {
        out.family(
            "malla_datapath_verdicts_total", .counter, "What the eBPF programs decided.",
            loaded.verdictCounts().map {
                ([("hook", $0.hook), ("reason", $0.verdict)], $0.count)
            })
        let maps = loaded.mapUsage()
        out.family(
            "malla_map_entries", .gauge, "Records in a map.",
            maps.map { ([("map", $0.name)], $0.entries) })
        out.family(
            "malla_map_entries_max", .gauge, "Records that a map can hold.",
            maps.map { ([("map", $0.name)], $0.entriesMax) })
        out.family(
            "malla_map_refused_total", .counter, "Records refused because the map was full.",
            maps.map { ([("map", $0.name)], $0.refused) })
        out.family(
            "malla_flow_evictions_total", .counter,
            "Flows that had to make room for others of their own pod.",
            flowEvictions().map { ([("pod", $0.pod)], $0.evicted) })
        out.family(
            "malla_flows_collected_total", .counter, "Flows that were over and taken out.",
            loaded.flowsCollected)
        addFlows(&out, loaded.eventCounts())
        out.family(
            "malla_datapath_programs", .gauge, "Programs attached.",
            UInt64(loaded.programs().count))
        out.family(
            "malla_datapath_problems", .gauge,
            "Pods, services and maps that are not in force.", UInt64(datapath.problems.count))
        out.family(
            "malla_verifications_total", .counter,
            "Times that the kernel was compared with what it should run.", repairs.looks)
        out.family(
            "malla_repairs_total", .counter, "What was found broken and put right.",
            Repairs.whats.map { ([("what", $0)], repairs.counts[$0] ?? 0) })
        out.family(
            "malla_sockets_reset_total", .counter,
            "Sockets whose endpoint was gone, by whether they could be reset.",
            [
                ([("result", "reset")], resets.resetCount),
                ([("result", "failed")], resets.failedCount),
            ])
        out.family(
            "malla_datapath_apply_failures_total", .counter,
            "Times the datapath refused a configuration.", datapath.appliesFailed)
    }

    private func addFlows(_ out: inout Exposition, _ counts: FlowEventCounts) {
        let read = flows.history.counts
        out.family(
            "malla_flow_events_total", .counter, "Flow events read from the kernel.",
            ["allowed", "audited", "denied"].map { ([("verdict", $0)], read[$0] ?? 0) })
        out.family(
            "malla_flow_events_lost_total", .counter,
            "Flow events that were lost: no room in the ring, or too many at once.",
            [([("reason", "ring_full")], counts.ringFull), ([("reason", "rate")], counts.rate)])
        out.family(
            "malla_flow_repeats_total", .counter,
            "Refused packets of flows of which an event had told lately.", counts.repeated)
    }
}
