import Foundation
import TestSupport

/// nginx with a certificate: answers with the version of TLS and the server name that it saw.
final class SecureOrigin {
    let port: UInt16
    private let process = Process()

    init(
        _ authority: TestAuthority, _ pair: TestAuthority.Pair, keepsAlive: Bool = true,
        versions: String = "TLSv1.2 TLSv1.3"
    ) throws {
        let (descriptor, port) = Loopback.listen()
        Loopback.end(descriptor)
        self.port = port
        let files = try authority.write(pair, "origin-\(port)")
        let stem = authority.directory.appendingPathComponent("nginx-\(port)").path
        try Data(
            """
            daemon off; worker_processes 1; pid \(stem).pid; error_log \(stem).err;
            events { worker_connections 64; }
            http {
              access_log off; client_body_temp_path \(stem).body; proxy_temp_path \(stem).proxy;
              fastcgi_temp_path \(stem).f; uwsgi_temp_path \(stem).u; scgi_temp_path \(stem).s;
              server {
                listen 127.0.0.1:\(port) ssl;
                ssl_certificate \(files.chain); ssl_certificate_key \(files.key);
                ssl_protocols \(versions); keepalive_timeout \(keepsAlive ? 75 : 0);
                return 200 "tls $ssl_protocol sni $ssl_server_name\\n";
              }
            }
            """.utf8
        ).write(to: URL(fileURLWithPath: stem + ".conf"))
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "nginx", "-p", authority.directory.path, "-c", stem + ".conf", "-e", stem + ".err",
        ]
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        try waitUntilItListens()
    }

    private func waitUntilItListens() throws {
        try eventually("nginx listens on port \(port)") {
            let client = Loopback.connect(port)
            defer { Loopback.end(client) }
            return Loopback.isConnected(client)
        }
    }

    func stop() {
        process.terminate()
        process.waitUntilExit()
    }
}
