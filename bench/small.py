"""Measures the cost of libbus on a small machine, beside its budgets, and keeps one JSON line for each figure.

Run by `./dev bench-small`. Each program runs on one CPU and within 64 MiB of address space (taskset and prlimit),
everything counted, touched or not: dynamic libraries, heap, stacks. So the stacks of threads must be of a size that fits
a small machine; with the 8 MiB of a desktop the threads of NNG alone would reserve twice that. Exit status 0: it was
measured, whatever came out.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from bench import counted_line, keep, machine, today
from processes import cpu_s, free_port
from table import reached

MIB = 1 << 20
ADDRESS_SPACE = 64 * MIB
STACK = 256 << 10
ROUNDS = 21  # of the sensor program, one a second
PATIENCE = 30  # seconds until something that is on its way counts as lost


def confined(*command):
    """Runs the command on one of the allowed CPUs, within 64 MiB, without a process in between."""
    cpu = min(os.sched_getaffinity(0))
    limits = [f"--as={ADDRESS_SPACE}", f"--stack={STACK}"]
    return ["taskset", "-c", str(cpu), "prlimit", *limits, *map(str, command)]


@contextlib.contextmanager
def running(command, **streams):
    with subprocess.Popen(command, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_until(condition, process):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"bench-small: {process.args[-1]} did not come so far")
        time.sleep(0.05)


def peak_mib(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return max(int(line.split()[1]) for line in lines if line.startswith(("VmHWM", "VmRSS"))) / 1024


def settled_peak(process, name):
    """The peak memory of a program that waits for Enter, taken when it has not grown for half a second."""
    wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text().strip() == name, process)
    seen = []
    wait_until(lambda: seen.append(peak_mib(process)) or seen[-10:] == 10 * seen[-1:], process)
    return seen[-1]


def measure_empty(programs):
    with running(confined(programs / "small_empty"), stdin=subprocess.PIPE) as empty:
        return settled_peak(empty, "small_empty")


def measure_hello(build, empty_mib):
    """hello with an address, which waits for Enter, so it also has a link and its threads."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    socket_path = build / "hello.sock"
    socket_path.unlink(missing_ok=True)
    address = f"ipc://{socket_path}"
    with running(confined(build / "examples/hello", address), **pipes) as hello:
        wait_until(lambda: socket_path.exists(), hello)
        above = settled_peak(hello, "hello") - empty_mib
        yield "hello, listening: resident above an empty program", above, "MiB", 2


def measure_sensors(build):
    address = f"tcp://127.0.0.1:{free_port()}"
    ends = ["--count", str(ROUNDS + 1), "--timeout", str(ROUNDS + PATIENCE)]
    listener = [build / "tools/libbus", "sub", "--dial", address, *ends, "host/+/load/1min"]
    with (
        running(confined(build / "examples/host_sensors", "--listen", address)) as sensors,
        running(listener, stdout=subprocess.PIPE) as peer,
    ):
        peer.stdout.readline()  # a value has come, so the link is up
        begin, used = time.monotonic(), cpu_s([sensors.pid])
        if len(peer.stdout.readlines()) < ROUNDS:
            sys.exit("bench-small: the values of host_sensors did not come")
        percent = 100 * (cpu_s([sensors.pid]) - used) / (time.monotonic() - begin)
        yield "host_sensors, one tcp peer: resident", peak_mib(sensors), "MiB", 6
        yield "host_sensors, one tcp peer: CPU time at 1 Hz", percent, "%", 1


def measure_idle(programs):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(confined(programs / "small_idle"), **pipes) as idle:
        if idle.stdout.readline() != "idle\n":
            sys.exit("bench-small: small_idle did not come so far")
        threads = len(os.listdir(f"/proc/{idle.pid}/task"))
        yield "a bus without links: threads beside the program's own", threads - 1, "threads", 0


def measure_size(build):
    stripped = build / "libbus.stripped"
    subprocess.run(["strip", "-o", stripped, build / "libbus/libbus.so"], check=True)
    yield "the library, stripped", stripped.stat().st_size / MIB, "MiB", 1


def measure(build):
    programs = build / "bench/small"
    yield from measure_hello(build, measure_empty(programs))
    yield from measure_sensors(build)
    yield from measure_idle(programs)
    yield from measure_size(build)


def main():
    parser = argparse.ArgumentParser(prog="./dev bench-small", description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    build = options.build.resolve()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    print(
        f"one CPU (taskset), {ADDRESS_SPACE // MIB} MiB of address space and stacks of {STACK >> 10} KiB (prlimit)"
    )
    lines = []
    for case, value, unit, bar in measure(build):
        line = counted_line("small", case, value, unit, bar, payload=0)
        line |= {"machine": machine(build), "date": today()}
        answer = "reached" if reached(line) else "NOT reached"
        print(f"{case}: {value:.2f} {unit}, at most {bar}: {answer}", flush=True)
        lines.append(line)
    keep(options.results, lines, ["small"])


if __name__ == "__main__":
    main()
