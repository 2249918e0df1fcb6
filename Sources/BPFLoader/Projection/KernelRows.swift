// The rows as the kernel holds them, and the one order in which they are changed: pods, endpoints,
// services; then removals the other way round. A service's row never counts an endpoint that is not
// there.

internal import CMallaABI

/// - Owns: the three maps that follow the configuration, and a copy of what they hold.
struct KernelRows: ~Copyable {
    private(set) var services: BPFMap<malla_end, malla_service>
    private(set) var endpoints: BPFMap<malla_endpoint_key, malla_end>
    private(set) var pods: BPFMap<malla_address, malla_pod>
    /// What the kernel holds now; without `problems`.
    private(set) var current = MapRows()

    /// Opens the maps and reads what an agent before this one left in them.
    init(_ object: borrowing BPFObject) throws(BPFError) {
        let services = try BPFMap<malla_end, malla_service>(
            adopting: object.map("malla_service"), name: "malla_service")
        let endpoints = try BPFMap<malla_endpoint_key, malla_end>(
            adopting: object.map("malla_endpoint"), name: "malla_endpoint")
        let pods = try BPFMap<malla_address, malla_pod>(
            adopting: object.map("malla_pod"), name: "malla_pod")
        var rows = MapRows()
        services.forEach(key: malla_end(), value: malla_service()) { rows.services[$0] = $1 }
        endpoints.forEach(key: malla_endpoint_key(), value: malla_end()) { rows.endpoints[$0] = $1 }
        pods.forEach(key: malla_address(), value: malla_pod()) { rows.pods[$0] = $1 }
        self.services = services
        self.endpoints = endpoints
        self.pods = pods
        current = rows
    }

    /// Makes the kernel hold `rows`. Rows for which a map has no room are left out and named; what
    /// was there before goes on working.
    mutating func apply(_ rows: MapRows) throws(BPFError) -> [ApplyProblem] {
        var refused = Refused()
        let podChange = MapChange(from: current.pods, to: rows.pods)
        let endpointChange = MapChange(from: current.endpoints, to: rows.endpoints)
        try write(podChange.writes, &refused)
        try write(endpointChange.writes, &refused)
        // A full map may have room once what is gone is taken out.
        let isShort = !refused.isEmpty
        let serviceChange = MapChange(
            from: current.services, to: isShort ? shortened(rows) : rows.services)
        try write(serviceChange.writes, &refused)

        for key in serviceChange.removals {
            try services.remove(key)
            current.services[key] = nil
        }
        for key in endpointChange.removals {
            try endpoints.remove(key)
            current.endpoints[key] = nil
        }
        for key in podChange.removals {
            try pods.remove(key)
            current.pods[key] = nil
        }
        return refused.isEmpty ? [] : try secondPass(rows)
    }

    private mutating func secondPass(_ rows: MapRows) throws(BPFError) -> [ApplyProblem] {
        var refused = Refused()
        try write(MapChange(from: current.pods, to: rows.pods).writes, &refused)
        try write(MapChange(from: current.endpoints, to: rows.endpoints).writes, &refused)
        try write(MapChange(from: current.services, to: shortened(rows)).writes, &refused)
        pods.refused += refused.rows(of: pods.name)
        endpoints.refused += refused.rows(of: endpoints.name)
        services.refused += refused.rows(of: services.name)
        return refused.problems
    }

    /// The services' rows, each counting only the endpoints before its first missing one.
    private func shortened(_ rows: MapRows) -> [malla_end: malla_service] {
        rows.services.mapValues { service in
            var service = service
            for slot in 0..<service.endpoints {
                let key = malla_endpoint_key(service: service.id, slot: slot)
                if current.endpoints[key] == nil {
                    service.endpoints = slot
                    break
                }
            }
            return service
        }
    }

    private mutating func write(
        _ writes: [(key: malla_address, value: malla_pod)], _ refused: inout Refused
    ) throws(BPFError) {
        for row in writes {
            do throws(BPFError) {
                try pods.set(row.key, to: row.value)
                current.pods[row.key] = row.value
            } catch { try refused.take(error, map: pods.name, entriesMax: pods.entriesMax) }
        }
    }

    private mutating func write(
        _ writes: [(key: malla_endpoint_key, value: malla_end)], _ refused: inout Refused
    ) throws(BPFError) {
        for row in writes {
            do throws(BPFError) {
                try endpoints.set(row.key, to: row.value)
                current.endpoints[row.key] = row.value
            } catch {
                try refused.take(error, map: endpoints.name, entriesMax: endpoints.entriesMax)
            }
        }
    }

    private mutating func write(
        _ writes: [(key: malla_end, value: malla_service)], _ refused: inout Refused
    ) throws(BPFError) {
        for row in writes {
            do throws(BPFError) {
                try services.set(row.key, to: row.value)
                current.services[row.key] = row.value
            } catch { try refused.take(error, map: services.name, entriesMax: services.entriesMax) }
        }
    }
}

/// Rows that a full map did not take, by map.
private struct Refused {
    private var counts: [String: (rows: Int, entriesMax: UInt32)] = [:]

    var isEmpty: Bool { counts.isEmpty }

    mutating func take(_ error: BPFError, map: String, entriesMax: UInt32) throws(BPFError) {
        guard error.isMapFull else { throw error }
        counts[map, default: (0, entriesMax)].rows += 1
    }

    func rows(of map: String) -> UInt64 { UInt64(counts[map]?.rows ?? 0) }

    var problems: [ApplyProblem] {
        counts.sorted { $0.key < $1.key }.map { map, count in
            ApplyProblem(
                subject: "map \(map)",
                message: "full at \(count.entriesMax) entries; \(count.rows) new "
                    + "entries are not in force, what was there before goes on working")
        }
    }
}
