"""How libbus does in Python beside what programs use today, in one run of interleaved rounds.

Run: ./dev bench python [CASE...] [--rounds N]. The cases are those of --list. Needs blinker, janus, pyzmq and NumPy, which ./dev
installs. Each round measures every case once, libbus and its peer one after the other; a line tells the medians and the median of the
ratios of the rounds, with the lowest and the highest. Above 1 libbus does more per second; of times below 1 libbus takes less.
"""

import argparse
import asyncio
import multiprocessing
import os
import queue
import signal
import statistics
import sys
import tempfile
import threading
import time
import traceback

import blinker
import janus
import numpy
import zmq

import libbus

now = time.perf_counter
SMALL = {"id": 17, "name": "sensor-17", "celsius": 21.5, "ok": True, "tags": ["a", "b"]}
BIG_QUEUE = 1 << 28


# --- callbacks, beside blinker -----------------------------------------------------------------------------------


def blinker_calls(payload, receivers, count, read):
    signal_ = blinker.Signal()
    seen = [0]

    def receiver(sender, message):
        read(message)
        seen[0] += 1

    held = [lambda sender, message, _n=n: receiver(sender, message) for n in range(receivers)]
    for each in held:
        signal_.connect(each)
    start = now()
    for _ in range(count):
        signal_.send("bench", message=payload)
    elapsed = now() - start
    assert seen == [receivers * count]
    return count / elapsed


def libbus_calls(payload, receivers, count, read):
    seen = [0]

    def receiver(msg):
        read(msg)
        seen[0] += 1

    with libbus.Bus() as bus:
        for n in range(receivers):
            bus.on("bench", lambda msg, _n=n: receiver(msg), max_bytes=BIG_QUEUE)
        start = now()
        for _ in range(count):
            bus.publish("bench", payload)
        bus.flush()
        elapsed = now() - start
    assert seen == [receivers * count]
    return count / elapsed


def calls(payload, receivers, count):
    value = not isinstance(payload, bytes)
    return (
        lambda: libbus_calls(
            payload, receivers, count, (lambda m: m.value) if value else (lambda m: m.data)
        ),
        lambda: blinker_calls(payload, receivers, count, lambda message: message),
    )


# --- threads, beside queue.Queue and janus -------------------------------------------------------------------------


def from_thread(send, receive, count):
    """Messages a second from another thread to this one."""
    thread = threading.Thread(target=send)
    start = now()
    thread.start()
    receive()
    elapsed = now() - start
    thread.join()
    return count / elapsed


def libbus_threads(count):
    with libbus.Bus() as bus, bus.subscribe("t", max_bytes=BIG_QUEUE) as sub:

        def send():
            publish = bus.publish
            for _ in range(count):
                publish("t", SMALL)

        def receive():
            recv = sub.recv
            for _ in range(count):
                recv().value  # noqa: B018

        return from_thread(send, receive, count)


def queue_threads(count):
    q = queue.Queue()

    def send():
        put = q.put
        for _ in range(count):
            put(SMALL)

    def receive():
        get = q.get
        for _ in range(count):
            get()

    return from_thread(send, receive, count)


def round_trips(send, receive, echo, count):
    """Seconds for each."""
    thread = threading.Thread(target=echo, args=(count,))
    thread.start()
    times = []
    for _ in range(count):
        start = now()
        send()
        receive()
        times.append(now() - start)
    thread.join()
    return times


def libbus_thread_trips(count):
    with libbus.Bus() as bus, bus.subscribe("there") as there, bus.subscribe("back") as back:

        def echo(count):
            for _ in range(count):
                bus.publish("back", there.recv().data)

        return round_trips(lambda: bus.publish("there", b"x" * 64), back.recv, echo, count)


def queue_thread_trips(count):
    there, back = queue.Queue(), queue.Queue()

    def echo(count):
        for _ in range(count):
            back.put(there.get())

    return round_trips(lambda: there.put(b"x" * 64), back.get, echo, count)


async def libbus_async(count):
    with libbus.Bus() as bus, bus.subscribe("t", max_bytes=BIG_QUEUE) as sub:

        def run():
            for _ in range(count):
                bus.publish("t", SMALL)

        thread = threading.Thread(target=run)
        start = now()
        thread.start()
        seen = 0
        async for msg in sub:
            seen += msg.value is not None
            if seen == count:
                break
        elapsed = now() - start
        thread.join()
        return count / elapsed


async def janus_async(count):
    q = janus.Queue()

    def run():
        for _ in range(count):
            q.sync_q.put(SMALL)

    thread = threading.Thread(target=run)
    start = now()
    thread.start()
    for _ in range(count):
        await q.async_q.get()
    elapsed = now() - start
    thread.join()
    await q.aclose()
    return count / elapsed


