"""Counts the events that pages miss while their server fails: every event is numbered, and every page counts.

outages.py [--pages N] [--worker gthread|sync] [--outage SECONDS]     16 pages, gthread, 30 s

gunicorn has two workers on a named bus. This process keeps the bus, another one publishes 50 events a second. A page that loses its
connection reconnects as EventSource does, after the stream's `retry` and with the id of its last event. A refused page waits longer
each time, as libbus.js does. Each case prints a line; status 1 unless every page got each event once and reconnected at least once.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import libbus

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

import sse
from patience import WATCHDOG
from webserver import Server

RATE = 50
PAGES_OF_A_TOPIC = 100
RETRY_MOST_S = 10
WORKERS = 2
BACKLOG = 4096
KINDS = {"gthread": ("gthread", "--threads", "4"), "sync": ("sync",)}

APP = """
import os, pathlib
import flask
from libbus.flask import Bus

app = flask.Flask(__name__)
bus = Bus(app, name="outages", directory=os.environ["PLACE"], allow=["#"], max_pages=20_000)

@app.before_request
def closed():
    if pathlib.Path(os.environ["PLACE"], "closed").exists():
        flask.abort(503)
"""

PUBLISHER = """
import os, select, sys, time
import libbus

rate, topics = map(int, sys.argv[1:])
with libbus.Bus("outages", directory=os.environ["PLACE"]) as bus:
    count, start = 0, time.monotonic()
    while True:
        due = max(0, start + count / rate - time.monotonic())
        if select.select([0], [], [], due)[0]:
            if not os.read(0, 1):
                break
            print(count, flush=True)
        else:
            bus.publish(f"n/{count % topics}", count // topics)
            count += 1
"""


class Page:
    """A page of one topic, and the numbers 0, 1, 2, ... that it got."""

    def __init__(self, port, topic):
        self.topic = topic
        self.request = (
            f"GET /bus/events?filter=n/{topic} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n"
        )
        self.port = port
        self.id, self.retry_s, self.failures = "", 2.0, 0
        self.open = False
        self.next = 0
        self.events = self.missed = self.doubled = 0
        self.opened = self.refused = 0
        self.names = dict.fromkeys(("gap", "reset", "denied"), 0)

    async def live(self):
        while True:
            self.failures += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    await self.read(reader, writer)
                finally:
                    self.open = False
                    writer.close()
            await asyncio.sleep(self.wait_s())

    def wait_s(self):
        if self.failures == 0:
            return self.retry_s
        return min(RETRY_MOST_S, self.retry_s * 2**self.failures) * random.uniform(0.2, 1)

    async def read(self, reader, writer):
        resume = f"Last-Event-ID: {self.id}\r\n" if self.id else ""
        writer.write(f"{self.request}{resume}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            self.refused += 1
            return
        parser = sse.Parser()
        while data := await reader.read(65536):
            for event in parser.feed(data):
                self.take(event)
            if parser.retry is not None:
                self.retry_s = parser.retry / 1000

    def take(self, event):
        if not self.open:
            self.open, self.failures = True, 0
            self.opened += 1
        if event.name == "message":
            self.count(json.loads(event.data)["value"])
        elif event.name in self.names:
            self.names[event.name] += 1
        self.id = event.id or self.id

    def count(self, number):
        self.events += 1
        if number < self.next:
            self.doubled += 1
            return
        self.missed += number - self.next
        self.next = number + 1

    def counts(self):
        return {
            "events": self.events,
            "missed": self.missed,
            "doubled": self.doubled,
            "resets": self.names["reset"],
            "gaps": self.names["gap"],
            "denied": self.names["denied"],
        }


class Publisher:
    def __init__(self, place, topics):
        self.topics = topics
        self.process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(RATE), str(topics)],
            env=os.environ | {"PLACE": place},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def published(self):
        """Returns the number of events published on each topic."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        count = int(self.process.stdout.readline())
        return [(count - topic + self.topics - 1) // self.topics for topic in range(self.topics)]

    def close(self):
        self.process.communicate(timeout=WATCHDOG)


async def until(condition, what):
    end = time.monotonic() + WATCHDOG
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {WATCHDOG} s in vain: {what}")
        await asyncio.sleep(0.05)


class Site:
    def __init__(self, place, server, pages):
        self.place, self.server, self.pages = place, server, pages

    def workers(self):
        pid = self.server.process.pid
        return {*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())}

    async def others(self, old):
        """Workers take the place of old ones."""
        await until(
            lambda: len(self.workers()) == WORKERS and not self.workers() & old,
            "gunicorn starts workers in place of others",
        )

    async def all_open(self):
        await until(lambda: all(page.open for page in self.pages), "every page is open")

    async def reload(self, _):
        old = self.workers()
        self.server.process.send_signal(signal.SIGHUP)
        await self.others(old)

    async def kill(self, _):
        for pid in sorted(self.workers()):
            os.kill(pid, signal.SIGKILL)
            await self.others({pid})
            await self.all_open()

    async def outage(self, seconds):
        listener = self.server.listener
        self.server.kill()
        # This process holds the listening socket: without this the kernel would still accept connections.
        listener.shutdown(socket.SHUT_RDWR)
        listener.bind(
            ("127.0.0.1", self.server.port)
        )  # at once, before another program takes the port
        await asyncio.sleep(seconds)
        listener.listen(BACKLOG)
        self.server.start()

    async def refuse(self, seconds):
        before = [page.refused for page in self.pages]
        closed = self.place / "closed"
        closed.touch()
        old = self.workers()
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        await self.others(old)
        await asyncio.sleep(seconds / 3)
        await until(
            lambda: all(
                page.refused > count for page, count in zip(self.pages, before, strict=True)
            ),
            "every page is refused",
        )
        closed.unlink()


CASES = {
    "SIGHUP of gunicorn": Site.reload,
    "kill -9 of each worker in turn": Site.kill,
    "outage of the server": Site.outage,
    "503": Site.refuse,
}


def sum_of(pages):
    return {name: sum(page.counts()[name] for page in pages) for name in pages[0].counts()}


async def run_case(site, publisher, case, outage_s):
    """Counts of the pages during the case, and its duration."""
    pages, start = site.pages, time.monotonic()
    before, opened = sum_of(pages), [page.opened for page in pages]
    await case(site, outage_s)
    await until(
        lambda: all(page.opened > count for page, count in zip(pages, opened, strict=True)),
        "every page has lost its connection and come back",
    )
    wanted = publisher.published()
    await until(
        lambda: all(page.open and page.next >= wanted[page.topic] for page in pages),
        "every page has what was published",
    )
    found = {name: count - before[name] for name, count in sum_of(pages).items()}
    return found, time.monotonic() - start


async def run_cases(site, publish, outage_s, say):
    reading = [asyncio.ensure_future(page.live()) for page in site.pages]
    well = True
    try:
        await site.all_open()
        publisher = publish()
        for label, case in CASES.items():
            found, seconds = await run_case(site, publisher, case, outage_s)
            counts = "  ".join(f"{name} {count:,}" for name, count in found.items())
            say(f"{label:32} pages {len(site.pages):,}  {counts}  in {seconds:.1f} s")
            well &= sum(found.values()) == found["events"]
    finally:
        for task in reading:
            task.cancel()
        ends = await asyncio.gather(*reading, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):  # the strict parser's, say
            raise end
    return well


def run(pages=16, worker="gthread", outage_s=30, say=print):
    """Whether all pages had every event once, in all cases."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = limits[1]
    if most < pages + 1000:
        raise OSError(f"{pages} pages need `ulimit -Hn {pages + 1000}`, and it is {most}")
    topics = max(1, pages // PAGES_OF_A_TOPIC)
    options = ("--workers", str(WORKERS), "--worker-class", *KINDS[worker])
    with contextlib.ExitStack() as ends:
        ends.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
        (folder / "app.py").write_text(APP)
        ends.enter_context(libbus.Bus("outages", directory=folder))  # keeps it
        server = Server(folder, *options, level="critical", PLACE=str(folder))
        server.listener.listen(BACKLOG)
        ends.enter_context(server)

        def publish():
            publisher = Publisher(str(folder), topics)
            ends.callback(publisher.close)
            return publisher

        live = [Page(server.port, number % topics) for number in range(pages)]
        return asyncio.run(run_cases(Site(folder, server, live), publish, outage_s, say))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=16)
    parser.add_argument("--worker", choices=KINDS, default="gthread")
    parser.add_argument("--outage", type=float, default=30, metavar="SECONDS")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers end with their blocks
    return not run(
        options.pages, options.worker, options.outage, lambda line: print(line, flush=True)
    )


if __name__ == "__main__":
    sys.exit(main())
