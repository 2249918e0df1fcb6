import Foundation
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("Records are small first, so that they are opened early, and large later", .serialized)
struct RecordSizeTests {
    /// `RECORD_FIRST` and `RECORD_BURST` (COpenSSL/session.c), and the most that a record holds.
    private static let (first, burst, most) = (1380, 13_800, 16_384)

    /// Asks for each target, and prints a line for it: what each record of its answer holds.
    private static func script(
        _ authority: TestAuthority, _ port: UInt16, _ version: String, _ targets: [String]
    ) -> String {
        """
        import socket, ssl
        context = ssl.create_default_context(cafile="\(authority.file)")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.\(version)
        plain = socket.create_connection(("127.0.0.1", \(port)), 10)
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(into, out, server_hostname="a.example")
        wire = b""
        def record():
            global wire
            while len(wire) < 5 or len(wire) < 5 + int.from_bytes(wire[3:5], "big"):
                more = plain.recv(65536)
                if not more: raise EOFError
                wire += more
            end = 5 + int.from_bytes(wire[3:5], "big")
            one, wire = wire[:end], wire[end:]
            return one
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(out.read())
                into.write(record())
        plain.sendall(out.read())
        for target in \(targets):
            session.write(f"GET {target} HTTP/1.1\\r\\nHost: a.example\\r\\n\\r\\n".encode())
            plain.sendall(out.read())
            sizes, got, end = [], b"", None
            while end is None or len(got) < end:
                into.write(record())
                try: piece = session.read(65536)
                except ssl.SSLWantReadError: continue  # a ticket
                sizes.append(len(piece))
                got += piece
                head, line, _ = got.partition(b"\\r\\n\\r\\n")
                if line and end is None:
                    length = head.lower().split(b"content-length: ")[1].split(b"\\r")[0]
                    end = len(head) + 4 + int(length)
            print(*sizes)
        """
    }

    @Test(arguments: ["TLSv1_2", "TLSv1_3"])
    func `an answer begins with records of a segment, and goes on with full ones`(
        _ version: String
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin { connection, _ in
            while true {
                let request = Loopback.message(connection)
                if request.isEmpty { return }
                let count = request.hasPrefix("GET /large ") ? 1 << 20 : 200
                let head = "HTTP/1.1 200 OK\r\nContent-Length: \(count)\r\n\r\n"
                Loopback.send(connection, Array(head.utf8) + [UInt8](repeating: 97, count: count))
            }
        }
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }

        let said = Program.run([
            "python3", "-c",
            Self.script(authority, gateway.port, version, ["/large", "/small", "/large"]),
        ]).output

        let answers = said.split(separator: "\n").map { $0.split(separator: " ").map { Int($0) } }
        try #require(answers.count == 3, "\(said)")
        #expect(answers[1].count == 1, "head and body in one")
        for sizes in [answers[0], answers[2]].map({ $0.compactMap(\.self) }) {
            var (sum, later) = (0, [Int]())
            for size in sizes {
                if sum < Self.burst { #expect(size <= Self.first) } else { later.append(size) }
                sum += size
            }
            #expect(sum > 1 << 20)
            #expect(later.max() == Self.most)
            // A receive's last one may be short; most are full.
            #expect(later.count <= 2 * (1 << 20) / Self.most, "\(later)")
        }
    }
}
