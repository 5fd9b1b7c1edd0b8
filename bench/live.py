"""Live pages: the number that a server holds, the cost of an event, and its age on arrival.

Run: ./dev bench live [CASE...] [--pages N] [--seconds N] [--rounds N]. The cases are those of --list. Each starts its servers itself:
libbus in gunicorn, and beside it Flask-SSE, sse-starlette and Flask-SocketIO, these with a Redis server. The client is a C program, the
same for all: it reads raw bytes, also those of a WebSocket. Processor time is that of the server's processes and of Redis, without the
client's. Events come from this process.
"""

import argparse
import contextlib
import json
import resource
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from processes import PATIENCE_S, BenchError, Started, cpu_s, free_port, redis_server, resident_kib

import libbus

HERE = Path(__file__).resolve().parent
CHANNEL = "live/all"
BURST_LIMIT_S = 30
NUDGE_S = 2  # between events that go out while pages open
RATE = 20
FOUR_WORKERS = ("-w", "4", "--worker-class", "gthread", "--threads", "16")
EIGHT_THREADS = ("--worker-class", "gthread", "--threads", "8")
SOCKETIO = "/socket.io/?EIO=4&transport=websocket"


class Server(Started):
    """A server on a port of its own, which stands as PORT in its command."""

    def __init__(self, command, env=None, beside=(), **pipes):
        self.port = free_port()
        self.beside = beside
        command = [part.replace("PORT", str(self.port)) for part in map(str, command)]
        super().__init__(command, env, cwd=HERE, **pipes)

    def __enter__(self):
        try:
            self.await_port(self.port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def pids(self):
        return super().pids() + [pid for each in self.beside for pid in each.pids()]


class Side(NamedTuple):
    """One of the compared servers."""

    label: str
    server: Server
    publish: Callable[..., object]  # one event to all
    path: str = "/live"
    way: str = "sse"  # of live_client


class Pages(Started):
    """Pages that are open at a server, in a process of their own."""

    def __init__(self, client, side, count):
        self.side = side
        command = [client, "127.0.0.1", str(side.server.port), side.path, str(count), side.way]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        super().__init__(command, text=True, **pipes)

    def __enter__(self):
        """Waits until each is open or refused. Events are sent during that time: Flask-SSE sends no head before the first event."""
        end = time.monotonic() + 2 * PATIENCE_S
        try:
            while not self._says_something(NUDGE_S):
                if time.monotonic() > end:
                    raise self.error(f"pages did not open within {2 * PATIENCE_S} s")
                self.side.publish()
            self.open = self._line()["open"]
            self._warm_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _says_something(self, seconds):
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise self.error("ended")
        return json.loads(line)

    def _warm_up(self):
        """Waits until an event has reached each page once: a Socket.IO page joins only after it is open."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            self.side.publish()
            time.sleep(0.5)
            if self.report()["events"] == self.open:
                return
        raise self.error(f"no event reached each of {self.open} pages once")

    def report(self):
        """The events that arrived since the last report."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.error("ended") from None
        return self._line()

    def await_events(self, count, seconds=PATIENCE_S):
        """The number of events after `count` events or `seconds`, and the time of the last event."""
        events, last_ns, end = 0, 0, time.monotonic() + seconds
        while events < count and time.monotonic() < end:
            time.sleep(0.05)
            part = self.report()
            events += part["events"]
            last_ns = part["last_ns"] or last_ns
        return events, last_ns / 1e9


def gunicorn(app, *options):
    command = [sys.executable, "-m", "gunicorn", "--log-level", "error", "-b", "127.0.0.1:PORT"]
    return [*command, *options, f"live_apps:{app}()"]


class Bench:
    def __init__(self, options, scratch, ends):
        self.options, self.scratch, self.ends = options, scratch, ends
        self.client = self.compiled("live_client")
        self.name = "bench-live"
        self.bus = ends.enter_context(libbus.Bus(self.name, directory=scratch))
        self.redis = self.redis_url = None

    def compiled(self, name):
        program = self.scratch / name
        subprocess.run(["cc", "-O2", "-o", program, HERE / f"{name}.c"], check=True)
        return program

    def need_redis(self):
        if self.redis is None:
            port = free_port()
            self.redis = self.ends.enter_context(redis_server(port, self.scratch))
            self.redis.await_port(port)
            self.redis_url = f"redis://127.0.0.1:{port}"
        return {"LIVE_REDIS": self.redis_url}

    def pages(self, side, count):
        return Pages(self.client, side, count)

    # --- the sides: each serves for as long as its block lasts --------------------------------------------

    @contextlib.contextmanager
    def libbus(self, *options):
        env = {"LIVE_BUS": self.name, "LIVE_PLACE": str(self.scratch)}
        with Server(gunicorn("with_libbus", *options), env) as server:
            yield Side("libbus", server, self.publish)

    @contextlib.contextmanager
    def flask_sse(self, *options):
        import redis

        env = self.need_redis()
        client = redis.from_url(self.redis_url)

        def publish():
            client.publish("sse", json.dumps({"data": {"at": time.monotonic_ns()}}))

        with Server(gunicorn("with_flask_sse", *options), env, [self.redis]) as server:
            yield Side("Flask-SSE and Redis", server, publish)

    @contextlib.contextmanager
    def starlette(self):
        import redis

        env = self.need_redis()
        client = redis.from_url(self.redis_url)

        def publish():
            client.publish(CHANNEL, json.dumps({"at": time.monotonic_ns()}))

        command = [sys.executable, "-m", "uvicorn", "--factory", "--log-level", "error"]
        command += ["--port", "PORT", "live_apps:with_sse_starlette"]
        with Server(command, env, [self.redis]) as server:
            yield Side("uvicorn, sse-starlette and Redis", server, publish)

    @contextlib.contextmanager
    def socketio(self, *options):
        import socketio

        env = self.need_redis()
        # Where Flask-SocketIO listens.
        manager = socketio.RedisManager(self.redis_url, channel="flask-socketio", write_only=True)

        def publish():
            manager.emit("n", {"at": time.monotonic_ns()})

        # Each of its pages holds a thread.
        options = (*options, "--threads", "64")
        with Server(gunicorn("with_socketio", *options), env, [self.redis]) as server:
            yield Side("Flask-SocketIO and Redis", server, publish, SOCKETIO, "socketio")

    @contextlib.contextmanager
    def floor(self):
        command = [self.compiled("live_floor"), "PORT"]
        with Server(command, stdin=subprocess.PIPE, text=True) as server:

            def publish():
                value = {"topic": CHANNEL, "value": {"at": time.monotonic_ns()}, "kept": False}
                server.process.stdin.write(json.dumps(value, separators=(",", ":")) + "\n")
                server.process.stdin.flush()

            yield Side("floor: send() alone", server, publish)

    def publish(self, size=0):
        value = {"at": time.monotonic_ns()}
        if size:
            value["text"] = "x" * size
        self.bus.publish(CHANNEL, value)


# --- open pages --------------------------------------------------------------------------------------------


class Asking:
    """Requests another page repeatedly; gives the times in ms, sorted, when the block ends."""

    def __init__(self, server):
        self.url = f"http://127.0.0.1:{server.port}/plain"
        self.times_ms, self.stop = [], threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def _ask(self):
        while not self.stop.is_set():
            began = time.monotonic()
            urllib.request.urlopen(self.url, timeout=PATIENCE_S).read()
            self.times_ms.append((time.monotonic() - began) * 1e3)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.times_ms.sort()

    def share(self, part):
        return self.times_ms[min(int(len(self.times_ms) * part), len(self.times_ms) - 1)]


def held(bench, side, count):
    start = time.monotonic()
    with bench.pages(side, count) as pages:
        yield f"pages open of {count:,}", pages.open, f"in {time.monotonic() - start:.1f} s"
        resident = resident_kib(side.server.pids()) / 1024
        yield "resident", resident, "MiB, the larger of worker and arbiter (bar 60)"
        times = []
        for _ in range(5):
            began = time.monotonic()
            side.publish(200)
            events, last = pages.await_events(pages.open)
            if events < pages.open:
                raise BenchError(f"an event reached {events:,} of {pages.open:,} pages")
            times.append(last - began)
        yield "200 bytes to all", statistics.median(times), "s, median of 5 (bar 0.6)"
        with Asking(side.server) as asking:
            for _ in range(bench.options.seconds):
                side.publish(200)
                time.sleep(1)
        yield "another page, p50", asking.share(0.5), f"ms, of {len(asking.times_ms):,}"
        yield "another page, p99", asking.share(0.99), "ms (bar 25)"


def many(bench):
    """Pages in one worker with eight threads, one event to all of them, and requests of an ordinary page."""
    with bench.libbus(*EIGHT_THREADS) as side:
        yield from held(bench, side, bench.options.pages)


def gevent(bench):
    """The same with half as many pages in a gevent worker."""
    with bench.libbus("--worker-class", "gevent", "--worker-connections", "20000") as side:
        yield from held(bench, side, bench.options.pages // 2)


def readers(bench):
    """Readers of the host's log that pages take: one for each worker that has pages."""
    before = bench.bus.log_stats()["readers"]
    with bench.libbus(*FOUR_WORKERS) as side, bench.pages(side, bench.options.pages) as pages:
        taken = bench.bus.log_stats()["readers"] - before
        yield f"{pages.open:,} pages in 4 workers", taken, "readers (bar 4)"


# --- what an event costs ------------------------------------------------------------------------------------


def cost_of(bench, side, count=500):
    """Microseconds of processor time for each event."""
    seconds = bench.options.seconds
    with bench.pages(side, count) as pages:
        before = cpu_s(side.server.pids())
        for _ in range(seconds):
            side.publish()
            time.sleep(1)
        events, _ = pages.await_events(pages.open * seconds, 10)
        return (cpu_s(side.server.pids()) - before) / max(events, 1) * 1e6


def cost(bench):
    """Processor time for each event that is delivered: 500 pages, one event a second to all of them."""
    found = []
    for open_side in (lambda: bench.libbus(*EIGHT_THREADS), bench.floor, bench.starlette):
        with open_side() as side:
            found.append(cost_of(bench, side))
            yield f"{side.label}, 500 pages", found[-1], "us for each event"
    mine, floor, theirs = found
    yield "libbus beyond its floor", mine - floor, "us for each event"
    yield "libbus / sse-starlette", mine / theirs, "(bar 0.2)"


def idle(bench):
    """Processor time of 500 quiet pages, and with 1,000 messages a second that no page wants."""
    with bench.libbus(*EIGHT_THREADS) as side, bench.pages(side, 500):
        pids = side.server.pids()
        for label, rate in (("quiet", 0), ("with 1,000 other messages a second", 1000)):
            before, start = cpu_s(pids), time.monotonic()
            while (elapsed := time.monotonic() - start) < bench.options.seconds:
                for _ in range(int(rate / 100)):
                    bench.bus.publish("other/topic", 1)
                time.sleep(max(0.0, 0.01 - (time.monotonic() - start - elapsed)))
            elapsed = time.monotonic() - start
            yield f"500 pages, {label}", (cpu_s(pids) - before) / elapsed * 100, "% of a core"


# --- rate and age of deliveries -------------------------------------------------------------------------------


def burst_of(bench, side, count=16, events=2000):
    """Deliveries a second, and a note on those that were not in time."""
    with bench.pages(side, count) as pages:
        start, wanted = time.monotonic(), count * events
        end = start + BURST_LIMIT_S
        published = 0
        while published < events and time.monotonic() < end:
            side.publish()
            published += 1
        got, last = pages.await_events(wanted, end - time.monotonic())
        word = f"events/s, all {wanted:,} came"
        if got < wanted:
            word = f"events/s; did not finish: {got:,} of {wanted:,} in {BURST_LIMIT_S} s"
        return got / max(last - start, 1e-9), word


def burst(bench):
    """A burst of 2,000 events to 16 pages on four workers, beside Flask-SSE and Flask-SocketIO."""
    rates = []
    for open_side in (bench.libbus, bench.flask_sse, bench.socketio):
        with open_side(*FOUR_WORKERS) as side:
            rate, word = burst_of(bench, side)
            rates.append(rate)
            yield side.label, rate, word
    mine, flask_sse, socketio = rates
    yield "libbus / Flask-SSE", mine / max(flask_sse, 1e-9), "(bar 20)"
    yield "libbus / Flask-SocketIO", mine / max(socketio, 1e-9), "(bar 8)"


def latency_of(bench, pages):
    """p50 and p99 in ms, from the call that publishes to the bytes at the page."""
    count = RATE * bench.options.seconds
    pages.report()
    due = time.monotonic()
    for _ in range(count):
        pages.side.publish()
        due += 1 / RATE
        time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(0.5)
    got = pages.report()
    if got["events"] != count * pages.open:
        raise BenchError(f"{pages.side.label}: {got['events']} of {count * pages.open} came")
    return got["p50_ms"], got["p99_ms"]


def latency(bench):
    """The age of 20 events a second at 16 pages on four workers, beside Flask-SocketIO, in turns."""
    with (
        bench.libbus(*FOUR_WORKERS) as one,
        bench.socketio(*FOUR_WORKERS) as other,
        bench.pages(one, 16) as mine,
        bench.pages(other, 16) as theirs,
    ):
        found = {mine: [], theirs: []}
        for number in range(bench.options.rounds):
            for pages in (mine, theirs) if number % 2 == 0 else (theirs, mine):
                found[pages].append(latency_of(bench, pages))
        for at, name, bar in ((0, "p50", 0.5), (1, "p99", 0.5)):
            for pages, rounds in found.items():
                yield f"{pages.side.label}, {name}", statistics.median(r[at] for r in rounds), "ms"
            ratios = [
                ours[at] / their[at] for ours, their in zip(found[mine], found[theirs], strict=True)
            ]
            between = f"({min(ratios):.2f} to {max(ratios):.2f}; bar {bar})"
            yield f"libbus / Flask-SocketIO, {name}", statistics.median(ratios), between


CASES = {
    "many": many,
    "gevent": gevent,
    "readers": readers,
    "cost": cost,
    "idle": idle,
    "burst": burst,
    "latency": latency,
}


def main():
    parser = argparse.ArgumentParser(
        prog="./dev bench live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: all of them")
    parser.add_argument(
        "--pages",
        type=int,
        default=10000,
        help="number of pages in many and readers, half that in gevent; default: 10,000",
    )
    parser.add_argument(
        "--seconds", type=int, default=10, help="length of each measurement; default: 10"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of latency; default: 5")
    parser.add_argument("--list", action="store_true", help="list the cases")
    options = parser.parse_args()
    if options.list:
        for name, case in CASES.items():
            print(f"{name:8} {case.__doc__}")
        return
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}: --list names them")
    # Servers and clients inherit the limit; a page takes a descriptor in each.
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as ends:
        scratch = Path(ends.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        bench = Bench(options, scratch, ends)
        try:
            for name in options.cases or CASES:
                print(f"{name}: {CASES[name].__doc__}")
                with contextlib.closing(CASES[name](bench)) as lines:
                    for label, value, unit in lines:
                        print(f"  {label:42} {value:12,.2f} {unit}", flush=True)
        except BenchError as error:
            sys.exit(f"bench live: {error}")


if __name__ == "__main__":
    main()
