import Foundation
import TestSupport

/// Traffic that never passes the engine, from one pod to others until it is told to stop: echo
/// requests, byte streams that are compared, and connections one after another. All of it in step
/// with the answers, so that a packet that is lost is a packet that somebody dropped.
struct SteadyTraffic {
    private let processes: [TestProcess]
    private let stopFile: String

    /// What one thread sends to one address and port.
    struct Call {
        enum Kind: String {
            /// ICMP; without a port.
            case echo
            /// Bytes of TCP that come back.
            case stream
            /// A connection for each request of HTTP.
            case dial
            /// UDP, by a socket that is connected.
            case datagram
            /// UDP, by one that is not, and which is to be told the address that it has asked.
            case loose
            /// UDP of which nothing may come back, each from a port of its own.
            case denied
        }
        var kind: Kind
        var address: String
        var port = 0
        var text: String { "\(kind.rawValue),\(address),\(port)" }

        init(_ kind: Kind, _ address: String, _ port: Int = 0) {
            self.kind = kind
            self.address = address
            self.port = port
        }
    }

    /// Where callers are.
    enum Place {
        case pod(String)
        /// In the pod's namespace, but not in its cgroup: balanced packet by packet.
        case unseen(String)
        case outside
    }

    /// What became of it; `faults` names each thing that went wrong.
    struct Outcome {
        var echoes = 0
        var bytes = 0
        var dials = 0
        var datagrams = 0
        /// Echo requests and datagrams that were to be answered: as many as were, if none is lost.
        var asked = 0
        /// Datagrams that were not to be answered.
        var denied = 0
        var faults: [String] = []
    }

    /// Starts the servers, in `servers`, and the client, in `client`.
    init(_ bed: Testbed, client: String, servers: [String], dials: [String]) throws {
        let addresses = servers.flatMap { [bed[$0].v4, bed[$0].v6] }
        let calls =
            addresses.map { Call(.echo, $0) } + addresses.map { Call(.stream, $0, 9001) }
            + dials.map { Call(.dial, $0, 80) }
        try self.init(bed, servers: servers, [(.pod(client), calls)])
    }

    /// Starts the servers (9001 of TCP, 5353 and 9002 of UDP), then all that calls.
    init(_ bed: Testbed, servers: [String], _ callers: [(place: Place, calls: [Call])]) throws {
        for name in servers {
            try bed[name].start("stream", Self.listener)
            try eventually("\(name) listens on 9001") {
                try bed[name].run(["ss", "-Hltn", "sport = :9001"]).output.contains("9001")
            }
        }
        stopFile = bed.directory + "/stop-traffic"
        // However many they are, they take no more of the machine than ten of 5 ms each.
        let pause = 0.0005 * Double(max(10, callers.map(\.calls.count).reduce(0, +)))
        let client = ["/usr/bin/python3", "-u", "-c", Self.client, stopFile, "\(pause)"]
        processes = try callers.map { place, calls in
            let line = client + calls.map(\.text)
            switch place {
            case .pod(let name): return try bed[name].start("traffic", line)
            case .unseen(let name): return try bed.startOutside("unseen", line, in: name)
            case .outside: return try bed.startOutside("traffic", line)
            }
        }
        for process in processes {
            try eventually("the traffic flows: \(process.text)") { process.text.contains("flows") }
        }
    }

    var text: String { processes.map(\.text).joined() }

    func stop() throws -> Outcome {
        try Command.shell("touch \(stopFile)")
        var outcome = Outcome()
        for process in processes where process.wait(seconds: 20) != 0 {
            outcome.faults.append("a client failed")
        }
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1).map(String.init)
            let number = words.count > 1 ? Int(words[1]) ?? 0 : 0
            switch words.first {
            case "echoes": outcome.echoes += number
            case "bytes": outcome.bytes += number
            case "dials": outcome.dials += number
            case "datagrams": outcome.datagrams += number
            case "asked": outcome.asked += number
            case "unanswered": outcome.denied += number
            case "flows": break
            default: outcome.faults.append(String(line))
            }
        }
        return outcome
    }

    /// The command line of what `servers` run.
    static var listener: [String] { ["/usr/bin/python3", "-c", server] }

    /// Sends back what it gets.
    private static let server = """
        import socket, threading
        def datagrams(port):
            s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            s.bind(("::", port))
            while True: s.sendto(*s.recvfrom(2048))
        for port in 5353, 9002:
            threading.Thread(target=datagrams, args=(port,), daemon=True).start()
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
        stop, pause = sys.argv[1], float(sys.argv[2])
        calls = [word.split(",") for word in sys.argv[3:]]
        def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())
        begun = threading.Barrier(len(calls) + 1)
        def family(address): return socket.AF_INET6 if ":" in address else socket.AF_INET
        def running(): return not os.path.exists(stop)
        def guarded(kind, number, address, port):
            try: globals()[kind](number, address, port)
            except Exception as error:
                say(kind, address, port, "failed:", repr(error))
                begun.abort()
        def checksum(text):
            total = sum(struct.unpack("!%dH" % (len(text) // 2), text))
            total = (total & 65535) + (total >> 16)
            return ~((total & 65535) + (total >> 16)) & 65535
        def echo(which, address, port):
            six = ":" in address
            own = (os.getpid() * 64 + which) & 65535
            s = socket.socket(family(address), socket.SOCK_RAW,
                socket.getprotobyname("ipv6-icmp") if six else socket.IPPROTO_ICMP)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            s.settimeout(5)
            number = asked = count = 0
            while running():
                asked += 1
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
                time.sleep(pause / 5)
            say("echoes", count)
            say("asked", asked)
        def stream(which, address, port):
            s = socket.create_connection((address, port), 10)
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
                time.sleep(pause)
            say("bytes", count)
        def dial(which, address, port):
            count = 0
            while running():
                s = socket.create_connection((address, port), 10)
                s.settimeout(10)
                s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                got = b""
                while part := s.recv(65536): got += part
                if b" 200 " not in got: raise ValueError(got)
                s.close()
                if count == 0: begun.wait(10)
                count += 1
                time.sleep(pause)
            say("dials", count)
        def datagram(which, address, port, told=False):
            s = socket.socket(family(address), socket.SOCK_DGRAM)
            s.settimeout(5)
            if not told: s.connect((address, port))
            asked = count = 0
            while running():
                asked += 1
                body = b"%d of %d" % (asked, which)
                if told: s.sendto(body, (address, port))
                else: s.send(body)
                try: got, peer = s.recvfrom(2048)
                except TimeoutError:
                    say("lost: datagram", asked, "of", address, port)
                    continue
                if got != body: raise ValueError(got, body)
                if told and peer[:2] != (address, port): raise ValueError(peer)
                count += 1
                if count == 3: begun.wait(10)
                time.sleep(pause)
            say("datagrams", count)
            say("asked", asked)
        def loose(which, address, port): datagram(which, address, port, True)
        def denied(which, address, port):
            count = 0
            while running():
                s = socket.socket(family(address), socket.SOCK_DGRAM)
                s.settimeout(0.02)
                s.connect((address, port))
                try:
                    s.send(b"denied")
                    s.recv(99)
                    say("passed: a datagram to", address, port)
                except OSError: pass
                s.close()
                count += 1
                if count == 3: begun.wait(10)
            say("unanswered", count)
        threads = [
            threading.Thread(target=guarded, args=(kind, number, address, int(port)))
            for number, (kind, address, port) in enumerate(calls)]
        for thread in threads: thread.start()
        begun.wait(10)
        say("flows")
        for thread in threads: thread.join()
        """
}
