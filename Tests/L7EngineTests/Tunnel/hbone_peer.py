"""An HBONE client and server that share no code with Malla: Python's ssl and h2.

What they do is what Istio documents of ambient mode: mutual TLS 1.3 with X.509-SVIDs on port 15008,
ALPN h2, one HTTP/2 CONNECT for each connection with `:authority` ip:port, `forwarded` and `baggage`.
Each prints one JSON object a line.

    hbone_peer.py client ADDRESS --authority IP:PORT [--bytes N] ...
    hbone_peer.py server ADDRESS --connect IP:PORT ...
"""
import argparse
import hashlib
import json
import os
import select
import socket
import ssl
import sys
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

TIME_LIMIT = 20
# h2 4.1 wants `:path` of every request; CONNECT has none (RFC 9113 section 8.5).
LENIENT = {"header_encoding": "utf-8", "validate_outbound_headers": False,
           "normalize_outbound_headers": False, "validate_inbound_headers": False}


def say(**what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def peer_id(tls):
    certificate = tls.getpeercert() or {}
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    return names[0] if len(names) == 1 else None


def context(options, purpose):
    made = ssl.SSLContext(purpose)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(options.ca)
    if options.cert:
        made.load_cert_chain(options.cert, options.key)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.tls12:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    else:
        made.minimum_version = ssl.TLSVersion.TLSv1_3
    if options.alpn:
        made.set_alpn_protocols(options.alpn.split(","))
    return made


def connect(address, source=None):
    host, port = place(address)
    return socket.create_connection((host, port), TIME_LIMIT, (source, 0) if source else None)


def place(address):
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


class Client:
    """One connection with one CONNECT, whose bytes an echoing server sends back."""

    def __init__(self, options):
        self.options = options
        self.status = None
        self.reset = None
        self.ended = False
        self.goaway = False
        self.settings = {}
        self.received = hashlib.sha256()
        self.count = 0

    def run(self):
        options = self.options
        try:
            tls = context(options, ssl.PROTOCOL_TLS_CLIENT).wrap_socket(
                connect(options.address, options.source))
        except (ssl.SSLError, OSError) as error:
            say(handshake=str(error))
            return
        self.tls = tls
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, **LENIENT))
        try:
            self.h2.initiate_connection()
            self.flush()
            if self.options.streams > 1:
                self.fill()
                return
            if self.options.flood:
                self.flood()
                return
            if self.options.repeat:
                self.repeat()
                return
            self.open()
            if self.options.knocks:
                self.knock()
            if self.options.trailers:
                self.h2.send_headers(self.stream, [("grpc-status", "0")], end_stream=True)
                self.open()
            self.move()
        except (ssl.SSLError, OSError, h2.exceptions.H2Error) as error:
            say(handshake="ok", broken=str(error), status=self.status)
            return
        say(handshake="ok", peer=peer_id(tls), alpn=tls.selected_alpn_protocol(),
            version=tls.version(), status=self.status, reset=self.reset, ended=self.ended,
            goaway=self.goaway, settings=self.settings, bytes=self.count,
            sha256=self.received.hexdigest())

    def flush(self):
        bytes_out = self.h2.data_to_send()
        if bytes_out:
            self.tls.sendall(bytes_out)

    def open(self):
        fields = [(":method", self.options.method), (":authority", self.options.authority)]
        if self.options.method != "CONNECT":
            fields += [(":scheme", "https"), (":path", "/")]
        if self.options.forwarded:
            fields.append(("forwarded", self.options.forwarded))
        if self.options.baggage:
            fields.append(("baggage", self.options.baggage))
        for field in self.options.field:
            name, value = field.split("=", 1)
            # Pseudo-fields first, unless it is asked for otherwise.
            fields.insert(2 if name.startswith(":") else len(fields), (name.lstrip("!"), value))
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(self.stream, fields)
        if self.options.eager:
            self.h2.send_data(self.stream, self.options.eager.encode(), end_stream=True)
        self.flush()

    def fill(self):
        """Opens streams and sends on each all that it may, whether anybody reads it or not."""
        self.ended_count = self.reset_count = 0
        left = {}
        block = bytes(16384)
        for _ in range(self.options.streams):
            self.open()
            left[self.stream] = self.options.bytes
        while self.ended_count + self.reset_count < self.options.streams:
            for stream in list(left):
                room = min(self.h2.local_flow_control_window(stream), len(block), left[stream])
                if room > 0:
                    self.h2.send_data(stream, block[:room])
                    left[stream] -= room
                if not left[stream]:
                    self.h2.end_stream(stream)
                    del left[stream]
            self.flush()
            may = any(self.h2.local_flow_control_window(stream) > 0 for stream in left)
            if not self.tls.pending() and not select.select(
                    [self.tls], [], [], 0 if may else TIME_LIMIT)[0]:
                if may:
                    continue
                break
            chunk = self.tls.recv(65536)
            if not chunk:
                break
            for event in self.h2.receive_data(chunk):
                self.take(event)
                self.ended_count += isinstance(event, h2.events.StreamEnded)
                if isinstance(event, h2.events.StreamReset):
                    self.reset_count += 1
                    left.pop(event.stream_id, None)
        say(handshake="ok", complete=self.ended_count, reset=self.reset_count)

    def flood(self):
        """CONNECTs without end whose answers are never read; over when nobody takes them for a second."""
        fields = [(":method", "CONNECT"), (":authority", self.options.authority)]
        # The first adds to the peer's table of fields, those behind it refer to that.
        part, later = self.h2.encoder.encode(fields), self.h2.encoder.encode(fields)
        sent, stream, stalled = 0, 1, False
        self.tls.setblocking(False)
        while sent < self.options.flood << 20 and not stalled:
            block = b""
            while len(block) < 60000:
                block += len(part).to_bytes(3, "big") + b"\x01\x05" + stream.to_bytes(4, "big") + part
                part, stream = later, stream + 2
            while block and not stalled:
                try:
                    count = self.tls.send(block)
                    block, sent = block[count:], sent + count
                except ssl.SSLWantWriteError:
                    stalled = not select.select([], [self.tls], [], 1)[1]
                except (ssl.SSLError, OSError) as error:
                    say(sent=sent, whole=False, broken=str(error))
                    return
        say(sent=sent, whole=not stalled)
        if stalled:
            # A reset, once the other side has had enough: nothing is read until then.
            over = select.poll()
            over.register(self.tls, 0)
            over.poll(TIME_LIMIT * 1000)

    def knock(self):
        """Beside the stream that is open CONNECTs to `--knock`, all at once, and their answers."""
        held = self.stream
        self.answers(1)
        self.options.authority = self.options.knock
        for _ in range(self.options.knocks):
            self.open()
        statuses = self.answers(self.options.knocks)
        say(knocks=len(statuses), statuses=sorted(set(statuses)))
        self.stream, self.status = held, 200

    def answers(self, count):
        """The statuses of so many answers."""
        statuses = []
        while len(statuses) < count:
            chunk = self.tls.recv(65536)
            if not chunk:
                raise OSError("the tunnel is over")
            statuses += [int(dict(event.headers)[":status"])
                         for event in self.h2.receive_data(chunk)
                         if isinstance(event, h2.events.ResponseReceived)]
            self.flush()
        return statuses

    def repeat(self):
        """CONNECTs on one tunnel, each when the one before is over, until one is not taken."""
        count, end = 0, time.monotonic() + TIME_LIMIT
        while not self.goaway and time.monotonic() < end:
            self.status, self.reset, self.ended = None, None, False
            self.open()
            self.h2.end_stream(self.stream)
            self.flush()
            while not (self.ended or self.goaway or self.reset is not None):
                chunk = self.tls.recv(65536)
                if not chunk:
                    raise OSError("the tunnel is over")
                try:
                    events = self.h2.receive_data(chunk)
                except h2.exceptions.ProtocolError:
                    if self.h2.state_machine.state != h2.connection.ConnectionState.CLOSED:
                        raise
                    # A GOAWAY, behind which h2 takes no answer of a stream that is open.
                    self.goaway = True
                    break
                for event in events:
                    self.take(event)
                self.flush()
            if self.status != 200:
                break
            count += 1
            if count == 1:
                say(taken=True)
            time.sleep(0.02)
        say(handshake="ok", streams=count, status=self.status, goaway=self.goaway)

    def move(self):
        to_send = bytes(range(256)) * (self.options.bytes // 256 + 1)
        to_send = to_send[:self.options.bytes]
        at = None if self.options.eager else 0
        while not (self.ended or self.reset is not None or self.goaway):
            if self.status == 200 and at is not None:
                room = min(self.h2.local_flow_control_window(self.stream),
                           self.h2.max_outbound_frame_size, len(to_send) - at)
                if room > 0:
                    self.h2.send_data(self.stream, to_send[at:at + room])
                    at += room
                if at == len(to_send) and not self.options.hold:
                    self.h2.end_stream(self.stream)
                    at = None
                self.flush()
            waits = not (self.status == 200 and at is not None and at < len(to_send)
                         and self.h2.local_flow_control_window(self.stream) > 0)
            ready = self.tls.pending() or select.select([self.tls], [], [],
                                                        TIME_LIMIT if waits else 0)[0]
            if not ready:
                if waits:
                    return
                continue
            chunk = self.tls.recv(65536)
            if not chunk:
                return
            for event in self.h2.receive_data(chunk):
                self.take(event)
            self.flush()

    def take(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            self.status = int(dict(event.headers)[":status"])
            if self.options.hold:
                say(open=self.status == 200)
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self.settings.update(
                {str(int(code)): change.new_value for code, change in event.changed_settings.items()})
        elif isinstance(event, h2.events.DataReceived):
            self.received.update(event.data)
            self.count += len(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended = True
        elif isinstance(event, h2.events.StreamReset):
            if event.stream_id == self.stream:
                self.reset = int(event.error_code)
            else:
                say(other=int(event.error_code))
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = True


class Server:
    """One connection: each CONNECT is connected to where the options say, whatever it names."""

    # Of all connections together: the first CONNECTs are lost as `--lose` says.
    losses = 0

    def __init__(self, options, plain):
        self.options = options
        self.plain = plain
        self.targets = {}
        self.unread = {}
        self.closing = set()
        self.count = 0
        self.is_mute = False

    def run(self):
        try:
            self.tls = context(self.options, ssl.PROTOCOL_TLS_SERVER).wrap_socket(
                self.plain, server_side=True)
        except (ssl.SSLError, OSError) as error:
            say(handshake=str(error))
            return
        say(handshake="ok", peer=peer_id(self.tls), alpn=self.tls.selected_alpn_protocol(),
            version=self.tls.version())
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, **LENIENT))
        try:
            self.h2.initiate_connection()
            if self.options.goaway:
                # Room for a second stream would only be used by a client that does not listen.
                self.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100})
            self.flush()
            while self.step():
                pass
        except (ssl.SSLError, OSError, h2.exceptions.H2Error) as error:
            say(broken=str(error))

    def flush(self):
        bytes_out = self.h2.data_to_send()
        if bytes_out and not self.is_mute:
            self.tls.sendall(bytes_out)

    def step(self):
        sockets = [self.tls] + [s for s in self.targets.values() if s not in self.closing]
        ready = [self.tls] if self.tls.pending() else select.select(sockets, [], [], TIME_LIMIT)[0]
        if not ready:
            return False
        if self.tls in ready:
            chunk = self.tls.recv(65536)
            if not chunk:
                return False
            for event in self.h2.receive_data(chunk):
                self.take(event)
        for stream, target in list(self.targets.items()):
            if target in ready:
                self.relay(stream, target)
        for stream in list(self.unread):
            self.pass_on(stream)
        self.flush()
        return True

    def lose(self, stream):
        if self.options.lose == "refuse":
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            return
        if self.options.lose == "goaway":
            self.h2.close_connection(h2.errors.ErrorCodes.INTERNAL_ERROR, last_stream_id=0)
            self.flush()
        self.tls.shutdown(socket.SHUT_RDWR)
        raise OSError(self.options.lose)

    def relay(self, stream, target):
        if len(self.unread.get(stream, b"")) > 1 << 20:
            return
        chunk = target.recv(65536)
        self.unread[stream] = self.unread.get(stream, b"") + chunk
        if not chunk:
            self.closing.add(target)

    def pass_on(self, stream):
        waiting = self.unread[stream]
        while waiting:
            room = min(self.h2.local_flow_control_window(stream),
                       self.h2.max_outbound_frame_size, len(waiting))
            if room <= 0:
                break
            self.h2.send_data(stream, waiting[:room])
            waiting = waiting[room:]
        self.unread[stream] = waiting
        if not waiting:
            del self.unread[stream]
            if self.targets.get(stream) in self.closing:
                self.h2.end_stream(stream)

    def take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            fields = dict(event.headers)
            say(authority=fields.get(":authority"), method=fields.get(":method"),
                forwarded=fields.get("forwarded"), baggage=fields.get("baggage"))
            self.count += 1
            if Server.losses and self.options.lose:
                Server.losses -= 1
                self.lose(event.stream_id)
                return
            if self.options.status != 200:
                self.h2.send_headers(event.stream_id, [(":status", str(self.options.status))], True)
                return
            self.targets[event.stream_id] = connect(self.options.connect)
            self.h2.send_headers(event.stream_id, [(":status", "200")])
            if self.options.goaway and self.count == 1:
                self.h2.close_connection(last_stream_id=event.stream_id)
                # h2 says goodbye at once; the streams that are open go on (RFC 9113 section 6.8).
                self.h2.state_machine.state = h2.connection.ConnectionState.SERVER_OPEN
            if self.options.mute:
                self.flush()
                self.is_mute = True
        elif isinstance(event, h2.events.DataReceived):
            if event.stream_id in self.targets:
                self.targets[event.stream_id].sendall(event.data)
            if not self.options.closed_window:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            if event.stream_id in self.targets:
                self.targets[event.stream_id].shutdown(socket.SHUT_WR)
        elif isinstance(event, h2.events.StreamReset):
            target = self.targets.pop(event.stream_id, None)
            self.unread.pop(event.stream_id, None)
            say(reset=int(event.error_code))
            if target:
                target.close()
        elif isinstance(event, h2.events.ConnectionTerminated):
            say(goaway=True)


