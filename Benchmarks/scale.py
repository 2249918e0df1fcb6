#!/usr/bin/env python3
"""What a large mesh costs the agent of one node: memory, the first load, and one change.

Writes the mesh into a directory, runs `malla-agent run` in a network namespace of its own with
pods' interfaces, a cgroup and a bpffs mount, and then changes one endpoint at a time. A change is
seen in the kernel by polling the service's row itself. Goals stand in scale_goals.json; exit 1 says
that one was missed. Needs root; nothing of it is left afterwards.
"""

import argparse
import ctypes
import http.client
import ipaddress
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import measure

NAMESPACE = "malla-scale"
NODE = "n1"
READY_SECONDS = 120
CHANGE_SECONDS = 10
SERVICES = ipaddress.ip_address("10.96.0.0")
PODS = ipaddress.ip_address("10.64.0.0")
ENDPOINTS = ipaddress.ip_address("10.128.0.0")
NODE_ADDRESS = "10.32.0.1"
HTTP_EVERY = 10  # every tenth service speaks HTTP, and is the engine's


def sh(command: str) -> str:
    return subprocess.run(
        command, shell=True, check=True, text=True, capture_output=True).stdout


class Mesh:
    """The objects, and where they stand: a file for each service, a few for all the rest."""

    def __init__(self, directory: pathlib.Path, options: argparse.Namespace):
        self.directory = directory
        self.options = options

    def write(self) -> None:
        for folder in ("services", "pods", "policies"):
            (self.directory / folder).mkdir(parents=True)
        nodes = [self.node(number) for number in range(self.options.nodes)]
        (self.directory / "nodes.yaml").write_text("---\n".join(nodes))
        for folder, count, make in (
            ("pods", self.options.pods, self.pod), ("policies", self.options.policies, self.policy),
        ):
            for first in range(0, count, 100):
                texts = [make(number) for number in range(first, min(first + 100, count))]
                path = self.directory / folder / f"{first:05}.yaml"
                path.write_text("---\n".join(texts))
        for number in range(self.options.services):
            self.service_file(number).write_text(self.service(number, self.options.endpoints))

    def service_file(self, number: int) -> pathlib.Path:
        return self.directory / "services" / f"s{number:05}.yaml"

    def refill(self, number: int, endpoints: int) -> None:
        """Replaces a service's file as a controller does: beside it, then renamed."""
        fresh = self.directory / "services" / ".fresh"
        fresh.write_text(self.service(number, endpoints))
        os.rename(fresh, self.service_file(number))

    @staticmethod
    def node(number: int) -> str:
        address = NODE_ADDRESS if number == 0 else f"10.32.{number // 250}.{number % 250 + 2}"
        return (f"apiVersion: v1\nkind: Node\nmetadata: {{name: n{number + 1}}}\nstatus:\n"
                f"  addresses: [{{type: InternalIP, address: {address}}}]\n")

    def pod(self, number: int) -> str:
        """The first `--local` pods are this node's, behind interfaces that exist."""
        local = number < self.options.local
        node = 1 if local else 2 + number % (self.options.nodes - 1)
        interface = f", annotations: {{malla.io/interface: lxc{number}}}" if local else ""
        return f"""apiVersion: v1
kind: Pod
metadata:
  {{name: p{number}, namespace: t{number % 50}, labels: {{app: a{number % 500}}}{interface}}}
spec:
  nodeName: n{node}
  containers: [{{name: main, image: none, ports: [{{containerPort: 8080}}]}}]
status:
  phase: Running
  podIP: {PODS + number}
  podIPs: [{{ip: {PODS + number}}}]
  conditions: [{{type: Ready, status: "True"}}]
"""

    @staticmethod
    def policy(number: int) -> str:
        """Selects the pods of one label in one namespace, admits another label and a network."""
        peer = (number * 7 + 3) % 500
        return f"""apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: np{number}, namespace: t{number % 50}}}
spec:
  podSelector: {{matchLabels: {{app: a{number % 500}}}}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector: {{matchLabels: {{app: a{peer}}}}}
    - ipBlock: {{cidr: 172.{16 + number % 16}.{number % 256}.0/24}}
    ports: [{{port: 8080, protocol: TCP}}]
"""

    def service(self, number: int, endpoints: int) -> str:
        name = "http" if number % HTTP_EVERY == 0 else "tcp"
        first = number * (self.options.endpoints + 2)
        entries = "\n".join(
            f"- addresses: [{ENDPOINTS + first + index}]\n"
            f"  conditions: {{ready: true, serving: true, terminating: false}}\n"
            f"  nodeName: n{1 + (number + index) % self.options.nodes}"
            for index in range(endpoints))
        return f"""apiVersion: v1
kind: Service
metadata: {{name: s{number:05}, namespace: t{number % 50}}}
spec:
  clusterIP: {self.address(number)}
  clusterIPs: [{self.address(number)}]
  ports: [{{name: {name}, port: 80, targetPort: 8080, protocol: TCP}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: s{number:05}-x
  namespace: t{number % 50}
  labels: {{kubernetes.io/service-name: s{number:05}}}
addressType: IPv4
ports: [{{name: {name}, port: 8080, protocol: TCP}}]
endpoints:
{entries}
"""

    @staticmethod
    def address(number: int) -> ipaddress.IPv4Address:
        return SERVICES + 1 + number


