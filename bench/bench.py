"""Measures libbus beside other libraries, keeps one JSON line for each figure, and prints the table.

Run by `./dev bench`. Timed groups come from bench_time; instructions and system calls are counted
here, as the difference of two runs of bench_count that differ in nothing but how many messages they pass. Bytes of heap
come from bench_memory.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from table import ORDER, TIMED, lines_of, quantity, rows, text_table

PAYLOAD = 64
FEW, MANY = 6400, 19200  # messages of the two runs that are compared
LINK_WINDOW = 10000  # messages that are on their way over a link
RECORD = 88  # bytes that such a payload takes in a log


def run(command):
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def summary(profile):
    """The instructions that callgrind collected."""
    lines = profile.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("summary:"))


class Counter:
    """Counts the instructions and system calls of bench_count; a method returns those of one message."""

    def __init__(self, program, profiles, log):
        self.program, self.profiles, self.log = str(program), profiles, log

    def instructions(self, inside, callbacks=1, batch=1, *, named=False):
        """Inside the calls of one function of the library."""
        few, many = (self._callgrind(inside, n, callbacks, batch, named) for n in (FEW, MANY))
        return (many - few) / (MANY - FEW)

    def link(self, payload, *, user=False):
        """The instructions of the link threads of a sender and a receiver."""
        few, many = (
            self._callgrind_link(payload, n, user=user) for n in (2 * LINK_WINDOW, 6 * LINK_WINDOW)
        )
        return [(b - a) / (4 * LINK_WINDOW) for a, b in zip(few, many, strict=True)]

    def system_calls(self, *, named=False):
        few, many = (self._strace(n, named) for n in (FEW, MANY))
        return (many - few) / (MANY - FEW)

    def page_faults(self):
        """Page faults for each MiB of a log that the process writes, and reads, for the first time."""
        few, many = (self._page_faults(n) for n in (FEW, MANY))
        return (many - few) / ((MANY - FEW) * RECORD / (1 << 20))

    def memory(self):
        """The heap that one more object of each kind takes: its name and the bytes."""
        for line in run([str(Path(self.program).with_name("bench_memory"))]).splitlines():
            name, taken = line.split("\t")
            yield name, int(taken)

    def _where(self, named):
        return [self.log] if named else []

    def _callgrind(self, inside, messages, callbacks, batch, named):
        out = self.profiles / f"callgrind-{inside}-{callbacks}"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        only = f"--toggle-collect={inside}"
        counts = [str(messages), str(callbacks), str(batch)]
        run([*valgrind, only, self.program, *counts, *self._where(named)])
        return summary(out)

    def _callgrind_link(self, payload, messages, *, user):
        """Of the parent, which sends, and its child."""
        for old in self.profiles.glob("callgrind-link.*"):
            old.unlink()
        out = self.profiles / "callgrind-link.%p"
        valgrind = ["valgrind", "--tool=callgrind", "--trace-children=yes"]
        only = ["--toggle-collect=bus__session_send", "--toggle-collect=bus__session_parse"]
        program = str(Path(self.program).with_name("bench_count_links"))
        counts = ["ipc", str(payload), str(LINK_WINDOW), str(messages)]
        if user:
            counts.append(str(self.profiles / "users"))
        run([*valgrind, f"--callgrind-out-file={out}", *only, program, *counts])
        profiles = self.profiles.glob("callgrind-link.*")
        return [summary(file) for file in sorted(profiles, key=lambda file: int(file.suffix[1:]))]

    def _page_faults(self, messages):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        run([self.program, str(messages), "1", "1", *self._where(named=True)])
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before

    def _strace(self, messages, named):
        out = self.profiles / "strace"
        counts = [str(messages), "1", "1"]
        run(["strace", "-f", "-qq", "-o", str(out), self.program, *counts, *self._where(named)])
        return len(out.read_text().splitlines())


def count_instructions(counter):
    single = counter.instructions("bus_pub_send")
    single_64 = counter.instructions("bus_pub_send", callbacks=64)
    batch = counter.instructions("bus_pub_send_many", batch=16)
    delivery = counter.instructions("bus_dispatch")
    delivery_64 = counter.instructions("bus_dispatch", callbacks=64)
    yield "instructions per publish", single, "instructions", 80
    yield "instructions per message of a batch of 16", batch, "instructions", 30
    yield "instructions per delivery", delivery, "instructions", 60
    yield "instructions per callback, 64 in one mailbox", delivery_64 / 64, "instructions", None
    growth = 100 * (single_64 / single - 1)
    yield "growth of a publish from 1 to 64 subscribers", growth, "%", 10


def count_system_calls(counter):
    yield "system calls per message, drainer awake", counter.system_calls(), "calls", 0


def count_named(counter):
    single = counter.instructions("bus_pub_send", named=True)
    batch = counter.instructions("bus_pub_send_many", batch=16, named=True)
    delivery = counter.instructions("bus_dispatch", named=True)
    yield "instructions per publish, named bus", single, "instructions", 180
    yield "instructions per message of a batch of 16, named bus", batch, "instructions", 70
    yield "instructions per delivery, named bus", delivery, "instructions", None
    calls = counter.system_calls(named=True)
    yield "system calls per message, named bus, reader awake", calls, "calls", 0
    yield "page faults per MiB that is new to a process", counter.page_faults(), "faults", None


def count_links(counter):
    for payload in (64, 256, 1024):
        sent, received = counter.link(payload)
        what = f"per message of {payload:,} bytes over ipc, link thread of the"
        yield f"instructions {what} sender", sent, "instructions", None
        yield f"instructions {what} receiver", received, "instructions", None
    sent, received = counter.link(64, user=True)
    what = "per message of 64 bytes over ipc with user and password, link thread of the"
    yield f"instructions {what} sender", sent, "instructions", None
    yield f"instructions {what} receiver", received, "instructions", None


def count_memory(counter):
    for name, taken in counter.memory():
        yield name, taken, "bytes", None


COUNTED = {
    "instructions": count_instructions,
    "syscalls": count_system_calls,
    "named-counts": count_named,
    "link-counts": count_links,
    "memory": count_memory,
}


def counted_line(group, case, value, unit, bar, payload=PAYLOAD):
    return {
        "group": group,
        "case": case,
        "payload": payload,
        "ours": value,
        "peer": None,
        "peer_name": None,
        "ratio": value,
        "bar": bar,
        "aim": None,
        "sense": "at most",
        "unit": unit,
        "rounds": 1,  # a count, not a speed: it does not vary
        "line_rtt_ns": None,
        "quick": False,
    }


def count(groups, programs, results):
    # The default place of logs: on a disk every page of a log costs more.
    with tempfile.TemporaryDirectory(prefix="libbus-bench-", dir="/dev/shm") as log:
        counter = Counter(programs / "bench_count", results.parent, log)
        for group in groups:
            print(f"{group}: counting", flush=True)
            for case, value, unit, bar in COUNTED[group](counter):
                print(f"  {case}: {quantity(value, unit)}", flush=True)
                payload = 0 if group in ("memory", "link-counts") else PAYLOAD
                yield counted_line(group, case, value, unit, bar, payload)


def time(groups, programs, options):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "results")
        effort = ["-n", "3", "-t", "30"] if options.quick else []
        subprocess.run([programs / "bench_time", *effort, out, *groups], check=True)
        for line in lines_of(out):
            yield line | {"quick": options.quick}


def machine(build, optimization="-O2"):
    """The machine of the measurement, in a few words."""
    compiler = json.loads((build / "meson-info" / "intro-compilers.json").read_text())["host"]["c"]
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    cpus = len(os.sched_getaffinity(0))
    kernel = ".".join(platform.release().split(".")[:2])
    return f"{model}, {cpus} CPUs, {system}, Linux {kernel}, {compiler['id']} {compiler['version']} {optimization}"


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def keep(results, fresh, groups):
    """Replaces the lines of the groups that were measured."""
    lines = [line for line in lines_of(results) if line["group"] not in groups] + fresh
    lines.sort(key=lambda line: ORDER.index(line["group"]))
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="short runs, to test the benchmarks")
    parser.add_argument("case", nargs="*", help=f"of {', '.join((*TIMED, *COUNTED))}; none: all")
    options = parser.parse_args()
    groups = options.case or [*TIMED, *COUNTED]
    for group in groups:
        if group not in TIMED and group not in COUNTED:
            parser.error(f"there is no case '{group}'")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    programs = options.build / "bench"
    timed = [group for group in groups if group in TIMED]
    counted = [group for group in groups if group in COUNTED]
    fresh = list(time(timed, programs, options)) if timed else []
    fresh += count(counted, programs, options.results)
    for line in fresh:
        line |= {"machine": machine(options.build), "date": today()}
    keep(options.results, fresh, groups)
    print("\n" + text_table(rows(fresh)))


if __name__ == "__main__":
    main()
