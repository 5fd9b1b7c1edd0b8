"""Live pages: how many a server holds, what an event costs, and how old it is when it comes.

Run: ./dev bench live [CASE...] [--pages N] [--seconds N]. The cases are those of --list. Each starts its servers itself: libbus in
gunicorn, and beside it Flask-SSE and sse-starlette, both with a Redis server of their own. The client is a C program, the
same for all. Processor time is that of the server's processes and of Redis, without the client's.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import libbus

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
CHANNEL = "live/all"
PATIENCE_S = 60


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def await_port(port, process):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"the server ended with {process.returncode}: run it by hand to see why")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"no server on port {port} within {PATIENCE_S} s")


def family(pid):
    """The process and all below it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            found += map(int, children.split())
    return found


def cpu_s(pids):
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def resident_kib(pids):
    return max(
        int(line.split()[1])
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )


class Server:
    """A server process and what it needs beside."""

    def __init__(self, command, env, beside=()):
        self.port = free_port()
        command = [part.replace("PORT", str(self.port)) for part in command]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=os.environ | env, cwd=HERE, **quiet)
        self.beside = beside
        await_port(self.port, self.process)

    def pids(self):
        return family(self.process.pid) + [pid for each in self.beside for pid in family(each.pid)]

    def close(self):
        self.process.terminate()
        self.process.wait(PATIENCE_S)


