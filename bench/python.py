"""libbus in Python beside other libraries, in one run of interleaved rounds.

Run: ./dev bench python [CASE...] [--rounds N]. The cases are those of --list. Needs blinker, janus, msgpack, pyzmq, NumPy and valgrind,
which ./dev installs. Each round measures every case once, libbus and its peer one after the other; a line tells the medians and the
median of the ratios of the rounds, with the lowest and the highest. Above 1 libbus does more per second; of times below 1 libbus takes
less. A run of all cases is kept for ./dev bench-page.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import blinker
import janus
import msgpack
import numpy
import steps
import values
import zmq
from bench import keep, machine, today
from table import bar, number, quantity, reached

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
    """A forked process that runs work(said), where said() signals the parent."""

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
    """No reader of a named bus blocks the writer, so the sender limits itself to a window: half of the log."""
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


def zmq_processes(payload, count, *, push=False):
    """No bound on what waits (a high-water mark of 0), so that PUB drops nothing and PUSH does not stop. The sender is an XPUB, a PUB
    that says when it is subscribed to."""
    with tempfile.TemporaryDirectory() as directory:
        where = f"ipc://{directory}/socket"

        def send(say):
            socket = zmq.Context().socket(zmq.PUSH if push else zmq.XPUB)
            socket.set_hwm(0)
            socket.connect(where)
            say()
            if not push:
                socket.recv()
            for _ in range(count):
                socket.send(payload)
            signal.pause()

        context = zmq.Context()
        socket = context.socket(zmq.PULL if push else zmq.SUB)
        socket.set_hwm(0)
        socket.bind(where)
        if not push:
            socket.subscribe(b"")
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


def zmq_pushes(payload, count):
    return zmq_processes(payload, count, push=True)


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


def reads(work):
    """1 / the time that it takes, as part() has it."""
    return lambda: 1 / work()


def value_read(kind, ours, theirs):
    """ours of a message with that value, theirs of its msgpack or of itself."""
    value, count = values.CASES[kind]
    given = libbus.packb(value) if theirs is msgpack.unpackb else value

    def mine():
        with libbus.Bus() as bus:
            return values.seconds(ours, values.messages(bus, value, count))

    return reads(mine), reads(lambda: values.seconds(theirs, [given] * count))


# name: (case, bytes of the payload, the peer, the bar, whether it is a time, (ours, theirs))
CASES = {
    "calls-1": ("bytes to 1 callback", 64, "blinker", 1.8, False, calls(b"x" * 64, 1, 50000)),
    "calls-10": ("bytes to 10 callbacks", 64, "blinker", 2.2, False, calls(b"x" * 64, 10, 10000)),
    "calls-dict-1": ("small dict to 1 callback", 0, "blinker", 1.0, False, calls(SMALL, 1, 50000)),
    "calls-dict-10": ("small dict to 10 callbacks", 0, "blinker", 1.8, False, calls(SMALL, 10, 10000)),
    "threads": (
        "thread to thread, small dict", 0, "queue.Queue", 2.0, False,
        (lambda: libbus_threads(50000), lambda: queue_threads(50000)),
    ),
    "threads-trip": (
        "round trip of two threads, p50", 64, "queue.Queue", 1.0, True,
        trips(libbus_thread_trips, queue_thread_trips, 50),
    ),
    "async": (
        "async for from another thread, small dict", 0, "janus", 2.0, False,
        (lambda: asyncio.run(libbus_async(30000)), lambda: asyncio.run(janus_async(30000))),
    ),
    "zmq-64": ("2 processes in Python", 64, "pyzmq PUB/SUB", 6.0, False, processes(64, 100000, zmq_processes)),
    "zmq-1k": ("2 processes in Python", 1024, "pyzmq PUB/SUB", 6.0, False, processes(1024, 100000, zmq_processes)),
    "zmq-push-64": ("2 processes in Python", 64, "pyzmq PUSH/PULL", 6.0, False, processes(64, 100000, zmq_pushes)),
    "zmq-push-1k": ("2 processes in Python", 1024, "pyzmq PUSH/PULL", 6.0, False, processes(1024, 100000, zmq_pushes)),
    "pipe-64": ("2 processes in Python", 64, "multiprocessing.Pipe", 4.0, False, processes(64, 100000, pipe_processes)),
    "pipe-1k": ("2 processes in Python", 1024, "multiprocessing.Pipe", 4.0, False, processes(1024, 100000, pipe_processes)),
    "pipe-64k": ("2 processes in Python", 65536, "multiprocessing.Pipe", 2.0, False, processes(65536, 8000, pipe_processes)),
    "pipe-1m": ("2 processes in Python", 1000000, "multiprocessing.Pipe", 1.2, False, processes(1000000, 500, pipe_processes)),
    "trip-p50": (
        "round trip of two processes, p50", 64, "multiprocessing.Pipe", 1.2, True,
        trips(libbus_process_trips, pipe_process_trips, 50),
    ),
    "trip-p99": (
        "round trip of two processes, p99", 64, "multiprocessing.Pipe", 1.5, True,
        trips(libbus_process_trips, pipe_process_trips, 99),
    ),
    "value-small": (
        ".value of a small dict", 0, "msgpack.unpackb", 1.0, True,
        value_read("small dict", values.read_value, msgpack.unpackb),
    ),
    "value-large": (
        ".value of a large dict", 0, "msgpack.unpackb", 1.0, True,
        value_read("large dict", values.read_value, msgpack.unpackb),
    ),
    "json-large": (
        ".json() of a large dict", 0, "json.dumps", 0.3, True,
        value_read("large dict", values.read_json, json.dumps),
    ),
    "array": (
        "array of float64, dtype and shape kept", 65536, "multiprocessing.Pipe", 5.0, False,
        (
            lambda: libbus_processes(ARRAY, 8000, numpy.asarray),
            lambda: pipe_processes(ARRAY, 8000, objects=True),
        ),
    ),
}  # fmt: skip


def shown(rate, is_time):
    return f"{1e6 / rate:8.1f} µs" if is_time else f"{rate:8,.0f}/s"


def text(name, result):
    is_time = CASES[name][4]
    ours, theirs = (1e9 / v if is_time else v for v in (result["ours"], result["peer"]))
    return (
        f"{name:14} {result['case']:42} {shown(ours, is_time):>12}  {result['peer_name']:20} {shown(theirs, is_time):>12}"
        f"  {number(result['ratio']):>5} ({number(result['ratio_min'])} to {number(result['ratio_max'])})  {bar(result)}"
        f" {'reached' if reached(result) else 'not reached'}"
    )


def result(name, ours, theirs):
    """The medians of the rounds, and of their ratios, as ./dev bench keeps a figure."""
    case, payload, peer, bar, is_time, _ = CASES[name]
    ratios = [
        other / mine if is_time else mine / other for mine, other in zip(ours, theirs, strict=True)
    ]
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "group": "python",
        "case": case,
        "payload": payload,
        "ours": 1e9 / mine if is_time else mine,
        "peer": 1e9 / other if is_time else other,
        "peer_name": peer,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "bar": bar,
        "aim": None,
        "sense": "at most" if is_time else "at least",
        "unit": "ns" if is_time else "messages/s",
        "rounds": len(ours),
        "line_rtt_ns": None,
        "quick": len(ours) < ROUNDS,
    }


# --- instructions -----------------------------------------------------------------------------------------------------

FEW, MANY = 500, 2500


def instructions(step, count):
    """All instructions of the program, including its start and end."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counted"
        program = [sys.executable, Path(__file__).with_name("steps.py"), step, str(count)]
        counter = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        environ = os.environ | {"PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [*counter, *program], check=False, capture_output=True, text=True, env=environ
        )
        if done.returncode != 0:
            sys.exit(done.stderr)
        found = (line.split() for line in out.read_text().splitlines())
        return next(int(words[1]) for words in found if words[:1] == ["summary:"])