class ServiceRows:
    """malla_service, read from the kernel by bpf(2)."""

    LOOKUP, GET = 1, 7
    SYSTEM_CALL = {"x86_64": 321, "aarch64": 280}[os.uname().machine]

    def __init__(self, bpffs: pathlib.Path):
        pin = next(bpffs.glob("malla/v*/malla_service"))
        self.libc = ctypes.CDLL(None, use_errno=True)
        path = ctypes.create_string_buffer(str(pin).encode())
        self.map = self.call(self.GET, struct.pack("=QII", ctypes.addressof(path), 0, 0))
        if self.map < 0:
            raise SystemExit(f"{pin}: {os.strerror(ctypes.get_errno())}")

    def call(self, command: int, attributes: bytes) -> int:
        return self.libc.syscall(
            self.SYSTEM_CALL, command, ctypes.create_string_buffer(attributes), len(attributes))

    def endpoints(self, address: ipaddress.IPv4Address) -> int:
        """How many endpoints the row of address:80/TCP counts; -1: there is no such row."""
        key = ctypes.create_string_buffer(
            bytes(10) + b"\xff\xff" + address.packed + struct.pack("!HBB", 80, 6, 0), 20)
        row = ctypes.create_string_buffer(32)
        failed = self.call(self.LOOKUP, struct.pack(
            "=IIQQQ", self.map, 0, ctypes.addressof(key), ctypes.addressof(row), 0))
        return -1 if failed else struct.unpack_from("=I", row.raw, 4)[0]


