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
import statistics
import subprocess
import sys
import tempfile
import time

import pods

PREFIX = "malla-tp-"
NODES = {"n1": "10.32.0.1", "n2": "10.32.0.2"}
PODS = {"client": ("n1", "10.64.1.10"), "near": ("n1", "10.64.1.20"), "far": ("n2", "10.64.2.20")}
PORT = 5201


class Stage(pods.Stage):
    """Nodes, pods and their servers, and agents while there are some."""

    def __init__(self, work: pathlib.Path, agent: str, policies: int):
        super().__init__(work, PREFIX, NODES, PODS)
        self.agent, self.policies = agent, policies

    def build(self) -> None:
        super().build()
        for pod in ("near", "far"):
            self.start(pod, ["iperf3", "-s", "-p", str(PORT)], pod)

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
            self.start_agent(self.agent, node, config)

    def stop_agents(self) -> None:
        if not self.agents:
            return
        self.end(self.agents)
        for node in NODES:
            subprocess.run(
                self.inside(node) + [self.agent, "cleanup", "--bpffs", f"{self.work}/bpffs-{node}",
                                     "--cgroup", str(self.cgroup / node)],
                check=True, capture_output=True)

    def stream(self, pod: str, seconds: int) -> float:
        """Gbit/s of one TCP stream from the client, as the server received it."""
        command = self.inside("client") + [
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
