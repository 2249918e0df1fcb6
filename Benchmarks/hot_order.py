#!/usr/bin/env python3
"""Which functions a worker runs through: what hot.order lacks, from an agent that is under load.

  hot_order.py PID        names, in the order in which they are met; hot.order gets them by hand

Single-steps the busiest worker of the agent PID, which must be the build in .build/release. Prints
the functions with a section of their own that are entered at least once for ten requests and are
not listed; which lines have become too many OrderTests say. A step takes ten thousand times as long
as its instruction, so that what is done by the clock comes up as if each request did it: leave it
out. Clients wait for up to a minute: not for a node that serves. Ctrl-C ends it early; kill -9 of
this script ends the agent too. Needs root, x86-64, and the agent's toolchain.
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


def functions(process: int) -> dict[int, str]:
    """Where each function of the agent begins, in its file."""
    agent = f"/proc/{process}/exe"
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


class Stepper:
    """Takes a thread from one instruction to the next.

    A tracer that ends while the thread runs leaves it to die of its own trap; so what would end
    this script only raises a flag, and the thread is let go of where it stands.
    """

    def __init__(self, thread: int):
        self.thread = thread
        self.is_over = False
        self.words = (ctypes.c_uint64 * 64)()
        library = ctypes.CDLL(None, use_errno=True)
        self.call = library.ptrace
        self.call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.call.restype = ctypes.c_long
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.end)

    def end(self, *_):
        self.is_over = True

    def ask(self, request: int, data: int | None = None):
        if self.call(request, self.thread, None, data) < 0:
            sys.exit(f"hot_order.py: ptrace of {self.thread}: {os.strerror(ctypes.get_errno())}")

    def stop(self) -> int | None:
        """Waits until it stands; the signal that it was about to get, 0: none. None: it ended."""
        _, status = os.waitpid(self.thread, WALL)
        if not os.WIFSTOPPED(status):
            return None
        number = os.WSTOPSIG(status)
        return 0 if number == signal.SIGTRAP or status >> 16 else number

    def addresses(self, count: int) -> list[int]:
        """Of so many instructions, as it comes to them; fewer if it, or this script, is to end."""
        met: list[int] = []
        self.ask(SEIZE)
        self.ask(INTERRUPT)
        for _ in range(count):
            number = self.stop()
            if number is None or self.is_over:
                break
            self.ask(GETREGS, ctypes.addressof(self.words))
            met.append(self.words[RIP])
            self.ask(SINGLESTEP, number)
        else:
            number = self.stop()
        if number is not None:
            self.ask(DETACH, number)
        return met


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("process", type=int, metavar="PID")
    parser.add_argument("--steps", type=int, default=400_000, help="instructions (%(default)s)")
    options = parser.parse_args()
    begins, moved = functions(options.process), loaded_at(options.process)
    placeable, listed = sections(), set(ORDER.read_text().splitlines())
    stepper = Stepper(worker(options.process))
    entered = collections.Counter(
        begins[address - moved] for address in stepper.addresses(options.steps)
        if address - moved in begins)
    if stepper.is_over:
        return 1
    requests = sum(count for name, count in entered.items() if REQUEST in name)
    if not requests:
        sys.exit("hot_order.py: no request was served; is there load, and is this its build?")
    print(f"{requests} requests", file=sys.stderr)
    for name, count in entered.items():
        if count >= ENTERED_SHARE * requests and name in placeable:
            if f".text.{name}" not in listed:
                print(f".text.{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