class Node:
    """A network namespace with the local pods' interfaces, a cgroup, a bpffs mount, an agent."""

    def __init__(self, work: pathlib.Path, options: argparse.Namespace):
        self.work, self.options = work, options
        mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        self.cgroup = pathlib.Path(next(m[1] for m in mounts if m[2] == "cgroup2"), NAMESPACE)
        self.bpffs, self.state = work / "bpffs", work / "state"
        self.agent: subprocess.Popen | None = None

    def __enter__(self):
        self.remove()
        try:
            self.build()
        except BaseException:
            self.remove()
            raise
        return self

    def build(self) -> None:
        self.cgroup.mkdir()
        self.bpffs.mkdir()
        self.state.mkdir()
        sh(f"mount -t bpf bpf {self.bpffs}; ip netns add {NAMESPACE}")
        links = [f"link add lxc{number} type veth peer name eth{number}"
                 for number in range(self.options.local)]
        links += [f"link set lxc{number} up" for number in range(self.options.local)]
        links += ["link set lo up", "link add up0 type veth peer name fabric0", "link set up0 up",
                  "link set fabric0 up", f"addr add {NODE_ADDRESS}/16 dev up0"]
        subprocess.run(["ip", "-n", NAMESPACE, "-batch", "-"], input="\n".join(links), text=True,
                       check=True)

    def __exit__(self, *_):
        if self.agent:
            self.agent.send_signal(signal.SIGTERM)
            try:
                self.agent.wait(15)
            except subprocess.TimeoutExpired:
                self.agent.kill()
                self.agent.wait()
        self.remove()

    def remove(self) -> None:
        subprocess.run(["umount", self.bpffs], capture_output=True)
        subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True)
        if self.cgroup.is_dir():
            self.cgroup.rmdir()

    def start(self, config: pathlib.Path) -> None:
        self.log = open(self.work / "agent.log", "w")
        self.agent = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{NAMESPACE}", self.options.agent, "run",
             "--node", NODE, "--config", config, "--state", self.state,
             "--socket", self.state / "agent.sock", "--cgroup", self.cgroup,
             "--bpffs", self.bpffs, "--workers", "1"],
            stdout=self.log, stderr=self.log)

    def ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("agent", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(str(self.state / "agent.sock"))
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def wait_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if self.agent.poll() is not None:
                break
            try:
                if self.ask("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise SystemExit("the agent does not serve: " + (self.work / "agent.log").read_text())

    def settle(self) -> None:
        """Waits until the agent has nothing left to do: it still writes its state directory."""
        for _ in range(READY_SECONDS):
            if idle_ms(self, 1) < 15:
                return

    def stages(self) -> dict[str, float]:
        """Seconds that each stage of the last change took."""
        stages = {}
        for line in self.ask("/metrics")[1].splitlines():
            if line.startswith("malla_change_seconds{stage="):
                stages[line.split('"')[1]] = float(line.rpartition(" ")[2])
        return stages

    def status(self, field: str) -> int:
        """KiB of all the agent's processes."""
        total = 0
        for process in measure.family(self.agent.pid):
            for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith(field + ":"):
                    total += int(line.split()[1])
        return total

    def processor_ns(self) -> int:
        """Run time of all the agent's threads, in nanoseconds."""
        total = 0
        for process in measure.family(self.agent.pid):
            for task in pathlib.Path(f"/proc/{process}/task").glob("*/schedstat"):
                try:
                    total += int(task.read_text().split()[0])
                except OSError:
                    continue  # the thread has ended
        return total


def change(mesh: Mesh, node: Node, rows: ServiceRows, number: int, endpoints: int) -> dict:
    """One endpoint more or less: from the file's rename to the row in the kernel."""
    address = mesh.address(number)
    processor = node.processor_ns()
    start = time.monotonic()
    mesh.refill(number, endpoints)
    while rows.endpoints(address) != endpoints:
        if time.monotonic() > start + CHANGE_SECONDS:
            raise SystemExit(f"service {number} does not come to {endpoints} endpoints")
        time.sleep(0.0002)
    wall = time.monotonic() - start
    time.sleep(0.2)  # what it still does behind the row is its cost too
    spent = node.processor_ns() - processor
    stages = {f"{stage}_ms": value * 1e3 for stage, value in node.stages().items()}
    return {"file_to_row_ms": wall * 1e3, "processor_ms": spent / 1e6,
            "noticed_to_row_ms": sum(stages.values()), **stages}


def idle_ms(node: Node, seconds: float) -> float:
    """Processor time of a second in which nothing changes."""
    before = node.processor_ns()
    time.sleep(seconds)
    return (node.processor_ns() - before) / 1e6 / seconds


def run(options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory(prefix="malla-scale-") as work:
        mesh = Mesh(pathlib.Path(work, "config"), options)
        mesh.write()
        with Node(pathlib.Path(work), options) as node:
            start = time.monotonic()
            node.start(mesh.directory)
            node.wait_ready()
            result = {"start_seconds": time.monotonic() - start}
            stages = node.stages()
            result["load_maps_seconds"] = stages["maps"]
            result["load_maps_and_attach_seconds"] = stages["maps"] + stages["attach"]
            result["load_stages_ms"] = {k: round(v * 1e3, 1) for k, v in stages.items()}
            rows = ServiceRows(node.bpffs)
            node.settle()
            result["resident_mib"] = node.status("VmRSS") / 1024
            result["idle_ms_per_second"] = idle_ms(node, 20)
            changes = []
            for index in range(options.changes):
                # Alternately a service of the engine's and nine of the kernel's.
                number = (index * 37) % options.services
                changes.append(change(mesh, node, rows, number, options.endpoints + 1))
                changes.append(change(mesh, node, rows, number, options.endpoints))
            for name in changes[0]:
                values = sorted(each[name] for each in changes)
                result["change_" + name] = statistics.median(values)
                result["change_" + name + "_p95"] = values[len(values) * 95 // 100]
            result["resident_after_mib"] = node.status("VmRSS") / 1024
            result["peak_mib"] = node.status("VmHWM") / 1024
            if options.keep_log:
                shutil.copy(pathlib.Path(work, "agent.log"), options.keep_log)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--agent", default=str(root / ".build/release/malla-agent"))
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=10, help="of each service")
    parser.add_argument("--pods", type=int, default=5_000)
    parser.add_argument("--local", type=int, default=313, help="pods of this node")
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--policies", type=int, default=1_000)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--json", help="writes the figures there too")
    parser.add_argument("--keep-log", help="copies the agent's log there")
    options = parser.parse_args()
    result = run(options)
    goals = json.loads((root / "Benchmarks/scale_goals.json").read_text())
    missed = 0
    for name, value in result.items():
        goal = goals.get(name)
        verdict = "" if goal is None else f"  goal {goal}: " + ("met" if value <= goal else "MISSED")
        missed += goal is not None and value > goal
        print(f"{name:32} {value if isinstance(value, dict) else round(value, 2)}{verdict}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
