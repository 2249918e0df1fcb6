internal import AdminAPI
internal import ArgumentParser

/// `malla services`.
struct Services: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists service ports, where their connections go and what stands behind them.",
        discussion: """
            PATH is `L7` where the engine serves the port's connections (a route names it or it is \
            declared as HTTP/1) and `L4` where they go straight to an endpoint. READY counts \
            ready endpoints, of all. TRAFFIC names what differs from the default: policies Local, \
            trafficDistribution, affinity with its time, source ranges, health check port. NOTE \
            says why a port is not served as declared. USE says of an endpoint whether this node \
            sends it new connections, or why not.

            EXAMPLES
              malla services -n shop
              malla services --endpoints
              malla services -o json | jq '.items[] | select(.l7).name'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var scope: NamespaceOptions
    @OptionGroup var output: OutputOptions

    @Flag(name: .long, help: "One line for each endpoint.")
    var endpoints = false

    func run() throws {
        var listing = try AgentClient(connection).require(AdminAPI.services)
        listing.items.removeAll { !scope.admits($0.namespace) }
        let table =
            endpoints ? Self.endpointTable(listing.items) : Self.table(listing.items)
        try Output(output).print(
            listing, table: table,
            empty: listing.items.isEmpty ? "No services found." : "No endpoints found.")
    }

    static func table(_ items: [ServiceItem]) -> Table {
        Table(
            [
                .init("NAMESPACE"), .init("NAME"), .init("TYPE"), .init("ADDRESSES"),
                .init("PORT", .right), .init("NODE PORT", .right), .init("PROTOCOL"),
                .init("PATH"), .init("READY", .right), .init("TRAFFIC"), .init("ROUTES"),
                .init("NOTE"),
            ],
            rows: items.map { item in
                let ready = item.endpoints.count { $0.ready }
                return [
                    Cell(item.namespace), Cell(item.name), Cell(item.type),
                    Cell(item.addresses.joined(separator: ",")), Cell(item.port),
                    item.nodePort == 0 ? "-" : Cell(item.nodePort), Cell(speaks(item)),
                    Cell(item.l7 ? "L7" : "L4"),
                    Cell("\(ready)/\(item.endpoints.count)", ready == 0 ? .doubtful : .plain),
                    Cell(traffic(item)), Cell(item.routes.joined(separator: ",")),
                    Cell(item.note, .doubtful),
                ]
            })
    }

    static func endpointTable(_ items: [ServiceItem]) -> Table {
        var table = Table([
            .init("NAMESPACE"), .init("SERVICE"), .init("PORT", .right), .init("ENDPOINT"),
            .init("NODE"), .init("ZONE"), .init("READY"), .init("SERVING"), .init("TERMINATING"),
            .init("USE"),
        ])
        for item in items {
            for endpoint in item.endpoints {
                table.rows.append([
                    Cell(item.namespace), Cell(item.name), Cell(item.port),
                    Cell(text(endpoint.address, endpoint.port)), Cell(endpoint.node),
                    Cell(endpoint.zone),
                    endpoint.ready ? Cell("yes", .good) : Cell("no", .doubtful),
                    .yesNo(endpoint.serving), .yesNo(endpoint.terminating),
                    Cell(endpoint.use, endpoint.use.hasPrefix("used") ? .good : .doubtful),
                ])
            }
        }
        return table
    }

    /// What differs from the default, in the order of the help text.
    static func traffic(_ item: ServiceItem) -> String {
        var words: [String] = []
        if item.internalTrafficPolicy == "Local" { words.append("internal Local") }
        if item.externalTrafficPolicy == "Local" { words.append("external Local") }
        if !item.trafficDistribution.isEmpty { words.append(item.trafficDistribution) }
        if item.affinitySeconds > 0 { words.append("ClientIP \(item.affinitySeconds) s") }
        if !item.sourceRanges.isEmpty {
            words.append("from " + item.sourceRanges.joined(separator: " "))
        }
        if item.healthCheckNodePort > 0 { words.append("health \(item.healthCheckNodePort)") }
        return words.joined(separator: ", ")
    }

    private static func speaks(_ item: ServiceItem) -> String {
        item.appProtocol == "undeclared"
            ? item.protocol : "\(item.protocol)/\(item.appProtocol)"
    }

    private static func text(_ address: String, _ port: Int) -> String {
        address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
    }
}
