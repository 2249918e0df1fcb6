#!/usr/bin/env python3
"""What policy and flow table cost a stream: iperf3 between pods, with and without the datapath.

Two nodes and three pods are network namespaces; the client is on the first node, a server on each.
Rounds alternate between nothing and the datapath with policies, so that ratios are of one run. Goals
stand in throughput_goals.json; exit 1 says that one was missed. Needs root and iperf3; nothing of it
is left afterwards.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

PREFIX = "malla-tp-"
NODES = {"n1": "10.32.0.1", "n2": "10.32.0.2"}
PODS = {"client": ("n1", "10.64.1.10"), "near": ("n1", "10.64.1.20"), "far": ("n2", "10.64.2.20")}
PORT = 5201
READY_SECONDS = 20


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, text=True, capture_output=True).stdout


def inside(name: str) -> list[str]:
    """Of a command: it keeps the mounts, which `ip netns exec` does not."""
    return ["nsenter", f"--net=/run/netns/{PREFIX}{name}"]


class Stage:
    """Nodes, pods, servers, and agents while there are some; takes all of it away."""

    def __init__(self, work: pathlib.Path, agent: str, policies: int):
        self.work, self.agent, self.policies = work, agent, policies
        mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        root = next(mount[1] for mount in mounts if mount[2] == "cgroup2")
        self.cgroup = pathlib.Path(root, PREFIX + "bench")
        self.servers: list[subprocess.Popen] = []
        self.agents: list[subprocess.Popen] = []

    def __enter__(self):
        self.remove()
        try:
            self.build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.stop_agents()
        self.end(self.servers)
        self.remove()

    def build(self) -> None:
        for name in [*NODES, *PODS]:
            sh(f"ip netns add {PREFIX}{name}; ip -n {PREFIX}{name} link set lo up")
        sh(f"ip -n {PREFIX}n1 link add up0 type veth peer name up0 netns {PREFIX}n2")
        for node, address in NODES.items():
            at = PREFIX + node
            sh(f"ip -n {at} addr add {address}/24 dev up0; ip -n {at} link set up0 up")
            subprocess.run(inside(node) + ["sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
            (self.cgroup / node).mkdir(parents=True)
            (self.work / node).mkdir()
            (self.work / f"bpffs-{node}").mkdir()
            sh(f"mount -t bpf bpf {self.work}/bpffs-{node}")
        for pod, (node, address) in PODS.items():
            at, own = PREFIX + node, PREFIX + pod
            sh(f"ip -n {at} link add lxc-{pod} type veth peer name eth0 netns {own}"
               f" && ip -n {at} addr add 169.254.1.1/32 dev lxc-{pod}"
               f" && ip -n {at} link set lxc-{pod} up"
               f" && ip -n {at} route add {address}/32 dev lxc-{pod}"
               f" && ip -n {own} addr add {address}/32 dev eth0 && ip -n {own} link set eth0 up"
               f" && ip -n {own} route add 169.254.1.1 dev eth0"
               f" && ip -n {own} route add default via 169.254.1.1 src {address}")
            for other in NODES:
                if other != node:
                    sh(f"ip -n {PREFIX}{other} route add {address}/32 via {NODES[node]}")
        for pod in ("near", "far"):
            self.servers.append(subprocess.Popen(
                inside(pod) + ["iperf3", "-s", "-p", str(PORT)],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def remove(self) -> None:
        for node in NODES:
            subprocess.run(["umount", self.work / f"bpffs-{node}"], capture_output=True)
            if (self.cgroup / node).is_dir():
                (self.cgroup / node).rmdir()
        if self.cgroup.is_dir():
            self.cgroup.rmdir()
        for name in [*NODES, *PODS]:
            subprocess.run(["ip", "netns", "del", PREFIX + name], capture_output=True)

    def objects(self) -> str:
        documents = [
            f"apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n"
            f"status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
            for name, address in NODES.items()]
        documents += [
            f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, labels: {{app: {pod}}}, "
            f"annotations: {{malla.io/interface: lxc-{pod}}}}}\n"
            f"spec: {{nodeName: {node}, containers: [{{name: main, image: none}}]}}\n"
            f"status: {{phase: Running, podIP: {address}}}\n"
            for pod, (node, address) in PODS.items()]
        policy = ("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
                  "metadata: {{name: p{0}}}\nspec: {{podSelector: {{matchLabels: {{app: {1}}}}}, "
                  "policyTypes: [{2}], {3}}}\n")
        documents += [
            policy.format(pod, pod, "Ingress", "ingress: [{from: [{podSelector: {matchLabels: "
                          f"{{app: client}}}}}}], ports: [{{port: {PORT}}}]}}]")
            for pod in ("near", "far")]
        documents.append(policy.format(
            "client", "client", "Egress", f"egress: [{{to: [{{podSelector: {{}}}}], "
            f"ports: [{{port: {PORT}}}]}}]"))
        for number in range(self.policies):
            block = f"172.16.{number % 256}.0/24"
            documents.append(policy.format(
                f"-{number}", ("near", "far", "client")[number % 3], "Ingress",
                f"ingress: [{{from: [{{ipBlock: {{cidr: {block}}}}}], "
                f"ports: [{{port: {9000 + number}}}]}}]"))
        return "---\n".join(documents)

    def start_agents(self) -> None:
        config = self.work / "config"
        config.mkdir(exist_ok=True)
        (config / "mesh.yaml").write_text(self.objects())
        for node in NODES:
            log = open(self.work / f"{node}.log", "w")
            self.agents.append(subprocess.Popen(
                inside(node) + [
                    self.agent, "run", "--node", node, "--config", str(config),
                    "--state", str(self.work / node), "--socket", str(self.work / node / "socket"),
                    "--cgroup", str(self.cgroup / node), "--bpffs", f"{self.work}/bpffs-{node}",
                    "--workers", "1"], stdout=log, stderr=log))
        for node in NODES:
            self.wait_ready(node)

    def wait_ready(self, node: str) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            asked = subprocess.run(
                ["curl", "-sf", "-m", "2", "-o", "/dev/null", "--unix-socket",
                 str(self.work / node / "socket"), "http://agent/readyz"])
            if asked.returncode == 0:
                return
            time.sleep(0.05)
        raise SystemExit(f"the agent of {node} does not serve: "
                         + (self.work / f"{node}.log").read_text())

    def stop_agents(self) -> None:
        if not self.agents:
            return
        self.end(self.agents)
        for node in NODES:
            subprocess.run(
                inside(node) + [self.agent, "cleanup", "--bpffs", f"{self.work}/bpffs-{node}",
                                "--cgroup", str(self.cgroup / node)],
                check=True, capture_output=True)

    @staticmethod
    def end(processes: list[subprocess.Popen]) -> None:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        processes.clear()

    def stream(self, pod: str, seconds: int) -> float:
        """Gbit/s of one TCP stream from the client, as the server received it."""
        command = inside("client") + [
            "iperf3", "-J", "-c", PODS[pod][1], "-p", str(PORT), "-t", str(seconds)]
        for _ in range(20):
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + 20)
            received = None
            if answer.returncode == 0:
                received = json.loads(answer.stdout)["end"].get("sum_received")
            if received:
                return received["bits_per_second"] / 1e9
            time.sleep(0.2)  # the server still ends its last test, or went before it told its sums
        raise SystemExit(f"iperf3 to {pod}: {answer.stdout}{answer.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--agent", default=str(root / ".build/release/malla-agent"))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--policies", type=int, default=100)
    options = parser.parse_args()
    figures: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="malla-throughput-") as work:
        os.chmod(work, 0o755)
        with Stage(pathlib.Path(work), options.agent, options.policies) as stage:
            for _ in range(options.rounds):
                for subject in ("none", "malla"):
                    if subject == "malla":
                        stage.start_agents()
                    for pod in ("near", "far"):
                        speed = stage.stream(pod, options.seconds)
                        figures.setdefault((pod, subject), []).append(speed)
                    stage.stop_agents()
    goals = json.loads((root / "Benchmarks/throughput_goals.json").read_text())
    missed = 0
    for pod in ("near", "far"):
        none = statistics.median(figures[pod, "none"])
        with_malla = statistics.median(figures[pod, "malla"])
        ratio = with_malla / none
        missed += ratio < goals[pod]
        print(f"{pod:5} none {none:6.2f} Gbit/s   with policies {with_malla:6.2f} Gbit/s   "
              f"ratio {ratio:.2f}  goal {goals[pod]}: {'met' if ratio >= goals[pod] else 'MISSED'}")
        for subject in ("none", "malla"):
            print(f"      {subject:5}", *(f"{speed:.1f}" for speed in figures[pod, subject]))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
