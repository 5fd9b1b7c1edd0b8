"""The doors of live pages in this process, with one interface: libbus.flask by Flask's test client, libbus.asgi on a loop."""

import asyncio
import contextlib
import json
import queue
import threading

from flask_site import site
from patience import WATCHDOG

import libbus
from libbus.asgi import Pages


class FlaskDoor:
    def __init__(self, *, authorize=None, **options):
        self.app, self.bus = site(**options)
        self.publish = self.bus.publish
        if authorize is not None:
            self.bus.authorize(authorize)

    @contextlib.contextmanager
    def opened(self, query="", path="/bus/events", method="GET", headers=()):
        """An answer with status_code, headers, json and response, the chunks of its body. query: also bytes that no URL has."""
        raw = query.encode() if isinstance(query, str) else query
        answer = self.app.test_client().open(
            path,
            method=method,
            headers=dict(headers),
            environ_overrides={"QUERY_STRING": raw.decode("latin-1")},
        )
        try:
            yield answer
        finally:
            answer.close()

    def close(self):
        self.bus.close()


class Answer:
    def __init__(self):
        self.begun = threading.Event()
        self.chunks = queue.Queue()

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status_code = message["status"]
            self.headers = {
                name.decode().title(): value.decode() for name, value in message["headers"]
            }
            self.begun.set()
        else:
            self.chunks.put(message["body"])

    @property
    def response(self):
        return iter(lambda: self.chunks.get(timeout=WATCHDOG), b"")

    @property
    def json(self):
        return json.loads(next(self.response))


class AsgiDoor:
    def __init__(self, *, authorize=None, name=None, directory=None, **options):
        self.bus = libbus.Bus(name, directory=directory)
        self.publish = self.bus.publish
        if authorize is not None:
            options["authorize"] = lambda scope, action, what: authorize(action, what)
        self.app = Pages(self.bus, **{"heartbeat": 0.2, "allow": ["#"], **options})
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    @contextlib.contextmanager
    def opened(self, query="", path="/bus/events", method="GET", headers=()):
        raw = query.encode() if isinstance(query, str) else query
        answer, gone = Answer(), asyncio.Event()
        given = {"Host": "localhost", **dict(headers)}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": "/bus",
            "query_string": raw,
            "headers": [
                (each.lower().encode(), value.encode("latin-1")) for each, value in given.items()
            ],
        }

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        running = asyncio.run_coroutine_threadsafe(self.app(scope, receive, answer.send), self.loop)
        running.add_done_callback(lambda _: answer.begun.set())  # an exception ends the wait too
        try:
            assert answer.begun.wait(WATCHDOG)
            if running.done():
                running.result()
            yield answer
        finally:
            self.loop.call_soon_threadsafe(gone.set)
            running.result(WATCHDOG)

    def close(self):
        self.app.close()
        self.bus.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WATCHDOG)
        self.loop.close()


DOORS = {"flask": FlaskDoor, "asgi": AsgiDoor}
