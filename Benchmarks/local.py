#!/usr/bin/env python3
"""What a call between two pods of one node costs, with nothing between them and with each proxy.

Pods and node are network namespaces. The client calls a service's address, which Malla's datapath
captures and nftables redirects to the others; `direct` calls the server itself. Malla holds
policies, services and routes besides, its peers none. Each turn has namespaces of its own, since
what a proxy leaves in the kernel would be measured with the next; `direct` is the first and the
last of each round. The figure is the processor time a request, of the machine (`whole`) and of the
proxy (`own`). Goals stand in goals.json; exit 1 says that one was missed, 2 that a request failed.

Needs root. Nothing of it is left afterwards.
"""

import argparse
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import tempfile

import bench
import measure
import peers
import pods

PREFIX = "malla-lo-"
NODES = {"n1": "10.32.0.1", "n2": "10.32.0.2"}
PODS = {"client": ("n1", "10.64.1.10"), "near": ("n1", "10.64.1.20")}
NEAR = PODS["near"][1]
SERVICES = {"http": "10.96.0.7", "tcp": "10.96.0.4"}  # by the name of the port
SERVICE_PORT = 80
# Where `direct` moved by more, the machine was not quiet enough for ratios.
QUIET = 1.10


@dataclasses.dataclass
class Call(bench.Scenario):
    service: str = "http"


CALLS = [
    Call("local-l7"),
    Call("local-l4", service="tcp"),
    Call("local-l4-close", service="tcp", closes=True),
]


class Direct(peers.Peer):
    """No proxy and no service."""

    name, port = "direct", peers.BACKEND_PORT

    def begin(self, stage: pods.Stage, call: Call) -> tuple[int | None, str, int]:
        return None, NEAR, self.port


class Redirected(peers.Peer):
    """A proxy in the node's namespace, to which nftables sends what is for the service."""

    def begin(self, stage: pods.Stage, call: Call) -> tuple[int | None, str, int]:
        """Starts it: its process, and the address and port that the client calls."""
        address = SERVICES[call.service]
        rules = (
            "add table ip bench; "
            "add chain ip bench before { type nat hook prerouting priority -100; }; "
            f"add rule ip bench before ip daddr {address} tcp dport {SERVICE_PORT} "
            f"redirect to :{self.port}"
        )
        subprocess.run([*stage.inside("n1"), "nft", rules], check=True)
        process = stage.start(self.name, self.command(call, stage.work, []), "n1")
        return process.pid, address, SERVICE_PORT


class Floor(Redirected, peers.Floor):
    pass


class HAProxy(Redirected, peers.HAProxy):
    pass


class Envoy(Redirected, peers.Envoy):
    pass


