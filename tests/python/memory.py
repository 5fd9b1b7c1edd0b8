"""Leaks: each case passes many messages, and the process may not grow between a tenth of them and all.

memory.py [MESSAGES] [CASE...]     1,000,000 of each case

It compares memory in use (RSS, after malloc_trim), blocks allocated by Python, descriptors and threads.
"""

import array
import asyncio
import contextlib
import ctypes
import gc
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

import libbus

SLACK_BYTES = 6 << 20  # what allocators and caches may add
SLACK_BLOCKS = 2000
BATCH = 100


@dataclass
class Reading:
    celsius: float
    name: str


def publish_and_recv(bus):
    sub = bus.subscribe("t")
    while True:
        for n in range(BATCH):
            bus.publish("t", {"n": n, "text": "x" * n}, headers={"n": n})
        for _ in range(BATCH):
            assert sub.recv(timeout=60).value["text"] is not None
        yield


def publish_and_lose(bus):
    sub = bus.subscribe("t", full="drop_oldest", max_bytes=4096)
    while True:
        for _ in range(BATCH):
            bus.publish("t", b"x" * 100)
        assert sub.recv(timeout=60).data
        yield


def callbacks(bus):
    bus.on("t", lambda msg: msg.value)
    bus.on("t", lambda msg: msg.value, workers=2)
    while True:
        for n in range(BATCH):
            bus.publish("t", [n, "x"])
        bus.flush(60)
        yield


def requests(bus):
    bus.serve("double", lambda msg: 2 * msg.value)
    while True:
        for n in range(BATCH):
            assert bus.request("double", n, timeout=60).value == 2 * n
        yield


def typed(bus):
    sub = bus.subscribe("t", type=Reading)
    while True:
        for n in range(BATCH):
            bus.publish("t", Reading(n, "kitchen"))
        for n in range(BATCH):
            assert sub.recv(timeout=60).value == Reading(n, "kitchen")
        yield


def arrays(bus):
    sub, sent = bus.subscribe("t"), array.array("d", range(1000))
    while True:
        for _ in range(BATCH // 10):
            for _ in range(10):
                bus.publish("t", sent)
            for msg in [sub.recv(timeout=60) for _ in range(10)]:
                assert msg.value[999] == memoryview(msg)[999] == 999.0
        yield


def send_many(bus):
    sub, publisher = bus.subscribe("t"), bus.publisher("t")
    while True:
        assert publisher.send_many({"n": n} for n in range(BATCH)) == BATCH
        for msg in sub.iter(timeout=0):
            assert msg.json()
        yield


def retained(bus):
    while True:
        for n in range(BATCH):
            bus.publish(f"t/{n % 7}", {"n": n}, retain=True)
            assert bus.get(f"t/{n % 7}").value == {"n": n}
        with bus.subscribe("t/#") as sub:
            assert len(list(sub.iter(timeout=0))) == 7
        yield


def refused(bus):
    """Calls that raise leak nothing either."""
    sub = bus.subscribe("t", full="refuse", max_bytes=1024)
    while True:
        for n in range(BATCH):
            for wrong in ({"a": [object()]}, 2**70, bytes(2_000_000) if n == 0 else 1j):
                try:
                    bus.publish("t", wrong)
                except (TypeError, OverflowError, libbus.BusError):
                    continue
                raise AssertionError("it was published")
            with contextlib.suppress(libbus.DecodeError):
                libbus.unpackb(b"\x93\x01\xa5abc")
        assert sub.recv_nowait() is None
        yield


def subscribing(bus):
    while True:
        for _ in range(BATCH // 10):
            with bus.subscribe("a", "b/#") as sub, bus.subscribe("a", callback=print):
                bus.publish("b/c", 1)
                assert sub.recv(timeout=60).value == 1
        yield


def in_a_loop(bus):
    bus.serve("double", lambda msg: 2 * msg.value)
    loop = asyncio.new_event_loop()
    sub = bus.subscribe("t")

    async def some():
        task = asyncio.create_task(take())
        async with bus.publisher("t") as publisher:
            for n in range(BATCH // 2):
                await publisher.send(n)
        await task
        replies = await asyncio.gather(*(bus.request("double", n) for n in range(BATCH // 2)))
        assert replies[3].value == 6

    async def take():
        for _ in range(BATCH // 2):
            await anext(sub)

    while True:
        loop.run_until_complete(some())
        yield


CASES = {
    "publish and recv": publish_and_recv,
    "publish and lose": publish_and_lose,
    "callbacks": callbacks,
    "requests": requests,
    "typed": typed,
    "arrays": arrays,
    "send_many": send_many,
    "retained": retained,
    "refused": refused,
    "subscribing": subscribing,
    "asyncio": in_a_loop,
}
PRIVATE_ONLY = {"refused"}

trim = ctypes.CDLL(None).malloc_trim


def look():
    gc.collect()
    trim(0)
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        shared = 0
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("RssShmem"):
                shared = int(line.split()[1]) << 10  # the log of a named bus, which fills up
    return {
        "bytes": resident - shared,
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
    }


def grown(case, name, messages):
    """Returns the growth of each resource, and the seconds taken."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        where = {"directory": folder, "log_bytes": 4 << 20} if name else {}
        with libbus.Bus(name, **where) as bus:
            steps = CASES[case](bus)
            for _ in range(messages // 10 // BATCH):
                next(steps)
            before = look()
            for _ in range(messages * 9 // 10 // BATCH):
                next(steps)
            after = look()
    return {key: after[key] - before[key] for key in before}, time.monotonic() - begun


def is_leak(growth):
    # A pending operation may hold a descriptor or two.
    return (
        growth["bytes"] > SLACK_BYTES
        or growth["blocks"] > SLACK_BLOCKS
        or growth["descriptors"] > 2
        or growth["threads"] > 0
    )


def main(arguments):
    messages = int(arguments[0]) if arguments else 1_000_000
    leaks = 0
    for case in arguments[1:] or CASES:
        for name in (None,) if case in PRIVATE_ONLY else (None, "memory"):
            growth, seconds = grown(case, name, messages)
            leaks += is_leak(growth)
            print(
                f"{'LEAK' if is_leak(growth) else 'ok  '} {case:17} {name or 'private':8}"
                f" {growth['bytes'] >> 10:7} KiB {growth['blocks']:6} blocks"
                f" {growth['descriptors']:3} descriptors {growth['threads']:3} threads {seconds:7.1f} s",
                flush=True,
            )
    print(f"{messages} messages of each case, {leaks} grow")
    return int(leaks > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
