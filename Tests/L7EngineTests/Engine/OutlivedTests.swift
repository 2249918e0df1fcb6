import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("The log of a request that outlives its configuration")
struct OutlivedTests {
    @Test(arguments: [true, false])
    func `names its route`(isOutlived: Bool) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let (client, upstream, link) = try stepped.dialled(
            for: "GET /slow HTTP/1.1\r\nHost: a\r\nX-Request-ID: r1\r\n\r\n", at: listener)
        defer { for end in [client, upstream] { close(end) } }
        #expect(stepped.take { Loopback.isReadable(upstream, milliseconds: 0) })
        if isOutlived {
            stepped.adopt(SteppedWorker.mesh([port], stepped.port, nil), version: 2)
            stepped.worker.letGoIfOld(link)
            #expect(link.it.hasLetGo)
        }
        _ = Loopback.receive(upstream)
        Loopback.send(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        #expect(stepped.message(client).hasPrefix("HTTP/1.1 200 "))

        let text = stepped.worker.accessLog.taken()
        #expect(text.contains("\"route\":\"shop/all/1\""), "\(text)")
        #expect(text.contains("\"path\":\"/slow\"") && text.contains("\"request_id\":\"r1\""))
    }
}