def serve(options):
    host, port = place(options.address)
    end = threading.Timer(60, os._exit, [1])
    end.daemon = True
    end.start()
    Server.losses = options.losses
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    say(listening=True)
    while True:
        plain, _ = listener.accept()
        plain.settimeout(TIME_LIMIT)
        threading.Thread(target=Server(options, plain).run, daemon=True).start()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["client", "server"])
    parser.add_argument("address")
    parser.add_argument("--ca", required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--alpn", default="h2")
    parser.add_argument("--tls12", action="store_true")
    parser.add_argument("--authority")
    parser.add_argument("--method", default="CONNECT")
    parser.add_argument("--forwarded")
    parser.add_argument("--baggage", default="k8s.namespace.name=elsewhere")
    # NAME=VALUE; a pseudo-field that begins with `!` stands last.
    parser.add_argument("--field", action="append", default=[])
    parser.add_argument("--source")
    parser.add_argument("--bytes", type=int, default=0)
    # More than one: each sends so many bytes and does not wait for answers.
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--connect")
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--goaway", action="store_true")
    parser.add_argument("--mute", action="store_true")
    # The server gives no room back: 65 535 bytes a tunnel.
    parser.add_argument("--closed-window", action="store_true")
    # What becomes of the first CONNECTs, and of how many: refuse (one stream), goaway or drop (all).
    parser.add_argument("--lose", choices=["refuse", "goaway", "drop"])
    parser.add_argument("--losses", type=int, default=1)
    # The client sends this and its end at once, and does not wait for an answer to its CONNECT.
    parser.add_argument("--eager")
    # The client's stream stays open until the other side ends it.
    parser.add_argument("--hold", action="store_true")
    # A stream before that one ends by trailers.
    parser.add_argument("--trailers", action="store_true")
    # One stream after the other, until one is not taken.
    parser.add_argument("--repeat", action="store_true")
    # So many CONNECTs to there beside the stream, before it carries anything.
    parser.add_argument("--knock")
    parser.add_argument("--knocks", type=int, default=0)
    # So many MiB of CONNECTs, and no answer is read.
    parser.add_argument("--flood", type=int, default=0)
    options = parser.parse_args()
    if options.role == "client":
        Client(options).run()
    else:
        serve(options)


main()
