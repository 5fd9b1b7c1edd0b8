"""Measures the cost of lost pages: a page that never reads, a page whose host has vanished, a closed page.

lost_pages.py [--heartbeat SECONDS]     15 s, which is the default of pages

Each case prints its counts and limits; status 1 if a count is above its limit. The host vanishes in a separate network, which
`unshare` makes without root if the system allows it.
"""

import argparse
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import libbus
from libbus import _core

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

import sse
from patience import WATCHDOG

KIB_MOST = 64
CLOSED_MOST_S = 1
HEARTBEATS_MOST = 3  # one until something is sent, two until the kernel gives up
OURS, THEIRS = "10.113.0.1", "10.113.0.2"

VISITOR = """
import socket, sys, time
input()
page = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(page.recv(1000) != b"", flush=True)
input()
"""


class Heap(ctypes.Structure):
    """struct mallinfo2"""

    _fields_ = (
        ("_chunks", 4 * ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("_cached", 2 * ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("_free", 2 * ctypes.c_size_t),
    )


def heap_bytes():
    """Returns the bytes allocated in this process, by glibc: resident memory moves by whole pages, for many reasons."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Heap
    heap = libc.mallinfo2()
    return heap.uordblks + heap.hblkhd


class Pages:
    """Pages of a named bus, whose past lies in its log and not in this process."""

    def __init__(self, bus, heartbeat):
        self.push = _core.Push(bus, heartbeat=heartbeat)

    def add(self, listener, topic):
        connection, _ = listener.accept()
        number = self.push.add(connection.fileno(), [topic])
        connection.detach()
        return number

    def open(self, topic):
        """A page's number, and its other end."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname(), WATCHDOG)
            return self.add(listener, topic), ours

    def seconds_until_gone(self):
        start = time.monotonic()
        while self.push.stats()["pages"]:
            assert time.monotonic() < start + WATCHDOG, "the page is still there"
            time.sleep(0.001)
        return time.monotonic() - start


@contextlib.contextmanager
def pages(heartbeat):
    with (
        tempfile.TemporaryDirectory() as folder,
        libbus.Bus("lost", directory=folder) as bus,
    ):
        here = Pages(bus, heartbeat)
        try:
            yield bus, here
        finally:
            here.push.close(0)


def never_reads(heartbeat, stalled=100, rounds=3000):
    """Gives each page that never reads a separate topic, so that it shares no event with another. No heartbeat ends during the
    count: after two of them the kernel drops a peer that reads nothing."""
    with pages(max(heartbeat, 10 * WATCHDOG)) as (bus, here), contextlib.ExitStack() as ends:
        number, reader = here.open("read")
        ends.enter_context(reader)
        events = sse.read(iter(lambda: reader.recv(65536), b""))

        def publish(value):
            for n in range(stalled):
                bus.publish(f"stalled/{n}", value)
            bus.publish("read", value)
            for event in events:
                if event.name == "message":
                    return json.loads(event.data)["value"] == value

        for value in range(rounds // 10):  # makes what is there once for all
            publish(value)
        idle = [here.open(f"stalled/{n}") for n in range(stalled)]
        for _, connection in idle:
            ends.enter_context(connection)
        publish(-1)
        before, most, came = heap_bytes(), 0, 0
        for value in range(rounds):
            came += publish(value)
            if value % 100 == 99:
                most = max(most, (heap_bytes() - before) / stalled / 1024)
        waiting = max(here.push.page_stats(page)["waiting_bytes"] for page, _ in idle) / 1024
        lost = here.push.page_stats(number)["lost"]
        assert here.push.stats()["lost"] > 0, "the kernel's buffers took all events"
        yield f"never reads: events that wait, of {stalled} pages", waiting, "KiB", KIB_MOST
        yield (
            "never reads: memory for each, beside what a page costs that reads",
            most,
            "KiB",
            KIB_MOST,
        )
        missed = rounds - came + lost
        yield f"never reads: what another page missed of {rounds:,}", missed, "events", 0


def closed(heartbeat):
    with pages(heartbeat) as (_, here):
        _, connection = here.open("a")
        connection.close()
        yield "closed: until it is gone", here.seconds_until_gone(), "s", CLOSED_MOST_S


def ip(*words, of=None):
    other = ["nsenter", "--net", "--target", str(of)] if of else []
    subprocess.run([*other, "ip", *words], check=True)


def half_open(heartbeat):
    """Runs in a separate network, in which main() starts this program again."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "name", "here0", "type", "veth", "peer", "name", "there0")
    ip("address", "add", f"{OURS}/24", "dev", "here0")
    ip("link", "set", "here0", "up")
    with (
        pages(heartbeat) as (_, here),
        socket.create_server((OURS, 0)) as listener,
        subprocess.Popen(
            [
                "unshare",
                "--net",
                sys.executable,
                "-c",
                VISITOR,
                OURS,
                str(listener.getsockname()[1]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as visitor,
    ):
        try:
            until_own_network(visitor.pid)
            ip("link", "set", "there0", "netns", str(visitor.pid))
            ip("address", "add", f"{THEIRS}/24", "dev", "there0", of=visitor.pid)
            ip("link", "set", "there0", "up", of=visitor.pid)
            say(visitor)
            here.add(listener, "a")
            assert visitor.stdout.readline() == b"True\n"
            ip("link", "set", "there0", "down", of=visitor.pid)
            gone_s = here.seconds_until_gone()
            yield "half-open: until it is gone", gone_s, "s", HEARTBEATS_MOST * heartbeat
        finally:
            visitor.kill()


def until_own_network(pid):
    end, ours = time.monotonic() + WATCHDOG, os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{pid}/ns/net") == ours:
        assert time.monotonic() < end, "unshare made no network"
        time.sleep(0.01)


def say(process):
    process.stdin.write(b"\n")
    process.stdin.flush()


CASES = {"never-reads": never_reads, "closed": closed, "half-open": half_open}
AS_ROOT = () if os.geteuid() == 0 else ("--user", "--map-root-user")
IN_A_NETWORK = ("unshare", *AS_ROOT, "--net")


def has_networks():
    """Returns whether this system lets `unshare` make a network."""
    try:
        command = [*IN_A_NETWORK, "ip", "link", "add", "name", "a0", "type", "veth"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def in_a_network(heartbeat, patient=False):
    command = [*IN_A_NETWORK, sys.executable, __file__, "--case", "half-open"]
    command += ["--heartbeat", str(heartbeat), *(["--patient"] if patient else [])]
    return subprocess.run(command, check=False).returncode == 0


def measure(case, heartbeat, patient=False):
    """Prints the counts of a case. Returns whether all are within their limits; patient: times may be ten times as long."""
    well = True
    for label, count, unit, most in CASES[case](heartbeat):
        print(f"{label:66} {count:8,.3f} {unit}, of at most {most:g}", flush=True)
        well &= count <= most * (10 if patient and unit == "s" else 1)
    return well


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heartbeat", type=float, default=15, metavar="SECONDS")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--patient", action="store_true", help="ten times the limits of times")
    options = parser.parse_args()
    if options.case:
        return not measure(options.case, options.heartbeat, options.patient)
    well = measure("never-reads", options.heartbeat)
    well &= measure("closed", options.heartbeat, options.patient)
    if not has_networks():
        print("half-open: not measured, as this system lets `unshare` make no network")
        return not well
    return not (in_a_network(options.heartbeat, options.patient) and well)


if __name__ == "__main__":
    sys.exit(main())
