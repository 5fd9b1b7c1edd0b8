"""Ctrl-C in any wait, while other threads publish: it raises soon, and the bus stays usable."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from patience import WATCHDOG

START = """
import asyncio, os, signal, sys, tempfile, threading, time
import libbus

signal.signal(signal.SIGINT, signal.default_int_handler)
bus = libbus.Bus({place})
stop = threading.Event()
bus.on("noise/#", lambda msg: msg.value, full="latest")
bus.on("held", lambda msg: stop.wait(60))
bus.on("slow/#", lambda msg: stop.wait(60), workers=2)
sub, busy = bus.subscribe("quiet"), bus.subscribe("noise/#")
questions = bus.subscribe("question")

def noise(n):
    while not stop.is_set():
        bus.publish(f"noise/{{n}}", [n, "x"])
for n in range(2):
    threading.Thread(target=noise, args=(n,), daemon=True).start()

async def listen():
    async for msg in bus.subscribe("quiet"):
        pass

async def listen_to_noise():
    async for msg in busy:
        pass

async def ask():
    await bus.request("question", 1, timeout=60)

# Ready inside the loop: an object interrupted in its constructor cannot be closed.
def run(work):
    async def tell():
        print("ready", flush=True)
        await work
    asyncio.run(tell())

def ready(wait):
    print("ready", flush=True)
    wait()

def iterate():
    for msg in busy:
        pass

def wait_for_room():
    with libbus.Bus() as small, small.subscribe("t", full="refuse", max_bytes=1024), small.publisher("t", wait=None) as p:
        p.send_many(range(10 ** 6))

def take_role():
    with libbus.Bus({place}) as other:
        taken = other.role("one")
        bus.role("one")

def close_held():
    other = libbus.Bus()
    other.on("held", lambda msg: stop.wait(60))
    other.publish("held", 1)
    try:
        other.close(timeout=60)
    finally:
        other.close(timeout=0)
        assert other.closed

def publish():
    while True:
        bus.publish("noise/main", 1)

def flush_held():
    bus.publish("held", 1)
    bus.flush(60)

def flush_slow():
    bus.publish("slow/a", 1)
    bus.flush(60)
"""

WAYS = {
    "recv": "ready(sub.recv)",
    "recv with a timeout": "ready(lambda: sub.recv(60))",
    "iteration": "ready(iterate)",
    "wait": 'ready(lambda: bus.wait("quiet", 60))',
    "request": 'ready(lambda: bus.request("question", 1, timeout=60))',
    "flush": "ready(flush_held)",
    "flush of workers": "ready(flush_slow)",
    "close": "ready(close_held)",
    "send": "ready(wait_for_room)",
    "publish": "ready(publish)",
    "async for": "run(listen())",
    "async for, busy": "run(listen_to_noise())",
    "await request": "run(ask())",
}
NAMED_WAYS = WAYS | {"role": "ready(take_role)"}

INTERRUPTED = """
try:
    {way}
except KeyboardInterrupt:
    print("interrupted", flush=True)
else:
    print("returned", flush=True)
"""

END = """
stop.set()
bus.publish("quiet", "after")
assert sub.recv(60).value == "after"
bus.close(60)
"""

LIMIT_S = 50  # less than what each waits for


@pytest.mark.parametrize(
    ("place", "ways"),
    [("", WAYS), ("'test', directory=sys.argv[1], log_bytes=4 << 20", NAMED_WAYS)],
    ids=["private", "named"],
)
def test_ctrl_c_ends_whatever_waits_and_the_bus_stays_usable(tmp_path, place, ways):
    parts = [
        START.format(place=place),
        *(INTERRUPTED.format(way=each) for each in ways.values()),
        END,
    ]
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", "".join(parts), tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = threading.Timer(WATCHDOG, process.kill)
        watchdog.start()
        try:
            for name in ways:
                assert process.stdout.readline() == "ready\n", name
                time.sleep(0.02)  # it waits by then; if it does not, the same must hold
                sent = time.monotonic()
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "interrupted\n", name
                assert time.monotonic() - sent < LIMIT_S, name
            _, err = process.communicate()
        finally:
            watchdog.cancel()
            process.kill()
    assert (process.returncode, err) == (0, "")