class Malla(peers.Malla):
    """The agent of the node, with as many objects besides as the options say."""

    def __init__(self, options):
        super().__init__()
        self.options = options

    def begin(self, stage: pods.Stage, call: Call) -> tuple[int | None, str, int]:
        config = stage.work / "config"
        config.mkdir()
        (config / "mesh.yaml").write_text("---\n".join([*self.mesh(), *self.more()]))
        process = stage.start_agent(self.program(), "n1", config)
        return process, SERVICES[call.service], SERVICE_PORT

    def mesh(self):
        """Nodes, pods, and the two services of the server, one of them with a route."""
        for name, address in NODES.items():
            addresses = [{"type": "InternalIP", "address": address}]
            yield self.thing("v1", "Node", name, status={"addresses": addresses})
        for name, (node, address) in PODS.items():
            ports = [{"containerPort": peers.BACKEND_PORT}]
            container = {"name": "main", "image": "none", "ports": ports}
            yield self.thing(
                "v1", "Pod", name, labels={"app": name},
                annotations={"malla.io/interface": f"lxc-{name}"},
                spec={"nodeName": node, "serviceAccountName": name, "containers": [container]},
                status={
                    "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            )  # fmt: skip
        for name, address in SERVICES.items():
            yield from self.service(f"called-{name}", name, address, NEAR, "n1")
        yield self.route("all", "/")

    def more(self):
        """What changes no answer, and is in the maps and tables that packets and requests meet."""
        if self.options.policies:
            port = {"port": peers.BACKEND_PORT, "protocol": "TCP"}
            yield self.policy("near", "near", [{"podSelector": {}}], port)
            yield self.policy("client", "client", [{"podSelector": {}}], port, "Egress")
        for number in range(max(0, self.options.policies - 2)):
            block = {"ipBlock": {"cidr": f"172.16.{number % 256}.0/24"}}
            port = {"port": 9000 + number, "protocol": "TCP"}
            yield self.policy(f"more-{number}", ("near", "client")[number % 2], [block], port)
        for number in range(self.options.services):
            last = f"{number // 250}.{number % 250 + 1}"
            yield from self.service(f"more-{number}", "tcp", f"10.97.{last}", f"10.78.{last}", "n2")
        for number in range(self.options.routes):
            yield self.route(f"more-{number}", f"/more-{number}")

    def policy(self, name, app, others, port, direction="Ingress"):
        rule = {"from" if direction == "Ingress" else "to": others, "ports": [port]}
        spec = {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": [direction]}
        spec[direction.lower()] = [rule]
        return self.thing("networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)

    def service(self, name, protocol, address, endpoint, node):
        port = {"name": protocol, "protocol": "TCP"}
        spec = {"clusterIP": address, "clusterIPs": [address]}
        spec["ports"] = [port | {"port": SERVICE_PORT, "targetPort": peers.BACKEND_PORT}]
        yield self.thing("v1", "Service", name, spec=spec)
        ready = {"addresses": [endpoint], "nodeName": node, "conditions": {"ready": True}}
        yield self.thing(
            "discovery.k8s.io/v1", "EndpointSlice", f"{name}-1",
            labels={"kubernetes.io/service-name": name}, addressType="IPv4",
            endpoints=[ready], ports=[port | {"port": peers.BACKEND_PORT}],
        )  # fmt: skip

    def route(self, name, path):
        backend = {"name": "called-http", "port": SERVICE_PORT}
        rule = {"matches": [{"path": {"type": "PathPrefix", "value": path}}]}
        spec = {"parentRefs": [{"group": "", "kind": "Service", **backend}]}
        spec["rules"] = [rule | {"backendRefs": [backend]}]
        return self.thing("gateway.networking.k8s.io/v1", "HTTPRoute", name, spec=spec)


def once(peer, call: Call, seconds: int) -> measure.Round:
    """One turn of one of them, in namespaces of its own."""
    with tempfile.TemporaryDirectory(prefix="malla-local-") as folder:
        work = pathlib.Path(folder)
        work.chmod(0o755)
        with pods.Stage(work, PREFIX, NODES, PODS, congestion="reno") as stage:
            stage.start("server", peers.backend(work, NEAR), "near")
            process, address, port = peer.begin(stage, call)
            before = tuple(stage.member("client"))
            url = f"http://{address}:{port}{call.path}"
            question = ["curl", "-sf", "-m", "1", "-o", "/dev/null", url]
            log = "n1" if isinstance(peer, Malla) else peer.name
            stage.wait([*before, *question], peer.name, log)
            place = measure.Place(before, address)
            measure.measure(call, process, port, 1, place)
            return measure.measure(call, process, port, seconds, place)


def run(call: Call, chosen: list, options) -> dict[str, list[measure.Round]]:
    """All rounds of one call, by proxy."""
    direct = Direct()
    rounds: dict[str, list[measure.Round]] = {}
    # What asks for a layer 7 of proxies is asked of all; the rest of Malla and of nobody.
    others = chosen if call.service == "http" else [peer for peer in chosen if peer.name == "malla"]
    for turn in range(options.rounds):
        first = turn % max(1, len(others))
        for peer in [direct, *others[first:], *others[:first], direct]:
            rounds.setdefault(peer.name, []).append(once(peer, call, options.seconds))
    figures = sorted(each.whole_us for each in rounds["direct"])
    # The highest and the lowest are left aside: one odd turn does not make a loud machine.
    if len(figures) > 3:
        figures = figures[1:-1]
    if figures[-1] > QUIET * figures[0]:
        moved = f"from {figures[0]:.2f} to {figures[-1]:.2f} us"
        print(f"{call.name}: not a quiet machine, its ratios say little: direct {moved}")
    return rounds


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", action="append", choices=[call.name for call in CALLS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of a round")
    parser.add_argument("--policies", type=int, default=100)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--routes", type=int, default=100)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there, too")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    chosen = []
    for peer in [*(kind("0.0.0.0", NEAR) for kind in (Floor, HAProxy, Envoy)), Malla(options)]:
        if missing := peer.missing():
            print(f"left out {peer.name}: {missing}")
            continue
        chosen.append(peer)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = {}
    for call in CALLS:
        if not options.scenario or call.name in options.scenario:
            results[call.name] = bench.report(call, run(call, chosen, options), bench.goals())
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return bench.conclude(results)


if __name__ == "__main__":
    sys.exit(main())
