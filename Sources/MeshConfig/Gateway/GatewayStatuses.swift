// GatewayState -> GatewayStatus: conditions in the order Gateway API lists them.

internal import MeshModel

extension GatewayResolution {
    /// - Parameter nodes: where a Gateway without addresses is reached.
    func statuses(nodes: [Node]) -> [GatewayStatus] {
        gateways.values.sorted { $0.object.name < $1.object.name }.map { state in
            GatewayStatus(
                name: state.object.name, className: state.className,
                addresses: state.addresses.isEmpty ? nodes.flatMap(\.addresses) : state.addresses,
                conditions: Self.conditions(state),
                listeners: state.listeners.map { Self.status($0, state) })
        }
    }

    private static func conditions(_ state: GatewayState) -> [Condition] {
        let served = state.listeners.count { $0.index != nil }
        var accepted = state.accepted
        if accepted.status == .isTrue, served < state.listeners.count {
            accepted = Condition(
                "Accepted", served > 0 ? .isTrue : .isFalse, "ListenersNotValid",
                "\(served) of \(state.listeners.count) listeners are served")
        }
        let programmed =
            served > 0
            ? Condition("Programmed", .isTrue, "Programmed")
            : Condition("Programmed", .isFalse, "Invalid", "no listener is served")
        return [accepted, programmed]
    }

    private static func status(_ listener: ListenerState, _ state: GatewayState) -> ListenerStatus {
        let programmed =
            listener.index != nil
            ? Condition("Programmed", .isTrue, "Programmed")
            : Condition(
                "Programmed", .isFalse, "Invalid",
                listener.problem.isEmpty ? state.accepted.message : listener.problem)
        return ListenerStatus(
            name: listener.name, port: listener.port, hostname: listener.hostname,
            attachedRoutes: listener.attachedRoutes, supportedKinds: listener.supportedKinds,
            conditions: [
                listener.accepted, listener.resolvedRefs, programmed, listener.conflicted,
            ])
    }
}
