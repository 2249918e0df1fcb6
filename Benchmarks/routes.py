#!/usr/bin/env python3
"""What a request costs with few HTTPRoutes and with many: two agents in one run, rounds alternate.

Requests go in turn to the route for all other hosts and to one that names its host. Exit 1 says
that the larger number of routes costs a tenth more, 2 that a request failed.
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys
import tempfile

import bench
import measure
import peers

RATIO_MAX = 1.10


class Agent(peers.Malla):
    """An agent with so many routes, in a folder of its own."""

    def __init__(self, routes: int, port: int):
        self.name, self.port, self.routes = f"{routes} routes", port, routes

    def start(self, stage: bench.Stage, scenario) -> int:
        folder = stage.work / str(self.routes)
        folder.mkdir()
        hosts = [f"host-{number}.bench.example" for number in range(self.routes)]
        command = self.command(scenario, folder, hosts)
        return stage.start(str(self.routes), command, self.port, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, nargs=2, default=[10, 10_000])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=3, help="of a round")
    options = parser.parse_args()
    bench.into_own_namespace()
    scenario = bench.Scenario("routes")
    named = dataclasses.replace(scenario, host="host-7.bench.example")
    agents = [Agent(count, 18500 + index) for index, count in enumerate(options.routes)]
    rounds: dict[str, list[measure.Round]] = {agent.name: [] for agent in agents}
    with tempfile.TemporaryDirectory(prefix="malla-bench-") as folder:
        work = pathlib.Path(folder)
        work.chmod(0o755)
        with bench.Stage(work) as stage:
            stage.start("backend", peers.backend(work), peers.BACKEND_PORT, 0)
            live = [(agent, agent.start(stage, scenario)) for agent in agents]
            for agent, process in live:
                measure.measure(scenario, process, agent.port, 1)
            for turn in range(options.rounds):
                for agent, process in live if turn % 4 < 2 else reversed(live):
                    asked = named if turn % 2 else scenario
                    result = measure.measure(asked, process, agent.port, options.seconds)
                    rounds[agent.name].append(result)
    own = {name: statistics.median(one.own_us for one in all_) for name, all_ in rounds.items()}
    for name, figure in own.items():
        print(f"{name}: {figure:.2f} us of processor time a request")
    few, many = own.values()
    verdict = "held" if many / few <= RATIO_MAX else "MISSED"
    print(f"{many / few:.2f} times (goal {RATIO_MAX:.2f}: {verdict})")
    if any(one.failed for all_ in rounds.values() for one in all_):
        return 2
    return 0 if verdict == "held" else 1


if __name__ == "__main__":
    sys.exit(main())
