import Foundation
import TestSupport

/// Traffic that never passes the engine, from one pod to others until it is told to stop: echo
/// requests, byte streams that are compared, and connections one after another. All of it in step
/// with the answers, so that a packet that is lost is a packet that somebody dropped.
struct SteadyTraffic {
    private let process: TestProcess
    private let stopFile: String

    /// What became of it; `faults` names each thing that went wrong.
    struct Outcome {
        var echoes = 0
        var bytes = 0
        var dials = 0
        var faults: [String] = []
    }

    /// Starts the servers, in `servers`, and the client, in `client`.
    init(_ bed: Testbed, client: String, servers: [String], dials: [String]) throws {
        for name in servers {
            try bed[name].start("stream", ["/usr/bin/python3", "-c", Self.server])
            try eventually("\(name) listens on 9001") {
                try bed[name].run(["ss", "-Hltn", "sport = :9001"]).output.contains("9001")
            }
        }
        stopFile = bed.directory + "/stop-traffic"
        let addresses = servers.flatMap { [bed[$0].v4, bed[$0].v6] }
        process = try bed[client].start(
            "traffic",
            [
                "/usr/bin/python3", "-u", "-c", Self.client, stopFile,
                addresses.joined(separator: ","), dials.joined(separator: " "),
            ])
        let all = self
        try eventually("the traffic flows: \(process.text)") { all.process.text.contains("flows") }
    }

    var text: String { process.text }

    func stop() throws -> Outcome {
        try Command.shell("touch \(stopFile)")
        var outcome = Outcome()
        if process.wait(seconds: 20) != 0 { outcome.faults.append("the client failed") }
        for line in process.text.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1).map(String.init)
            let number = words.count > 1 ? Int(words[1]) ?? 0 : 0
            switch words.first {
            case "echoes": outcome.echoes += number
            case "bytes": outcome.bytes += number
            case "dials": outcome.dials += number
            case "flows": break
            default: outcome.faults.append(String(line))
            }
        }
        return outcome
    }

    /// Sends back what it gets.
    private static let server = """
        import socket, threading
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", 9001))
        listener.listen(64)
        def serve(s):
            while part := s.recv(65536): s.sendall(part)
            s.close()
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        """

    /// A thread for each address and kind of traffic; an echo without an answer within 5 s is lost.
    private static let client = """
        import os, random, socket, struct, sys, threading, time
        stop, addresses, dials = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split()
        def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())
        begun = threading.Barrier(len(addresses) * 2 + len(dials) + 1)
        def family(address): return socket.AF_INET6 if ":" in address else socket.AF_INET
        def running(): return not os.path.exists(stop)
        def guarded(kind, body, address):
            try: body(address)
            except Exception as error:
                say(kind, address, "failed:", repr(error))
                begun.abort()
        def checksum(text):
            total = sum(struct.unpack("!%dH" % (len(text) // 2), text))
            total = (total & 65535) + (total >> 16)
            return ~((total & 65535) + (total >> 16)) & 65535
        def echo(address):
            six = ":" in address
            own = 1000 + addresses.index(address)
            s = socket.socket(family(address), socket.SOCK_RAW,
                socket.getprotobyname("ipv6-icmp") if six else socket.IPPROTO_ICMP)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            s.settimeout(5)
            number = count = 0
            while running():
                number = (number + 1) & 65535
                head = struct.pack("!BBHHH", 128 if six else 8, 0, 0, own, number)
                body = head + b"malla..."
                if not six: body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
                s.sendto(body, (address, 0))
                while True:
                    try: text = s.recv(2048)
                    except TimeoutError:
                        say("lost: echo", number, "of", address)
                        break
                    text = text if six else text[20:]
                    found = struct.unpack("!HH", text[4:8])
                    if text[0] == (129 if six else 0) and found == (own, number):
                        count += 1
                        break
                if count == 3: begun.wait(10)
                time.sleep(0.001)
            say("echoes", count)
        def stream(address):
            s = socket.create_connection((address, 9001), 10)
            s.settimeout(10)
            count = 0
            while running():
                sent = random.randbytes(random.randrange(1, 20000))
                s.sendall(sent)
                got = b""
                while len(got) < len(sent):
                    part = s.recv(65536)
                    if not part: raise ConnectionError("ended")
                    got += part
                if got != sent: raise ValueError("differs")
                if count == 0: begun.wait(10)
                count += len(sent)
                time.sleep(0.002)
            say("bytes", count)
        def dial(address):
            count = 0
            while running():
                s = socket.create_connection((address, 80), 10)
                s.settimeout(10)
                s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                got = b""
                while part := s.recv(65536): got += part
                if b" 200 " not in got: raise ValueError(got)
                s.close()
                if count == 0: begun.wait(10)
                count += 1
                time.sleep(0.005)
            say("dials", count)
        threads = [threading.Thread(target=guarded, args=(kind.__name__, kind, address))
            for kind, each in ((echo, addresses), (stream, addresses), (dial, dials))
            for address in each]
        for thread in threads: thread.start()
        begun.wait(10)
        say("flows")
        for thread in threads: thread.join()
        """
}
