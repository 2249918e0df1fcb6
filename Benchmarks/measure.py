"""What a proxy costs: processor time of its processes, and the load that it was given meanwhile."""

import dataclasses
import os
import pathlib
import re
import subprocess

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
IDLE_COLUMNS = {3, 4}  # idle and iowait of /proc/stat's first line, proc(5)


def family(process: int) -> list[int]:
    """A process and all that it started and that still live."""
    members, unread = [], [process]
    while unread:
        member = unread.pop()
        members.append(member)
        for children in pathlib.Path(f"/proc/{member}/task").glob("*/children"):
            try:
                unread += [int(child) for child in children.read_text().split()]
            except OSError:
                continue  # the thread ended between listing and reading
    return members


def processor_us(process: int | None) -> float:
    """User and system time of a process's family so far, in microseconds."""
    ticks = 0
    for member in family(process) if process else []:
        try:
            fields = pathlib.Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND * 1e6


def machine_us() -> float:
    """Busy time of all processors since boot, in microseconds."""
    columns = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    busy = sum(int(text) for column, text in enumerate(columns) if column not in IDLE_COLUMNS)
    return busy / TICKS_PER_SECOND * 1e6


def resident_kib(process: int) -> int:
    """VmRSS of a process's family, in KiB."""
    total = 0
    for member in family(process):
        try:
            status = pathlib.Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)
        total += int(found.group(1)) if found else 0
    return total


@dataclasses.dataclass
class Round:
    """One turn of load upon one proxy."""

    requests: int
    failed: int
    own_us: float  # the proxy's processor time a request
    whole_us: float  # the machine's
    per_second: float
    slowest: str  # 99th percentile, as wrk prints it


@dataclasses.dataclass
class Place:
    """Where wrk runs, as what stands before its name, and the address that it asks."""

    before: tuple[str, ...] = ("taskset", "-c", "0")
    address: str = "127.0.0.1"


def load(scenario, port: int, seconds: int, place: Place) -> tuple[int, int, float, str]:
    """Runs wrk; answers requests, failures, requests a second, 99th percentile."""
    scheme = "https" if scenario.tls else "http"
    command = [*place.before, "wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s"]
    command += ["--latency"] + (["-H", "Connection: close"] if scenario.closes else [])
    if scenario.host:
        command += ["-H", f"Host: {scenario.host}"]
    for number in range(scenario.fields):
        command += ["-H", f"x-field-{number}: {'v' * 48}"]
    command.append(f"{scheme}://{place.address}:{port}{scenario.path}")
    text = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=seconds + 30
    ).stdout

    requests = int(re.search(r"(\d+) requests in", text).group(1))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = int(refused.group(1)) if refused else 0
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    # wrk counts the end of a connection that it asked to be closed as a failed read.
    if errors:
        connect, read, write, timeout = map(int, errors.groups())
        failed += connect + write + timeout + (0 if scenario.closes else read)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    slowest = re.search(r"^\s+99%\s+(\S+)", text, re.M)
    return requests, failed, rate, slowest.group(1) if slowest else "-"


def measure(
    scenario, process: int | None, port: int, seconds: int, place: Place = Place()
) -> Round:
    """One round: what the proxy, if there is one, and the machine spent while wrk ran."""
    own, whole = processor_us(process), machine_us()
    requests, failed, rate, slowest = load(scenario, port, seconds, place)
    own, whole = processor_us(process) - own, machine_us() - whole
    divisor = max(requests, 1)
    return Round(requests, failed, own / divisor, whole / divisor, rate, slowest)
