"""Flask-SocketIO with libbus.socketio beside Flask-SocketIO with Redis, in one run of interleaved rounds.

Run: ./dev bench socketio [--rounds N] [--mode threading|gevent]. Each has a gunicorn with 4 workers and 4 clients on each worker, over
WebSockets; one process is all clients. A round measures both, one after the other, in turns:

    burst     one worker emits 2,000 events of 200 bytes to all; deliveries a second, from the first emit to the last delivery
    latency   one worker emits 20 events a second to all, 10 seconds long; from the emit to the delivery

and CPU seconds of the workers (and of Redis) for each 1,000 deliveries of the burst. A line tells the medians and the median of the
ratios of the rounds, with the lowest and the highest.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import websockets
from processes import Started, children, cpu_s, free_port, redis_server

WORKERS, CLIENTS, EVENTS, RATE, SECONDS = 4, 16, 2000, 20, 10
PATIENCE_S = 120

APP = """
import os, time
from flask import Flask
from flask_socketio import SocketIO

if "REDIS" in os.environ:
    from socketio import RedisManager
    manager = RedisManager(os.environ["REDIS"])
else:
    from libbus.socketio import Manager
    manager = Manager("bench", directory=os.environ["PLACE"])

app = Flask(__name__)
socketio = SocketIO(app, async_mode=os.environ["MODE"], client_manager=manager)
filler = "x" * 160

@socketio.on("who")
def who():
    return os.getpid()

@app.get("/burst/<int:count>")
def burst(count):
    for n in range(count):
        socketio.emit("n", [n, time.monotonic(), filler])
    return ""

@app.get("/rate/<int:rate>/<int:count>")
def rate(rate, count):
    due = time.monotonic()
    for n in range(count):
        due += 1 / rate
        time.sleep(max(0, due - time.monotonic()))
        socketio.emit("n", [n, time.monotonic(), filler])
    return ""
"""


class Gunicorn(Started):
    def __init__(self, folder, mode, **environ):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            kind = ["gevent"] if mode == "gevent" else ["gthread", "--threads", "32"]
            super().__init__(
                [
                    *(sys.executable, "-m", "gunicorn", "app:app", "--chdir", folder),
                    *("--log-level", "warning", "--bind", f"fd://{listener.fileno()}"),
                    *("--workers", str(WORKERS), "--worker-class", *kind),
                ],
                env=environ | {"MODE": mode},
                pass_fds=[listener.fileno()],
            )

    async def get(self, path):
        url = f"http://127.0.0.1:{self.port}{path}"
        await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=PATIENCE_S).read())

    def cpu_s(self, *more):
        """Of its workers, so far."""
        return cpu_s([*children(self.process.pid), *more])


class Client:
    """Speaks as much of Socket.IO as it needs, so that it costs little."""

    def __init__(self, connection):
        self.connection = connection
        self.delays, self.last, self.wanted = [], 0.0, asyncio.Event()
        self.due = -1

    @classmethod
    async def connected(cls, port):
        self = cls(
            await websockets.connect(
                f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket",
                compression=None,
                open_timeout=PATIENCE_S,
            )
        )
        await self.connection.recv()
        await self.connection.send("40")
        await self.connection.recv()
        await self.connection.send('420["who"]')
        while not (answer := await self.connection.recv()).startswith("430"):
            pass
        self.pid = json.loads(answer[3:])[0]
        return self

    async def read(self):
        async for text in self.connection:
            if text == "2":
                await self.connection.send("3")
            elif text.startswith("42"):
                now = time.monotonic()
                (_, (_, sent, _)) = json.loads(text[2:])
                self.delays.append(now - sent)
                self.last = now
                if len(self.delays) == self.due:
                    self.wanted.set()

    def expect(self, count):
        self.delays.clear()
        self.due = count
        self.wanted.clear()


class Case:
    """A gunicorn and its clients."""

    def __init__(self, server, *others):
        self.server, self.others, self.clients = server, others, []

    async def connect(self):
        found = {}
        while sum(map(len, found.values())) < CLIENTS:
            client = await Client.connected(self.server.port)
            mine = found.setdefault(client.pid, [])
            if len(mine) == CLIENTS // WORKERS:
                await client.connection.close()
            else:
                mine.append(client)
        self.clients = [client for mine in found.values() for client in mine]
        self.reading = [asyncio.ensure_future(client.read()) for client in self.clients]

    async def measure(self, path, count):
        for client in self.clients:
            client.expect(count)
        before, start = self.server.cpu_s(*self.others), time.monotonic()
        await self.server.get(path)
        waits = [client.wanted.wait() for client in self.clients]
        await asyncio.wait_for(asyncio.gather(*waits), PATIENCE_S)
        last = max(client.last for client in self.clients)
        cpu = self.server.cpu_s(*self.others) - before
        delays = sorted(delay for client in self.clients for delay in client.delays)
        return len(delays) / (last - start), delays, cpu / len(delays) * 1000

    async def round(self):
        await self.measure("/burst/100", 100)
        rate, _, cpu = await self.measure(f"/burst/{EVENTS}", EVENTS)
        _, delays, _ = await self.measure(f"/rate/{RATE}/{RATE * SECONDS}", RATE * SECONDS)
        at = statistics.quantiles(delays, n=100)
        return {
            "burst, deliveries/s": rate,
            "burst, CPU s for 1,000 deliveries": cpu,
            "latency p50, ms": at[49] * 1000,
            "latency p99, ms": at[98] * 1000,
        }


async def run(cases, rounds):
    for case in cases:
        await case.connect()
    found = []
    for number in range(rounds):
        order = cases if number % 2 == 0 else cases[::-1]
        got = {case: await case.round() for case in order}
        found.append([got[case] for case in cases])
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    for what in found[0][0]:
        ours, theirs = ([each[which][what] for each in found] for which in (0, 1))
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        print(
            f"{what:36} libbus {statistics.median(ours):9.4g}   Redis {statistics.median(theirs):9.4g}   "
            f"ratio {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    for case in cases:
        for task in case.reading:
            task.cancel()
        await asyncio.gather(*case.reading, return_exceptions=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", choices=["threading", "gevent"], default="threading")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("there is no redis-server: apt-get install redis-server")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ends:
        (Path(folder) / "app.py").write_text(APP)
        port = free_port()
        redis = ends.enter_context(redis_server(port, folder))
        redis.await_port(port)
        shared = tempfile.mkdtemp(dir="/dev/shm")
        ends.callback(shutil.rmtree, shared)
        ours = ends.enter_context(Gunicorn(folder, options.mode, PLACE=shared))
        url = f"redis://127.0.0.1:{port}/0"
        theirs = ends.enter_context(Gunicorn(folder, options.mode, REDIS=url))
        asyncio.run(run([Case(ours), Case(theirs, redis.process.pid)], options.rounds))


if __name__ == "__main__":
    main()
