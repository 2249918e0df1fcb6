"""Nodes and pods made of network namespaces, for measurements that loopback cannot show.

Every name begins with the stage's prefix; all of it is removed at the end, and before the beginning
what a run that crashed has left, but for the files in its folder.
"""

import os
import pathlib
import signal
import subprocess
import time

READY_SECONDS = 20


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, text=True, capture_output=True).stdout


class Stage:
    """Two nodes with a wire between them, and pods on them; agents while there are some."""

    def __init__(
        self,
        work: pathlib.Path,
        prefix: str,
        nodes: dict[str, str],
        pods: dict[str, tuple[str, str]],
        congestion: str | None = None,
    ):
        self.work, self.prefix, self.nodes, self.pods = work, prefix, nodes, pods
        self.congestion = congestion
        mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        root = next(mount[1] for mount in mounts if mount[2] == "cgroup2")
        self.cgroup = pathlib.Path(root, prefix + "bench")
        self.running: list[subprocess.Popen] = []
        self.agents: list[subprocess.Popen] = []

    def __enter__(self):
        self.remove()
        self.unmount_earlier()
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.end(self.agents)
        self.end(self.running)
        self.remove()

    def build(self) -> None:
        for name in [*self.nodes, *self.pods]:
            sh(f"ip netns add {self.prefix}{name}; ip -n {self.prefix}{name} link set lo up")
        one, other = self.nodes
        sh(f"ip -n {self.prefix}{one} link add up0 type veth peer name up0"
           f" netns {self.prefix}{other}")
        for node, address in self.nodes.items():
            at = self.prefix + node
            sh(f"ip -n {at} addr add {address}/24 dev up0; ip -n {at} link set up0 up")
            self.set(node, "net.ipv4.ip_forward=1")
            (self.cgroup / node / "agent").mkdir(parents=True)
            (self.work / node).mkdir()
            (self.work / f"bpffs-{node}").mkdir()
            sh(f"mount -t bpf bpf {self.work}/bpffs-{node}")
        for pod, (node, address) in self.pods.items():
            self.join(pod, node, address)
        if self.congestion:
            for name in [*self.nodes, *self.pods]:
                self.set(name, f"net.ipv4.tcp_congestion_control={self.congestion}")

    def join(self, pod: str, node: str, address: str) -> None:
        """A pod's interface, its routes, and those of the nodes to it."""
        at, own = self.prefix + node, self.prefix + pod
        sh(f"ip -n {at} link add lxc-{pod} type veth peer name eth0 netns {own}"
           f" && ip -n {at} addr add 169.254.1.1/32 dev lxc-{pod}"
           f" && ip -n {at} link set lxc-{pod} up"
           f" && ip -n {at} route add {address}/32 dev lxc-{pod}"
           f" && ip -n {own} addr add {address}/32 dev eth0 && ip -n {own} link set eth0 up"
           f" && ip -n {own} route add 169.254.1.1 dev eth0"
           f" && ip -n {own} route add default via 169.254.1.1 src {address}")
        for other in self.nodes:
            if other != node:
                sh(f"ip -n {self.prefix}{other} route add {address}/32 via {self.nodes[node]}")
        (self.cgroup / node / pod).mkdir()

    def set(self, name: str, setting: str) -> None:
        subprocess.run(self.inside(name) + ["sysctl", "-qw", setting], check=True)

    def remove(self) -> None:
        for node in self.nodes:
            subprocess.run(["umount", self.work / f"bpffs-{node}"], capture_output=True)
        if self.cgroup.is_dir():
            (self.cgroup / "cgroup.kill").write_text("1")
            end = time.monotonic() + READY_SECONDS
            while "populated 1" in (self.cgroup / "cgroup.events").read_text():
                if time.monotonic() > end:
                    raise SystemExit(f"{self.cgroup} does not become empty")
                time.sleep(0.01)
            for folder in sorted(self.cgroup.glob("**/"), reverse=True):
                folder.rmdir()
        for name in [*self.nodes, *self.pods]:
            subprocess.run(["ip", "netns", "del", self.prefix + name], capture_output=True)

    def unmount_earlier(self) -> None:
        """What is mounted in the folders of earlier runs, whose names end otherwise."""
        kind = self.work.name.rpartition("-")[0] + "-"
        for line in pathlib.Path("/proc/mounts").read_text().splitlines():
            at, system = pathlib.Path(line.split()[1]), line.split()[2]
            is_ours = at.parent.name.startswith(kind) and at.name.startswith("bpffs-")
            if is_ours and system == "bpf":
                subprocess.run(["umount", at], capture_output=True)

    def inside(self, name: str) -> list[str]:
        """Of a command: it keeps the mounts, which `ip netns exec` does not."""
        return ["nsenter", f"--net=/run/netns/{self.prefix}{name}"]

    def member(self, name: str) -> list[str]:
        """Of a command: in the namespace and the cgroup of a pod, or of a node's agent."""
        leaf = f"{self.pods[name][0]}/{name}" if name in self.pods else f"{name}/agent"
        script = 'echo $$ >"$0" && exec "$@"'
        return ["sh", "-c", script, f"{self.cgroup}/{leaf}/cgroup.procs", *self.inside(name)]

    def start(self, name: str, command: list[str], at: str) -> subprocess.Popen:
        """Runs a program in a pod or on a node."""
        with (self.work / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                self.member(at) + command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True)  # fmt: skip
        self.running.append(process)
        return process

    def start_agent(self, agent: str, node: str, config: pathlib.Path) -> int:
        """Runs `malla-agent` on a node until it is ready; the process's number."""
        state = self.work / node
        process = self.start(node, [
            agent, "run", "--node", node, "--config", str(config), "--state", str(state),
            "--socket", str(state / "socket"), "--cgroup", str(self.cgroup / node),
            "--bpffs", f"{self.work}/bpffs-{node}", "--workers", "1"], node)
        self.running.remove(process)
        self.agents.append(process)
        self.wait(["curl", "-sf", "-m", "2", "-o", "/dev/null", "--unix-socket",
                   str(state / "socket"), "http://agent/readyz"], f"the agent of {node}", node)
        return process.pid

    def wait(self, command: list[str], what: str, name: str) -> None:
        """Until the command succeeds; `name` is whose log says why it does not."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if subprocess.run(command).returncode == 0:
                return
            time.sleep(0.05)
        log = self.work / f"{name}.log"
        text = log.read_text()[-800:] if log.exists() else ""
        raise SystemExit(f"{what} does not serve: {text}")

    @staticmethod
    def end(processes: list[subprocess.Popen]) -> None:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        processes.clear()