class Pages:
    """Pages that are open at a server, in a process of their own."""

    def __init__(self, client, server, path, count):
        command = [client, "127.0.0.1", str(server.port), path, str(count)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.opened = json.loads(self.process.stdout.readline())

    def report(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def await_events(self, count, seconds=PATIENCE_S):
        """Adds up reports until `count` events came or `seconds` passed."""
        all_of = {"events": 0, "first_ns": 0, "last_ns": 0, "p99_ms": 0}
        end = time.monotonic() + seconds
        while all_of["events"] < count and time.monotonic() < end:
            time.sleep(0.05)
            part = self.report()
            all_of["events"] += part["events"]
            all_of["first_ns"] = all_of["first_ns"] or part["first_ns"]
            all_of["last_ns"] = part["last_ns"] or all_of["last_ns"]
            all_of["p99_ms"] = max(all_of["p99_ms"], part["p99_ms"])
        return all_of

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)


def gunicorn(app, *options):
    command = [sys.executable, "-m", "gunicorn", "--log-level", "error", "-b", "127.0.0.1:PORT"]
    return [*command, *options, f"live_apps:{app}()"]


class Bench:
    def __init__(self, options, scratch):
        self.options = options
        self.client = str(scratch / "live_client")
        subprocess.run(["cc", "-O2", "-o", self.client, HERE / "live_client.c"], check=True)
        self.name = f"bench-live-{os.getpid()}"
        self.bus = libbus.Bus(self.name)
        self.redis = self.redis_url = None

    def need_redis(self):
        if self.redis is None:
            port = free_port()
            command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"]
            self.redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            await_port(port, self.redis)
            self.redis_url = f"redis://127.0.0.1:{port}"
        return {"LIVE_REDIS": self.redis_url}

    def libbus(self, *options):
        return Server(gunicorn("with_libbus", *options), {"LIVE_BUS": self.name})

    def flask_sse(self, *options):
        env = self.need_redis()
        return Server(gunicorn("with_flask_sse", *options), env, [self.redis])

    def starlette(self):
        env = self.need_redis()
        command = [sys.executable, "-m", "uvicorn", "--factory", "--log-level", "error"]
        command += ["--port", "PORT", "live_apps:with_sse_starlette"]
        return Server(command, env, [self.redis])

    def publish(self, size=0):
        value = {"at": time.monotonic_ns()}
        if size:
            value["text"] = "x" * size
        self.bus.publish(CHANNEL, value)

    def publish_redis(self, client, flask_sse=False):
        text = json.dumps({"at": time.monotonic_ns()})
        if flask_sse:
            text = json.dumps({"data": json.loads(text)})
        client.publish("sse" if flask_sse else CHANNEL, text)

    def close(self):
        self.bus.close(0)
        if self.redis is not None:
            self.redis.terminate()


def many(bench):
    """Pages in one worker with eight threads, one event to all, and an ordinary page meanwhile."""
    server = bench.libbus("--worker-class", "gthread", "--threads", "8")
    count = bench.options.pages
    start = time.monotonic()
    pages = Pages(bench.client, server, "/live", count)
    took = time.monotonic() - start
    yield f"pages open of {count}", pages.opened["open"], f"in {took:.1f} s"
    yield "resident", resident_kib(server.pids()) / 1024, "MiB, the larger of worker and arbiter"
    times = []
    for _ in range(5):
        began = time.monotonic()
        bench.publish(200)
        got = pages.await_events(pages.opened["open"])
        times.append(got["last_ns"] / 1e9 - began)
    yield "200 bytes to all", statistics.median(times), "s, median of 5"
    asked, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            began = time.monotonic()
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/plain").read()
            asked.append((time.monotonic() - began) * 1e3)

    thread = threading.Thread(target=ask)
    thread.start()
    for _ in range(bench.options.seconds):
        bench.publish(200)
        time.sleep(1)
    stop.set()
    thread.join()
    asked.sort()
    yield (
        "another page, p50 / p99",
        asked[len(asked) // 2],
        f"/ {asked[len(asked) * 99 // 100]:.1f} ms",
    )
    pages.close()
    server.close()


def cost_of(bench, server, path, publish, count=500):
    pages = Pages(bench.client, server, path, count)
    open_pages = pages.opened["open"]
    publish()
    pages.await_events(open_pages, 10)
    before = cpu_s(server.pids())
    for _ in range(bench.options.seconds):
        publish()
        time.sleep(1)
    got = pages.await_events(open_pages * bench.options.seconds, 10)
    spent = cpu_s(server.pids()) - before
    pages.close()
    server.close()
    return open_pages, spent / max(got["events"], 1) * 1e6


def cost(bench):
    """Processor time for each event that is delivered: 500 pages, one event a second to all of them."""
    import redis

    server = bench.libbus("--worker-class", "gthread", "--threads", "8")
    pages, mine = cost_of(bench, server, "/live", bench.publish)
    yield f"libbus, {pages} pages", mine, "us for each event"
    server = bench.starlette()
    client = redis.from_url(bench.redis_url)
    pages, theirs = cost_of(bench, server, "/live", lambda: bench.publish_redis(client))
    yield f"uvicorn, sse-starlette and Redis, {pages} pages", theirs, "us for each event"
    yield "libbus / sse-starlette", mine / theirs, "(bar 0.2)"


def idle(bench):
    """Processor time of 500 quiet pages, and with 1,000 messages a second that no page wants."""
    server = bench.libbus("--worker-class", "gthread", "--threads", "8")
    pages = Pages(bench.client, server, "/live", 500)
    for label, rate in (("quiet", 0), ("with 1,000 other messages a second", 1000)):
        before, start = cpu_s(server.pids()), time.monotonic()
        while (elapsed := time.monotonic() - start) < bench.options.seconds:
            for _ in range(int(rate / 100)):
                bench.bus.publish("other/topic", 1)
            time.sleep(max(0.0, 0.01 - (time.monotonic() - start - elapsed)))
        elapsed = time.monotonic() - start
        yield f"500 pages, {label}", (cpu_s(server.pids()) - before) / elapsed * 100, "% of a core"
    pages.close()
    server.close()


def burst_of(bench, server, path, publish, count=16, events=2000):
    pages = Pages(bench.client, server, path, count)
    time.sleep(1)
    start = time.monotonic()
    for _ in range(events):
        publish()
    got = pages.await_events(count * events, 30)
    rate = got["events"] / max(got["last_ns"] / 1e9 - start, 1e-9)
    pages.close()
    server.close()
    return got["events"], rate


def burst(bench):
    """A burst of 2,000 events to 16 pages on four workers, beside Flask-SSE."""
    import redis

    four = ("-w", "4", "--worker-class", "gthread", "--threads", "16")
    got, mine = burst_of(bench, bench.libbus(*four), "/live", bench.publish)
    yield "libbus", mine, f"events/s, {got} of 32000 came"
    server = bench.flask_sse(*four)
    client = redis.from_url(bench.redis_url)
    got, theirs = burst_of(bench, server, "/live", lambda: bench.publish_redis(client, True))
    yield "Flask-SSE and Redis", theirs, f"events/s, {got} of 32000 came"
    yield "libbus / Flask-SSE", mine / theirs, "(bar 20)"


CASES = {"many": many, "cost": cost, "idle": idle, "burst": burst}


def main():
    parser = argparse.ArgumentParser(
        prog="./dev bench live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all of them if none is named")
    parser.add_argument(
        "--pages", type=int, default=10000, help="of the case `many`; 10,000 if it is not given"
    )
    parser.add_argument(
        "--seconds", type=int, default=10, help="of each measurement; 10 if it is not given"
    )
    parser.add_argument("--list", action="store_true", help="the cases")
    options = parser.parse_args()
    if options.list:
        for name, case in CASES.items():
            print(f"{name:6} {case.__doc__}")
        return
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}: --list names them")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, Path(scratch))
        try:
            for name in options.cases or CASES:
                print(f"{name}: {CASES[name].__doc__}")
                for label, value, unit in CASES[name](bench):
                    print(f"  {label:50} {value:12,.2f} {unit}", flush=True)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