def count_steps():
    each = {}
    for step in steps.STEPS:
        tell(f"counting the instructions of {step}")
        each[step] = (instructions(step, MANY) - instructions(step, FEW)) / (MANY - FEW)
    for step, (case, before, _) in steps.STEPS.items():
        if case is None:
            continue
        yield {
            "group": "python-steps",
            "case": case,
            "payload": 0,
            "ours": each[step] - each[before],
            "peer": None,
            "peer_name": None,
            "ratio": each[step] - each[before],
            "bar": None,
            "aim": None,
            "sense": "at most",
            "unit": "instructions",
            "rounds": 1,
            "line_rtt_ns": None,
            "quick": False,
        }


# --- the program ------------------------------------------------------------------------------------------------------

ROUNDS = 7


def tell(what):
    if sys.stderr.isatty():
        print(f"\r{what:70}", end="", file=sys.stderr, flush=True)


def measure(names, rounds):
    found = {name: ([], []) for name in names}
    for n in range(rounds):
        for name in names:
            tell(f"round {n + 1} of {rounds}: {name}")
            for kept, side in zip(found[name], CASES[name][-1], strict=True):
                kept.append(side())
    return [result(name, *found[name]) for name in names]


def main():
    parser = argparse.ArgumentParser(
        prog="./dev bench python",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: all of them")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        for name, (case, _, peer, *_) in CASES.items():
            print(f"{name:14} {case}, beside {peer}")
        print(f"{'steps':14} instructions of each step of a message's way")
        return
    if unknown := set(options.cases) - {*CASES, "steps"}:
        parser.error(f"no case {', '.join(sorted(unknown))}: --list names them")
    names = [name for name in CASES if name in options.cases or not options.cases]
    results = measure(names, options.rounds)
    counts = list(count_steps()) if not options.cases or "steps" in options.cases else []
    tell("")
    for name, line in zip(names, results, strict=True):
        print(text(name, line))
    for line in counts:
        print(f"{line['case']:42} {quantity(line['ours'], 'instructions'):>8} instructions")
    # Only a complete run replaces a group: a few cases say nothing about the others.
    fresh = (results if len(names) == len(CASES) else []) + counts
    if options.results and fresh:
        options.results.parent.mkdir(parents=True, exist_ok=True)
        python = f"CPython {platform.python_version()}"
        for line in fresh:
            line |= {"machine": f"{machine(options.build, '-O3')}, {python}", "date": today()}
        keep(options.results, fresh, {line["group"] for line in fresh})


if __name__ == "__main__":
    main()
