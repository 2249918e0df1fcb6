// What each workload cost the engine, summed over the workers.

internal import MeshModel

/// One workload's account. Units: nanoseconds, counts, bytes.
public struct AccountTotals: Sendable, Equatable {
    /// As Istio's metrics name it; `unknown`: clients outside of the mesh.
    public var workload: String
    public var namespace: String
    public var cpuNanoseconds: UInt64 = 0
    public var requests: UInt64 = 0
    public var receivedBytes: UInt64 = 0
    public var sentBytes: UInt64 = 0
    public var connections: UInt64 = 0
    /// In the engine's memory and in pipes.
    public var bufferBytes: UInt64 = 0
    /// Of those, in pipes.
    public var pipeBytes: UInt64 = 0
    /// Requests and connections that a limit turned away.
    public var shed: UInt64 = 0
    /// The engine has died of serving it, and does not serve it.
    public var isQuarantined = false
    /// Until an engine that starts serves it again; below 0: the next one does; nil: not known.
    public var quarantineMilliseconds: Int64?
}

extension AccountTotals {
    fileprivate init(_ name: ObjectName) {
        self.init(workload: name.name, namespace: name.namespace)
    }

    /// Of an account that is quarantined, before anything is added to it.
    fileprivate init(_ quarantine: Quarantine, at now: Int64) {
        let parts = quarantine.name.split(separator: "/", maxSplits: 1)
        self.init(workload: String(parts.last ?? ""), namespace: String(parts.first ?? ""))
        isQuarantined = true
        if quarantine.untilMilliseconds > 0 {
            quarantineMilliseconds = Int64(clamping: quarantine.untilMilliseconds) - now
        }
    }
}

extension Exposition {
    /// Every account that was ever used, those outside of the mesh first, and every one that is
    /// quarantined; such a one of clients outside by itself.
    ///
    /// - Parameter now: milliseconds on CLOCK_MONOTONIC.
    static func accounts(
        _ tables: [Accounts], _ numbers: AccountNumbers, quarantine: [Quarantine] = [],
        at now: Int64 = 0
    ) -> [AccountTotals] {
        var outside = AccountTotals(workload: "unknown", namespace: "unknown")
        var refused = quarantine.map { AccountTotals($0, at: now) }
        for number in 0..<Int(AccountNumbers.outsideCount) {
            let name = quarantine.isEmpty ? "" : AccountNumbers.outsideName(number)
            if let place = quarantine.firstIndex(where: { $0.name == name }) {
                for table in tables { add(table, number, to: &refused[place]) }
            } else {
                for table in tables { add(table, number, to: &outside) }
            }
        }
        // Versions of one workload have accounts of their own and are one line here.
        var places: [ObjectName: Int] = [:]
        var sums = [outside]
        for (index, holder) in numbers.holders.enumerated() {
            let name = ObjectName(holder.source.namespace, holder.source.workload)
            let place = places[name] ?? sums.count
            if place == sums.count {
                places[name] = place
                let known = refused.firstIndex {
                    "\($0.namespace)/\($0.workload)" == BlackBox.kept("\(name)")
                }
                var totals = known.map { refused.remove(at: $0) } ?? AccountTotals(name)
                totals.workload = name.name
                sums.append(totals)
            }
            let number = Int(AccountNumbers.outsideCount) + index
            for table in tables { add(table, number, to: &sums[place]) }
            if let table = tables.first { add(holder.base, table, -1, to: &sums[place]) }
        }
        return (sums + refused).filter { $0.cpuNanoseconds > 0 || $0.shed > 0 || $0.isQuarantined }
    }

    private static func add(_ table: Accounts, _ index: Int, to sum: inout AccountTotals) {
        let words = table.words(index)
        sum.bufferBytes += words[0] + words[8]
        sum.pipeBytes += words[8]
        sum.connections += words[5] > words[6] ? words[5] - words[6] : 0
        add(words, table, 1, to: &sum)
    }

    /// What only grows; `sign` -1 takes off what was another's before.
    private static func add(
        _ words: [UInt64], _ table: Accounts, _ sign: Int, to sum: inout AccountTotals
    ) {
        let seconds = Double(words[1]) / Double(max(1, table.cyclesPerSecond))
        func add(_ word: UInt64, to total: inout UInt64) {
            total = sign < 0 ? total &- min(word, total) : total &+ word
        }
        add(UInt64(seconds * 1e9), to: &sum.cpuNanoseconds)
        add(words[2], to: &sum.requests)
        add(words[3], to: &sum.receivedBytes)
        add(words[4], to: &sum.sentBytes)
        add(words[7], to: &sum.shed)
    }

    static func text(ofAccounts accounts: [AccountTotals], shortage: Int) -> String {
        var out = "# HELP malla_accounts_missing Workloads of this node without an account.\n"
        out += "# TYPE malla_accounts_missing gauge\nmalla_accounts_missing \(shortage)\n"
        func metric(
            _ name: String, _ type: String, _ help: String, _ value: (AccountTotals) -> String
        ) {
            out += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
            for account in accounts {
                out += "\(name){workload=\"\(account.workload)\""
                out += ",namespace=\"\(account.namespace)\"} \(value(account))\n"
            }
        }
        metric("malla_account_cpu_seconds_total", "counter", "Time spent on its events.") {
            String(Double($0.cpuNanoseconds) / 1e9)
        }
        metric("malla_account_requests_total", "counter", "Requests of its clients.") {
            String($0.requests)
        }
        metric("malla_account_received_bytes_total", "counter", "Bodies from its clients.") {
            String($0.receivedBytes)
        }
        metric("malla_account_sent_bytes_total", "counter", "Bodies to its clients.") {
            String($0.sentBytes)
        }
        metric("malla_account_connections", "gauge", "Connections of its clients now.") {
            String($0.connections)
        }
        metric("malla_account_buffer_bytes", "gauge", "Buffers held for it now.") {
            String($0.bufferBytes)
        }
        metric("malla_account_pipe_bytes", "gauge", "Of those, in pipes of the kernel.") {
            String($0.pipeBytes)
        }
        metric("malla_account_shed_total", "counter", "What a limit turned away.") {
            String($0.shed)
        }
        return out
    }
}
