import Foundation
import TestSupport
import Testing

@Suite("Streams of bytes through the engine", .serialized)
struct StreamTests {
    @Test func `a gigabyte and two hundred streams arrive as they were sent, and are counted`()
        throws
    {
        let mesh = try StreamMesh()
        defer { mesh.close() }
        let (giga, five) = (1 << 30, 5 << 20)

        let one = try mesh.call(
            StreamMesh.clientFirst.v4, StreamMesh.clientFirst, count: 1, up: giga, down: five)
        #expect(mesh.problem(one, 1) == nil)
        let many = try mesh.call(
            StreamMesh.farMail.v6, StreamMesh.farMail, count: 200, up: five, down: five)
        #expect(mesh.problem(many, 200) == nil)

        let node = mesh.bed[node: "n1"]
        func metric(_ name: String, _ service: TestService) throws -> Int {
            let page = try node.curl("http://\(TestNode.admin)/metrics").body
            return page.split(separator: "\n").filter {
                $0.hasPrefix("istio_tcp_\(name)_total{")
                    && $0.contains("destination_service_name=\"\(service.name)\"")
            }.compactMap { $0.split(separator: " ").last.flatMap { Int($0) } }.reduce(0, +)
        }
        try eventually("all are closed") {
            try metric("connections_closed", StreamMesh.farMail) == 200
                && metric("connections_closed", StreamMesh.clientFirst) == 1
        }
        let order = StreamMesh.orderBytes
        #expect(try metric("received_bytes", StreamMesh.clientFirst) == giga + order)
        #expect(try metric("sent_bytes", StreamMesh.clientFirst) == five)
        #expect(try metric("received_bytes", StreamMesh.farMail) == 200 * (five + order))
        let greeting = StreamMesh.greetingBytes
        #expect(try metric("sent_bytes", StreamMesh.farMail) == 200 * (five + greeting))
    }

    @Test func `a server that speaks first is heard at once, on both nodes and both families`()
        throws
    {
        let mesh = try StreamMesh()
        defer { mesh.close() }
        for service in [StreamMesh.serverFirst, StreamMesh.farMail] {
            for address in [service.v4, service.v6] {
                let began = Date()
                let outcome = try mesh.call(address, service, count: 1, up: 1000, down: 1000)
                #expect(mesh.problem(outcome, 1) == nil)
                #expect(Date().timeIntervalSince(began) < 1, "\(outcome)")
            }
        }
        // HTTP on such a port goes by the route, and the server is no server of HTTP.
        let answer = try mesh.bed["client"].curl("http://\(StreamMesh.clientFirst.v4)/")
        #expect(answer.headers["server"] == "malla", "\(answer)")
    }
}
