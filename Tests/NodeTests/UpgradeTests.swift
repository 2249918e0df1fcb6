import TestSupport
import Testing

@Suite("Upgrade (RFC 9110, 7.8)", .serialized)
struct UpgradeTests {
    /// Switches protocols, greets at once, then sends each message back twice; says good-bye when
    /// the client has no more to say.
    private static let server = """
        import socket, threading
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", 8080))
        listener.listen(16)

        def serve(s):
            head = b""
            while b"\\r\\n\\r\\n" not in head: head += s.recv(4096)
            head, early = head.split(b"\\r\\n\\r\\n", 1)
            fields = head.lower().split(b"\\r\\n")
            if b"upgrade: echo" not in fields:
                s.sendall(b"HTTP/1.1 426 Upgrade Required\\r\\ncontent-length: 0\\r\\n\\r\\n")
                return s.close()
            s.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nconnection: upgrade\\r\\n"
                      b"upgrade: echo\\r\\n\\r\\nhello\\n")
            if early: s.sendall(early * 2)
            while True:
                part = s.recv(65536)
                if not part: break
                s.sendall(part * 2)
            s.sendall(b"bye\\n")
            s.close()

        while True: threading.Thread(target=serve, args=(listener.accept()[0],)).start()
        """
    /// Prints the status line and, in order, what it then received.
    private static let client = """
        import socket, sys
        s = socket.create_connection((sys.argv[1], 80), 10)
        s.sendall(b"GET /chat HTTP/1.1\\r\\nhost: x\\r\\nconnection: upgrade\\r\\nupgrade: echo\\r\\n"
                  b"\\r\\n")
        file = s.makefile("rb")
        print(file.readline().decode().strip())
        while file.readline().strip(): pass
        print(file.readline().decode().strip())
        for text in [b"\\0\\xff one\\n", b"two\\n"]:
            s.sendall(text)
            assert file.readline() == text and file.readline() == text
        block = bytes(range(256)) * 4096
        s.sendall(block[:1024])
        assert file.read(2048) == block[:1024] * 2
        s.shutdown(socket.SHUT_WR)
        print(file.read().decode().strip())
        """

    @Test func `bytes pass both ways after 101, and an end of one way is only that`() throws {
        let bed = try Testbed("n1: client, near; n2: far")
        defer { bed.close() }
        try bed.describe(SmallMesh.services)
        for pod in ["near", "far"] {
            try bed[pod].start("chat", ["/usr/bin/python3", "-c", Self.server])
            try eventually("\(pod) listens") {
                try bed[pod].run(["ss", "-Hltn", "sport = :8080"]).output.contains("8080")
            }
        }
        let agents = try ["n1", "n2"].map { try bed[node: $0].startAgent() }

        for service in [SmallMesh.engineNear, SmallMesh.engineFar] {
            for address in [service.v4, service.v6] {
                let outcome = try bed["client"].run(
                    ["/usr/bin/python3", "-c", Self.client, address])
                #expect(
                    outcome.output == "HTTP/1.1 101 Switching Protocols\nhello\nbye\n",
                    "\(address): \(outcome)\n\(agents.map(\.text))")
            }
        }
        let refused = try bed["client"].curl(SmallMesh.engineFar.urls[0])
        #expect(refused.status == 426, "\(refused)")
        let count = "response_code=\"101\""
        let page = try bed[node: "n1"].curl("http://\(TestNode.admin)/metrics").body
        #expect(page.split(separator: "\n").contains { $0.contains(count) }, "\(page)")
    }
}
