// nginx in a pod: says which one it is, who asked, and counts.

internal import Foundation

/// A running nginx of a pod.
public final class WebServer {
    public let process: TestProcess
    let pod: TestPod
    /// How often `requests` was called: nginx counts those questions too.
    private var asked = 0

    init(process: TestProcess, pod: TestPod) {
        self.process = process
        self.pod = pod
    }

    /// Requests that it has answered, by its own count (stub_status).
    public func requests() throws -> Int {
        let answer = try pod.curl("http://127.0.0.1:\(Self.countPort)/")
        asked += 1
        let lines = answer.body.split(separator: "\n")
        let numbers = lines.count > 2 ? lines[2].split(separator: " ").compactMap { Int($0) } : []
        guard numbers.count == 3 else {
            throw CommandFailure(description: "\(pod.name): stub_status said \(answer)")
        }
        return numbers[2] - asked
    }

    static let countPort = 8099
}

extension TestPod {
    /// Starts nginx on `port`, both families. Every answer bears `x-pod`, `x-client` (the address
    /// that the server saw), `x-uri` and the header fields `more` names; its body is `text`.
    public func serve(
        _ text: String? = nil, port: Int = 8080, locations: String = ""
    ) throws -> WebServer {
        let file = "\(bed.directory)/nginx-\(name)"
        let body = text ?? name
        try Data(
            """
            user root;
            worker_processes 1;
            daemon off;
            pid \(file).pid;
            error_log stderr error;
            events { worker_connections 8192; }
            http {
              access_log off;
              client_body_temp_path \(file)-body; proxy_temp_path \(file)-proxy;
              fastcgi_temp_path \(file)-f; uwsgi_temp_path \(file)-u; scgi_temp_path \(file)-s;
              default_type text/plain;
              keepalive_requests 100000000;
              keepalive_timeout 600;
              server {
                listen \(port) backlog=8192;
                listen [::]:\(port) backlog=8192;
                add_header x-pod \(name) always;
                add_header x-client $remote_addr always;
                add_header x-uri $request_uri always;
                add_header x-host $http_host always;
                add_header x-added $http_x_added always;
                \(locations)
                location / { return 200 "\(body)\\n"; }
              }
              server {
                listen 127.0.0.1:\(WebServer.countPort);
                location / { stub_status; }
              }
            }

            """.utf8
        ).write(to: URL(fileURLWithPath: file + ".conf"))
        let process = try start("nginx", ["nginx", "-c", file + ".conf"])
        try eventually("nginx of \(name) answers; log: \(process.text)") {
            if process.exitStatus != nil { throw CommandFailure(description: process.text) }
            return try curl("http://127.0.0.1:\(port)/").status != 0
        }
        return WebServer(process: process, pod: self)
    }
}
