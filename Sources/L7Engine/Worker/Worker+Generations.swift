// Configurations that are not in force any more. An exchange keeps the one that it began with,
// and with it all of the mesh as it was; so one that goes on for long (an upgrade, a stream of
// events, a long poll) lets go of it when a newer one is in force.

internal import MeshModel

extension Worker {
    /// Whether the rules that it goes by are in force; who has let go of a configuration has none.
    func isByCurrent(_ link: Link) -> Bool { Int(link.it.configSlot) == current }

    /// Lets go of the configuration that the exchange began with.
    func letGo(_ link: Link) {
        let slot = Int(link.it.configSlot)
        guard slot >= 0 else { return }
        dismissStandBy(of: link)
        leaveEndpoint(link)
        link.it.configSlot = -1
        configs[slot].exchanges -= 1
        if slot != current { release(slot) }
    }

    /// After a new configuration: many changes in a minute would else hold many meshes.
    func letGoOfOld() {
        guard configs.count(where: { $0.config != nil }) > limits.configsKeptMax else { return }
        // Every exchange has a deadline, so the wheel knows them all.
        for link in timers.all() where link.it.role == .downstream { letGoIfOld(link) }
    }

    /// Where only endpoints have changed, indices mean the same and the exchange goes over to the
    /// new one. Else it lets go as soon as all is known that depends on its rule.
    func letGoIfOld(_ link: Link) {
        let slot = Int(link.it.configSlot)
        guard slot >= 0, slot != current, link.it.exchange.isActive, !link.it.exchange.isDialing,
            let new = configs[current].config
        else { return }
        if link.it.isOpened {
            report(link)
            return
        }
        let old = config(link)
        if old.snapshot.shape === new.snapshot.shape {
            letGo(link)
            // It counts endpoints of the configuration that goes.
            link.it.waiter = .none
            link.it.triedCount = 0
            link.it.configSlot = Int32(current)
            configs[current].exchanges += 1
            return
        }
        guard link.it.answerStarted || link.it.phase == .tunnel || hasNoEdits(link) else { return }
        link.it.metricPort = metricPort(link)
        link.it.hasLetGo = true
        keepRoute(link)
        link.it.rule = -1
        // A rule would be needed to send it again.
        link.it.isResendable = false
        if !link.it.partner.isNone { link.it.partner.it.isUnsent = false }
        letGo(link)
    }

    /// Whether the answer's head will be passed on as it comes.
    private func hasNoEdits(_ link: Link) -> Bool {
        guard link.it.rule >= 0, link.it.backend >= 0 else { return false }
        let table = self.table(link)
        return table.rules[Int(link.it.rule)].responseEdits.isEmpty
            && table.backends[Int(link.it.backend)].responseEdits.isEmpty
    }
}
