#!/usr/bin/env python3
"""Malla beside its peers, on this machine, in one run.

The figure is processor time a request, user and system, of all processes of a proxy; `whole` is the
machine's. Only ratios between proxies of one run mean anything: rounds alternate, medians are
compared. Goals stand in goals.json; exit 1 says that one was missed, 2 that a request failed.

All listens on 127.0.0.1, in a network namespace of its own when run as root.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import measure
import peers

READY_SECONDS = 20


@dataclasses.dataclass
class Scenario:
    name: str
    path: str = "/small"
    connections: int = 64
    fields: int = 0
    closes: bool = False
    tls: bool = False
    host: str | None = None  # asked for instead of the address


SCENARIOS = [
    Scenario("h1-small"),
    Scenario("h1-c256", connections=256),
    Scenario("h1-headers", path="/2k", fields=20),
    Scenario("h1-64k", path="/64k", connections=32),
    Scenario("h1-1m", path="/1m", connections=8),
    Scenario("h1-close", closes=True),
    Scenario("tls-small", tls=True),
    Scenario("tls-close", connections=32, closes=True, tls=True),
]


class Stage:
    """The backend and the proxies of one scenario; ends all that it started."""

    def __init__(self, work: pathlib.Path):
        self.work = work
        self.running: list[subprocess.Popen] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            try:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(timeout=15)
            except ProcessLookupError:
                continue
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def start(self, name: str, command: list[str], port: int, processor: int) -> int:
        """Runs a program until its port answers; the process's number."""
        log = self.work / f"{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["taskset", "-c", str(processor), *command],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.running.append(process)
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process.pid
            time.sleep(0.05)
        raise SystemExit(f"{name} does not listen on port {port}:\n{log.read_text()[-800:]}")


def run(scenario: Scenario, chosen: list[peers.Peer], options) -> dict[str, list[measure.Round]]:
    """All rounds of one scenario, by proxy."""
    hosts = [f"host-{number}.bench.example" for number in range(options.routes)]
    rounds: dict[str, list[measure.Round]] = {}
    with tempfile.TemporaryDirectory(prefix="malla-bench-") as folder:
        work = pathlib.Path(folder)
        work.chmod(0o755)
        peers.certificate(work)
        with Stage(work) as stage:
            stage.start("backend", peers.backend(work), peers.BACKEND_PORT, 0)
            live = []
            for peer in chosen:
                command = peer.command(scenario, work, hosts)
                if command:
                    live.append((peer, stage.start(peer.name, command, peer.port, 1)))
            for peer, process in live:
                measure.measure(scenario, process, peer.port, 1)
            for turn in range(options.rounds):
                first = turn % len(live)
                for peer, process in live[first:] + live[:first]:
                    result = measure.measure(scenario, process, peer.port, options.seconds)
                    rounds.setdefault(peer.name, []).append(result)
            for peer, process in live:
                print(f"  {peer.name}: {measure.resident_kib(process) / 1024:.1f} MiB resident")
    return rounds


def report(scenario: Scenario, rounds: dict[str, list[measure.Round]], goals: dict) -> dict:
    """Prints a scenario's table; answers what goals.json may be compared with."""
    own = {name: statistics.median(each.own_us for each in all_) for name, all_ in rounds.items()}
    whole = {
        name: statistics.median(each.whole_us for each in all_) for name, all_ in rounds.items()
    }
    failed = sum(each.failed for all_ in rounds.values() for each in all_)
    print(f"{scenario.name}: {'PROXY':10}{'OWN us':>9}{'WHOLE us':>10}{'REQ/S':>10}{'P99':>10}")
    for name, all_ in rounds.items():
        rate = statistics.median(each.per_second for each in all_)
        print(f"  {name:18}{own[name]:9.2f}{whole[name]:10.2f}{rate:10.0f}{all_[-1].slowest:>10}")
    missed = []
    for kind, figures in (("own", own), ("whole", whole)):
        for name, most in goals.get(scenario.name, {}).get(kind, {}).items():
            if name not in figures or "malla" not in figures:
                continue
            ratio = figures["malla"] / figures[name]
            held = "held" if ratio <= most else "MISSED"
            print(f"  malla / {name}, {kind}: {ratio:.2f} (goal {most:.2f}: {held})")
            if ratio > most:
                missed.append(f"{scenario.name} {kind} / {name}: {ratio:.2f} > {most:.2f}")
    if failed:
        print(f"  {failed} requests failed")
    return {"own_us": own, "whole_us": whole, "failed": failed, "missed": missed}


def conclude(results: dict[str, dict]) -> int:
    """Says which goals were missed; the exit status."""
    missed = [line for result in results.values() for line in result["missed"]]
    print("\n".join(f"missed: {line}" for line in missed) or "every goal held")
    if any(result["failed"] for result in results.values()):
        return 2
    return 1 if missed else 0


def goals() -> dict[str, dict]:
    return json.loads(pathlib.Path(__file__).with_name("goals.json").read_text())


def into_own_namespace() -> None:
    """Loopback of our own, with a congestion control that does not pace (others do on loopback)."""
    if os.geteuid() != 0 or "MALLA_BENCH_INSIDE" in os.environ:
        return
    os.environ["MALLA_BENCH_INSIDE"] = "1"
    script = 'ip link set lo up; sysctl -qw net.ipv4.tcp_congestion_control=reno; exec "$@"'
    os.execvp(
        "unshare", ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, *sys.argv]
    )


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", action="append", choices=names)
    parser.add_argument("--proxy", action="append", choices=[peer.name for peer in peers.ALL])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of a round")
    parser.add_argument("--routes", type=int, default=100, help="host names beside the measured")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there, too")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    for program in ("wrk", "nginx", "openssl", "taskset"):
        if not shutil.which(program):
            raise SystemExit(f"bench: no {program}; make prepare installs it")
    into_own_namespace()
    chosen = []
    for peer in peers.ALL:
        if options.proxy and peer.name not in options.proxy:
            continue
        if missing := peer.missing():
            print(f"left out {peer.name}: {missing}")
            continue
        chosen.append(peer)
    results = {}
    for scenario in SCENARIOS:
        if not options.scenario or scenario.name in options.scenario:
            results[scenario.name] = report(scenario, run(scenario, chosen, options), goals())
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return conclude(results)


if __name__ == "__main__":
    sys.exit(main())