# --- processes, beside pyzmq and multiprocessing.Pipe -----------------------------------------------------------------


class Child:
    """A forked process that runs work(said), where said() tells the parent that it goes on."""

    def __init__(self, work):
        ready, says = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(ready)
                work(lambda: os.write(says, b"x"))
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            os._exit(0)
        os.close(says)
        self.ready = ready

    def wait(self):
        if not os.read(self.ready, 1):
            sys.exit("the other process of a measurement has ended early: its error stands above")

    def end(self, sig=None):
        if sig is not None:
            os.kill(self.pid, sig)
        os.waitpid(self.pid, 0)
        os.close(self.ready)


def libbus_processes(payload, count, read=lambda msg: msg.data):
    """No reader of a named bus holds up others, so the sender keeps to a window itself: half of the log."""
    size = payload.nbytes if hasattr(payload, "nbytes") else len(payload)
    window = max(8, min(20000, (8 << 20) // (size + 200)))
    step = window // 4
    with tempfile.TemporaryDirectory() as directory:

        def send(say):
            with (
                libbus.Bus("bench", directory=directory) as bus,
                bus.publisher("t") as pub,
                bus.subscribe("got") as got,
            ):
                say()
                got.recv(timeout=60)
                for sent in range(count):
                    if sent >= window and sent % step == 0:
                        got.recv(timeout=60)
                    pub.send(payload)
                bus.wait("end", timeout=60)

        child = Child(send)
        child.wait()
        with libbus.Bus("bench", directory=directory) as bus, bus.subscribe("t") as sub:
            bus.publish("got", b"")
            start = now()
            for received in range(1, count + 1):
                read(sub.recv(timeout=60))
                if received % step == 0:
                    bus.publish("got", b"")
            elapsed = now() - start
            assert sub.stats()["lost"] == 0
            bus.publish("end", b"", retain=True)
            child.end()
        return count / elapsed


def zmq_processes(payload, count):
    with tempfile.TemporaryDirectory() as directory:
        where = f"ipc://{directory}/socket"

        def send(say):
            socket = zmq.Context().socket(zmq.PUSH)
            socket.connect(where)
            say()
            for _ in range(count):
                socket.send(payload)
            signal.pause()

        context = zmq.Context()
        socket = context.socket(zmq.PULL)
        socket.bind(where)
        child = Child(send)
        child.wait()
        socket.recv()
        start = now()
        for _ in range(count - 1):
            socket.recv()
        elapsed = now() - start
        child.end(signal.SIGKILL)
        socket.close(0)
        context.term()
        return (count - 1) / elapsed


def pipe_processes(payload, count, *, objects=False):
    here, there = multiprocessing.Pipe()

    def send(say):
        say()
        give = there.send if objects else there.send_bytes
        for _ in range(count):
            give(payload)
        signal.pause()

    child = Child(send)
    child.wait()
    take = here.recv if objects else here.recv_bytes
    take()
    start = now()
    for _ in range(count - 1):
        take()
    elapsed = now() - start
    child.end(signal.SIGKILL)
    return (count - 1) / elapsed


def libbus_process_trips(count):
    with tempfile.TemporaryDirectory() as directory:

        def echo(say):
            with libbus.Bus("bench", directory=directory) as bus, bus.subscribe("there") as there:
                say()
                for _ in range(count):
                    bus.publish("back", there.recv(timeout=60).data)
                bus.wait("end", timeout=60)

        child = Child(echo)
        child.wait()
        with libbus.Bus("bench", directory=directory) as bus, bus.subscribe("back") as back:
            times = []
            for _ in range(count):
                start = now()
                bus.publish("there", b"x" * 64)
                back.recv(timeout=60)
                times.append(now() - start)
            bus.publish("end", b"", retain=True)
            child.end()
        return times


def pipe_process_trips(count):
    here, there = multiprocessing.Pipe()

    def echo(say):
        say()
        for _ in range(count):
            there.send_bytes(there.recv_bytes())

    child = Child(echo)
    child.wait()
    times = []
    for _ in range(count):
        start = now()
        here.send_bytes(b"x" * 64)
        here.recv_bytes()
        times.append(now() - start)
    child.end()
    return times


# --- the table --------------------------------------------------------------------------------------------------------


def part(trips, share):
    """1 / the time that this share of the round trips stays within, so that it compares as a rate does."""
    return lambda: 1 / sorted(trips())[int(share / 100 * TRIPS)]


TRIPS = 4000
ARRAY = numpy.arange(8192, dtype="float64")


def trips(ours, theirs, share):
    return part(lambda: ours(TRIPS), share), part(lambda: theirs(TRIPS), share)


def processes(size, count, theirs):
    payload = b"x" * size
    return lambda: libbus_processes(payload, count), lambda: theirs(payload, count)


# name: (case, the peer, the bar, whether it is a time, (ours, theirs))
CASES = {
    "calls-1": ("bytes to 1 callback", "blinker", 1.8, False, calls(b"x" * 64, 1, 50000)),
    "calls-10": ("bytes to 10 callbacks", "blinker", 2.2, False, calls(b"x" * 64, 10, 10000)),
    "calls-dict-1": ("small dict to 1 callback", "blinker", 1.0, False, calls(SMALL, 1, 50000)),
    "calls-dict-10": ("small dict to 10 callbacks", "blinker", 1.8, False, calls(SMALL, 10, 10000)),
    "threads": (
        "thread to thread, small dict",
        "queue.Queue",
        2.0,
        False,
        (lambda: libbus_threads(50000), lambda: queue_threads(50000)),
    ),
    "threads-trip": (
        "round trip of threads, p50",
        "queue.Queue",
        1.0,
        True,
        trips(libbus_thread_trips, queue_thread_trips, 50),
    ),
    "async": (
        "async for from another thread",
        "janus",
        2.0,
        False,
        (lambda: asyncio.run(libbus_async(30000)), lambda: asyncio.run(janus_async(30000))),
    ),
    "zmq-64": ("2 processes, 64 B", "pyzmq ipc", 6.0, False, processes(64, 100000, zmq_processes)),
    "zmq-1k": (
        "2 processes, 1 KiB",
        "pyzmq ipc",
        6.0,
        False,
        processes(1024, 100000, zmq_processes),
    ),
    "pipe-64": ("2 processes, 64 B", "Pipe", 4.0, False, processes(64, 100000, pipe_processes)),
    "pipe-1k": ("2 processes, 1 KiB", "Pipe", 4.0, False, processes(1024, 100000, pipe_processes)),
    "pipe-64k": ("2 processes, 64 KiB", "Pipe", 2.0, False, processes(65536, 8000, pipe_processes)),
    "pipe-1m": ("2 processes, 1 MiB", "Pipe", 1.2, False, processes(1000000, 500, pipe_processes)),
    "trip-p50": (
        "round trip of processes, p50",
        "Pipe",
        1.2,
        True,
        trips(libbus_process_trips, pipe_process_trips, 50),
    ),
    "trip-p99": (
        "round trip of processes, p99",
        "Pipe",
        1.5,
        True,
        trips(libbus_process_trips, pipe_process_trips, 99),
    ),
    "array": (
        "64 KiB float64 array",
        "Pipe",
        5.0,
        False,
        (
            lambda: libbus_processes(ARRAY, 8000, numpy.asarray),
            lambda: pipe_processes(ARRAY, 8000, objects=True),
        ),
    ),
}


def shown(rate, is_time):
    return f"{1e6 / rate:8.1f} µs" if is_time else f"{rate:8,.0f}/s"


def line(name, ours, theirs):
    case, peer, bar, is_time, _ = CASES[name]
    ratios = [
        other / mine if is_time else mine / other for mine, other in zip(ours, theirs, strict=True)
    ]
    middle = statistics.median(ratios)
    reached = middle <= bar if is_time else middle >= bar
    return (
        f"{name:14} {case:30} {shown(statistics.median(ours), is_time):>12}  {peer:12} {shown(statistics.median(theirs), is_time):>12}"
        f"  {middle:5.2f} ({min(ratios):.2f} to {max(ratios):.2f})  {'≤' if is_time else '≥'} {bar} {'reached' if reached else 'not reached'}"
    )


def main():
    parser = argparse.ArgumentParser(
        prog="./dev bench python",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all of them if none is named")
    parser.add_argument("--rounds", type=int, default=7, help="7 if it is not given")
    parser.add_argument("--list", action="store_true", help="the cases")
    options = parser.parse_args()
    if options.list:
        for name, (case, peer, *_) in CASES.items():
            print(f"{name:14} {case}, beside {peer}")
        return
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}: --list names them")
    names = options.cases or list(CASES)
    found = {name: ([], []) for name in names}
    for n in range(options.rounds):
        for name in names:
            if sys.stderr.isatty():
                print(f"\rround {n + 1} of {options.rounds}: {name:14}", end="", file=sys.stderr)
            for kept, side in zip(found[name], CASES[name][-1], strict=True):
                kept.append(side())
    if sys.stderr.isatty():
        print("\r" + " " * 40, end="\r", file=sys.stderr)
    for name in names:
        print(line(name, *found[name]))


if __name__ == "__main__":
    main()
