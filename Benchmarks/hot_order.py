#!/usr/bin/env python3
"""Which functions a worker runs through: what hot.order lists, from an agent that is under load.

  hot_order.py PID                  new names, in the order in which they are met
  hot_order.py PID >> hot.order     after a look at them

Single-steps the busiest worker of the agent PID, which must be the build in .build/release. Prints
the sections that hot.order lacks and that one in ten of the requests enters; OrderTests says which
lines have become too many. Steps take a hundred times as long as what they count, so that what is
done by the clock (each second, each tick) comes up with many requests: leave it out. While it runs
(some 20 s) clients wait: not for a node that serves.
"""

import argparse
import collections
import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build/release"
ORDER = ROOT / "Sources/Programs/malla-agent/hot.order"
ENTERED_SHARE = 0.1
# What is entered once for each request: the measure of all others.
REQUEST = "L7Engine6WorkerC13beginExchange"

# ptrace(2)
SINGLESTEP, GETREGS, DETACH, SEIZE, INTERRUPT = 9, 12, 17, 0x4206, 0x4207
RIP = 16  # of struct user_regs_struct, in words
WALL = 0x40000000  # waitpid(2): __WALL


def sections() -> set[str]:
    """The functions that the linker can place one by one."""
    told = subprocess.run(
        ["swift", "-print-target-info"], check=True, capture_output=True, text=True)
    resources = pathlib.Path(json.loads(told.stdout)["paths"]["runtimeResourcePath"])
    objects = [str(path) for path in BUILD.glob("*.build/**/*.o")]
    objects += [str(resources.with_name("swift_static") / "linux/libswiftCore.a")]
    listed = subprocess.run(
        ["readelf", "-SW", *objects], check=True, capture_output=True, text=True)
    return {name[len(".text."):] for name in re.findall(r" (\.text\.\S+) +PROGBITS", listed.stdout)}


def functions(agent: pathlib.Path) -> dict[int, str]:
    """Where each function of the agent begins, in its file."""
    listed = subprocess.run(
        ["nm", "--defined-only", agent], check=True, capture_output=True, text=True)
    rows = (line.split() for line in listed.stdout.splitlines())
    return {int(row[0], 16): row[2] for row in rows if len(row) == 3 and row[1] in "tTwW"}


def loaded_at(process: int) -> int:
    """What the addresses of a position-independent agent are moved by."""
    maps = pathlib.Path(f"/proc/{process}/maps").read_text()
    agent = os.readlink(f"/proc/{process}/exe")
    return min(int(line.split("-")[0], 16) for line in maps.splitlines() if line.endswith(agent))


def worker(process: int) -> int:
    """The thread that has worked most."""
    found = []
    for thread in pathlib.Path(f"/proc/{process}/task").iterdir():
        if (thread / "comm").read_text().startswith("malla-worker"):
            fields = (thread / "stat").read_text().rpartition(")")[2].split()
            found.append((int(fields[11]) + int(fields[12]), int(thread.name)))
    if not found:
        sys.exit(f"hot_order.py: process {process} has no worker; name the agent that serves")
    return max(found)[1]


def steps(thread: int, count: int):
    """The address of each instruction that a thread comes to."""
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    library.ptrace.restype = ctypes.c_long
    words = (ctypes.c_uint64 * 64)()

    def ask(request: int, data=None):
        if library.ptrace(request, thread, None, data) < 0:
            raise OSError(ctypes.get_errno(), f"ptrace of thread {thread}")

    ask(SEIZE)
    ask(INTERRUPT)
    try:
        for _ in range(count):
            _, status = os.waitpid(thread, WALL)
            if not os.WIFSTOPPED(status):
                return
            ask(GETREGS, ctypes.addressof(words))
            yield words[RIP]
            ask(SINGLESTEP)
        os.waitpid(thread, WALL)
    finally:
        ask(DETACH)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("process", type=int, metavar="PID")
    parser.add_argument("--steps", type=int, default=400_000, help="instructions (%(default)s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves no thread stopped
    begins, moved = functions(BUILD / "malla-agent"), loaded_at(options.process)
    entered: collections.Counter[str] = collections.Counter()
    for address in steps(worker(options.process), options.steps):
        if name := begins.get(address - moved):
            entered[name] += 1
    requests = sum(count for name, count in entered.items() if REQUEST in name)
    if not requests:
        sys.exit("hot_order.py: no request was served; is there load, and is this its build?")
    print(f"{requests} requests", file=sys.stderr)
    listed, placeable = set(ORDER.read_text().splitlines()), sections()
    for name, count in entered.items():
        if count >= ENTERED_SHARE * requests and name in placeable:
            if f".text.{name}" not in listed:
                print(f".text.{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
