"""Each promise of promises.def, once, over the doors in Python: a bus, and the event stream of a page."""

import asyncio
import contextlib
import http.client
import itertools
import json
import multiprocessing
import socket
import struct
import tempfile
import threading
import time
import urllib.parse
from types import SimpleNamespace

import flask
import matrix
import promises
import publisher
import pytest
from patience import WATCHDOG
from publisher import Process, Publisher, Refused
from webserver import events
from werkzeug.serving import WSGIRequestHandler, make_server

import libbus
import libbus.flask

TABLE = promises.load()
MANY = 1000
SMALL = 4096
MAX_PAYLOAD = 1 << 20
MARK = "mark/it/here"


def eventually(condition):
    deadline = time.monotonic() + WATCHDOG
    while not (answer := condition()):
        assert time.monotonic() < deadline, "never became true"
        time.sleep(0.001)
    return answer


def lost_of(stats):
    return stats["offered"] - stats["delivered"] - stats["refused"] - stats["pending"]


# --- the doors: open, publish, subscribe, cut, kill, close --------------------------------------------


class PythonDoor:
    """A bus here, and one in another process that publishes."""

    def __init__(self, stack):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="libbus-"))
        self.url = f"ipc://{folder}/bus.sock"
        self.from_ = Process(self.url)
        stack.callback(lambda: self.from_.kill())
        self.to = stack.enter_context(libbus.Bus())
        self.link = self.to.dial(self.url)
        eventually(lambda: self.link.state == "up")
        self.ready = itertools.count()

    def subscribe(self, *filters, full="drop_oldest", max_bytes=4 << 20):
        inbox = self.inbox(self.to.subscribe(MARK, *filters, full=full, max_bytes=max_bytes))
        self.catch_up()
        self.from_.flush()
        return inbox

    def inbox(self, subscription):
        return PythonInbox(subscription)

    def catch_up(self):
        """Until filters are known there and messages are here: both come in order."""
        topic = f"ready/{next(self.ready)}"
        with self.to.subscribe(topic) as ready:
            eventually(lambda: self.from_.publish(topic, 1) or ready.recv_nowait())

    def cut(self):
        self.from_.kill()
        eventually(lambda: self.link.state == "down")

    def mend(self):
        self.from_ = Process(self.url)

    @contextlib.contextmanager
    def another(self):
        spawn = multiprocessing.get_context("spawn")
        peer = spawn.Process(target=publisher.listen_to_all, args=(self.url,), daemon=True)
        peer.start()
        eventually(lambda: self.from_.link_stats()["peers"] == 2)
        yield peer.kill
        peer.join(WATCHDOG)
        eventually(lambda: self.from_.link_stats()["peers"] == 1)


class PythonInbox:
    def __init__(self, subscription):
        self.subscription = subscription

    def take(self):
        return self.subscription.recv(WATCHDOG)

    def take_all(self, taken):
        """Until it is closed."""
        taken.extend(msg.value for msg in self.subscription)

    def stats(self):
        return self.subscription.stats()

    def close(self):
        self.subscription.close()


class AsyncioDoor(PythonDoor):
    """The same, but the tasks of an event loop take the messages."""

    def __init__(self, stack):
        self.loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        stack.callback(self.loop.close)
        stack.callback(thread.join, WATCHDOG)
        stack.callback(self.loop.call_soon_threadsafe, self.loop.stop)
        super().__init__(stack)

    def inbox(self, subscription):
        return AsyncioInbox(subscription, self.loop)


class AsyncioInbox(PythonInbox):
    def __init__(self, subscription, loop):
        super().__init__(subscription)
        self.loop = loop

    def take(self):
        return self.run(anext(self.subscription))

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WATCHDOG)

    def take_all(self, taken):
        async def take():
            async for msg in self.subscription:
                taken.append(msg.value)

        self.run(take())


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


class SseDoor:
    """A Flask site on Werkzeug's server, and a page that reads its events."""

    def __init__(self, stack):
        app = flask.Flask("contract")
        self.site = libbus.flask.Bus(
            app, allow=["#"], heartbeat=WATCHDOG
        )  # a page that stands still for two of them is ended
        self.server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        stack.callback(thread.join, WATCHDOG)
        stack.callback(self.server.server_close)
        stack.callback(self.server.shutdown)
        stack.callback(self.site.close)
        self.from_ = Publisher(self.site.bus)
        self.pages = contextlib.ExitStack()
        stack.enter_context(self.pages)

    def subscribe(self, *filters):
        page = SseInbox(self.server.port, (MARK, *filters))
        self.pages.callback(page.close)
        return page

    def cut(self):
        self.pages.close()

    def mend(self):
        pass

    @contextlib.contextmanager
    def another(self):
        page = self.subscribe("#")

        def reset():
            page.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            page.close()

        yield reset


class SseInbox:
    """A page as EventSource makes it: when a stream ends, it asks for the same one again."""

    def __init__(self, port, filters):
        query = urllib.parse.urlencode([("filter", asked) for asked in filters])
        self.port, self.path = port, f"/bus/events?{query}"
        self.connect()

    def connect(self):
        self.socket = socket.socket()
        self.socket.settimeout(WATCHDOG)
        # Little room on the way, so that a page that does not read soon stands still.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self.socket.connect(("127.0.0.1", self.port))
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.sock = self.socket
        connection.request("GET", self.path)
        self.answer = connection.getresponse()
        assert self.answer.status == 200
        self.events = events(self.answer)

    def take(self):
        deadline = time.monotonic() + WATCHDOG
        lost = 0
        while True:
            for name, data in self.events:
                if name == "message":
                    return SimpleNamespace(lost=lost, **json.loads(data))
                if name == "gap":
                    lost += json.loads(data)["lost"]
                assert time.monotonic() < deadline, "no message came"
            self.connect()

    def close(self):
        # Both ends of the connection at once, from outside; a reader finds the end of its stream.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.answer.close()
        self.socket.close()
        self.events = iter(())


DOORS = {"python": PythonDoor, "asyncio": AsyncioDoor, "sse": SseDoor}


def expect(inbox, topic, value, kept=False, lost=0):
    msg = inbox.take()
    assert (msg.topic, msg.value, msg.kept, msg.lost) == (topic, value, kept, lost)


def ends(door, inbox):
    """All that was published before has been taken."""
    door.from_.publish(MARK, None)
    expect(inbox, MARK, None)


@contextlib.contextmanager
def refused_as(name):
    with pytest.raises((libbus.BusError, Refused)) as raised:
        yield
    assert getattr(raised.value, "name", str(raised.value)) == name


# --- the promises -------------------------------------------------------------------------------------


def order(door):
    inbox = door.subscribe("n/+")
    door.from_.numbers(["n/0", "n/1"], 0, MANY)
    following = {"n/0": itertools.count(), "n/1": itertools.count()}
    for _ in range(2 * MANY):
        msg = inbox.take()
        assert (msg.value, msg.lost) == (next(following[msg.topic]), 0)
    ends(door, inbox)


def asked(door):
    inbox = door.subscribe("plant/+/temp")
    for topic in ("plant/1/pressure", "plant", "plant/1/temp", "plant/1/2/temp", "other"):
        door.from_.publish(topic, topic)
    expect(inbox, "plant/1/temp", "plant/1/temp")
    ends(door, inbox)


def matching(door):
    for asked, topic, yes in TABLE.matches:
        inbox = door.subscribe(asked)
        door.from_.publish(topic, topic)
        if yes:
            expect(inbox, topic, topic)
        ends(door, inbox)
        inbox.close()
    with refused_as("BUS_E_TOPIC_RESERVED"):
        door.from_.publish("$mine", 1)
    inbox = door.subscribe("+/warnings", "+/drops")
    assert door.from_.make_warning() == "$bus/warnings"
    ends(door, inbox)


def once(door):
    inbox = door.subscribe("a/b", "a/+", "a/#")
    door.from_.publish("a/b", 1)
    expect(inbox, "a/b", 1)
    ends(door, inbox)


def kept(door):
    door.from_.traffic("kept")
    eventually(lambda: door.from_.traffic_so_far() >= 20)
    inbox = door.subscribe("kept")
    opened = door.from_.traffic_so_far()
    eventually(lambda: door.from_.traffic_so_far() >= opened + 20)
    sent = door.from_.end_traffic()
    first = inbox.take()
    assert first.kept
    for number in range(first.value + 1, sent):
        expect(inbox, "kept", number)
    ends(door, inbox)


def forget(door):
    early = door.subscribe("kept")
    door.from_.publish("kept", 1, retain=True)
    expect(early, "kept", 1)
    door.from_.forget("kept")
    early.take()
    late = door.subscribe("kept")
    ends(door, late)


def overrun(door, full):
    """Publishes MANY numbers to somebody who takes none, and has room for a few.

    Nobody looks at the inbox meanwhile: a look at its counters holds what is inside for a moment, and a
    publisher that cannot evict the oldest then drops its own.
    """
    inbox = door.subscribe("n", full=full, max_bytes=SMALL)
    door.from_.numbers(["n"], 0, MANY)
    door.catch_up()
    assert inbox.stats()["offered"] == MANY
    return inbox, lost_of(inbox.stats())


def fill(door):
    """Publishes to a page that does not read, until that loses something and stands still."""
    inbox = door.subscribe("n")
    still, before, count = 0, -1, 0
    while still < 100:
        door.from_.publish("n", [count, "x" * 10_000])
        count += 1
        stats = door.site.pages()
        still = still + 1 if stats["lost"] > 0 and stats["bytes"] == before else 0
        before = stats["bytes"]
        time.sleep(0.001)
        assert count < 30_000, "nothing was lost"
    return inbox, count


def gaps_are_told(inbox, count):
    """Takes count messages, those that were lost included; returns how many of them."""
    number = lost = 0
    while number < count:
        msg = inbox.take()
        assert msg.value[0] == number + msg.lost
        number, lost = msg.value[0] + 1, lost + msg.lost
    return lost


def oldest(door):
    if isinstance(door, SseDoor):
        inbox, count = fill(door)
        assert gaps_are_told(inbox, count) == door.site.pages()["lost"] > 0
    else:
        inbox, lost = overrun(door, "drop_oldest")
        assert MANY // 2 < lost < MANY
        for number in range(lost, MANY):
            expect(inbox, "n", number, lost=lost if number == lost else 0)
    ends(door, inbox)


def newest(door):
    inbox, lost = overrun(door, "drop_newest")
    assert MANY // 2 < lost < MANY
    for number in range(MANY - lost):
        expect(inbox, "n", number)
    door.from_.publish("n", MANY)
    expect(inbox, "n", MANY, lost=lost)
    ends(door, inbox)


def reply(door):
    inbox = door.subscribe("ask")
    others = door.subscribe("+")  # no reply comes here

    def answer():
        question = inbox.take()
        door.to.reply(question, question.value + 1)

    replier = threading.Thread(target=answer)
    replier.start()
    assert door.from_.request("ask", 41) == 42
    replier.join(WATCHDOG)
    expect(others, "ask", 41)
    ends(door, others)
    ends(door, inbox)


def nobody(door):
    inbox = door.subscribe("ask")
    with pytest.raises(publisher.Refused, match="NOBODY"):
        door.from_.request("nobody", 1)
    ends(door, inbox)


def shared(door):
    inbox, taken = door.subscribe("n"), []
    threads = [threading.Thread(target=inbox.take_all, args=(taken,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    door.from_.numbers(["n"], 0, MANY)
    eventually(lambda: inbox.stats()["delivered"] == MANY)
    inbox.close()
    for thread in threads:
        thread.join(WATCHDOG)
    assert sorted(taken) == list(range(MANY))


def batch(door):
    inbox = door.subscribe("n")
    values = [{"n": number} for number in range(200)]
    door.from_.batch("n", values)
    door.from_.publish("n", "behind")
    for value in [*values, "behind"]:
        expect(inbox, "n", value)
    ends(door, inbox)


def latest(door):
    inbox, lost = overrun(door, "latest")
    assert lost == MANY - 1
    expect(inbox, "n", MANY - 1, lost=lost)
    ends(door, inbox)


def accounts(door):
    def accounted(stats):
        parts = stats["delivered"] + stats["refused"] + stats["pending"]
        return stats["offered"] == parts + sum(stats["lost_by"].values())

    if isinstance(door, SseDoor):
        inbox, count = fill(door)
        assert accounted(door.from_.stats())
        lost = gaps_are_told(inbox, count)
        stats = door.site.pages()
        assert (stats["waiting_bytes"], stats["lost"]) == (0, lost)
        assert accounted(door.from_.stats())
    else:
        for full in ("drop_oldest", "drop_newest", "latest", "refuse"):
            inbox, _ = overrun(door, full)
            assert accounted(inbox.stats())
            while inbox.stats()["pending"] > 0:
                inbox.take()
            assert accounted(inbox.stats())
            inbox.close()
        assert accounted(door.to.stats())
    assert accounted(door.from_.stats())


def close(door):
    inbox = door.subscribe("n")
    door.from_.numbers(["n"], 0, 3)
    eventually(lambda: inbox.stats()["offered"] == 3)
    begun = time.monotonic()
    assert door.to.close(0.2) == 3
    assert time.monotonic() - begun < WATCHDOG


def flush(door):
    inbox = door.subscribe("n")
    before = door.from_.link_stats()["sent"]
    door.from_.numbers(["n"], 0, MANY)
    door.from_.flush()
    assert door.from_.link_stats()["sent"] - before == MANY
    for number in range(MANY):
        expect(inbox, "n", number)


def bytes_(door):
    everything = bytes(number * 2654435761 >> 13 & 255 for number in range(65536)) * 16
    inbox = door.subscribe("bytes")
    for length in (0, 1, 1023, 1024, 1025, 65536, MAX_PAYLOAD):
        for type in ("untagged", "msgpack", "bytes", "json", "text"):
            headers = {"k": length} if length < MAX_PAYLOAD else None
            data = everything[:length]
            door.from_.publish_raw("bytes", data, encoding=type, headers=headers)
            msg = inbox.take()
            assert msg.data == data
            assert (msg.encoding, msg.headers, msg.lost) == (type, headers or {}, 0)


def too_big(door):
    inbox = door.subscribe("big")
    for retain in (False, True):
        with refused_as("BUS_E_TOO_BIG"):
            door.from_.publish_raw("big", bytes(MAX_PAYLOAD + 1), retain=retain)
        with refused_as("BUS_E_TOO_BIG"):
            door.from_.publish("big", "x" * MAX_PAYLOAD, retain=retain)
    ends(door, inbox)


def back(door):
    door.from_.publish("kept/state", "before", retain=True)
    inbox = door.subscribe("kept/#", "live")
    expect(inbox, "kept/state", "before", kept=True)
    for value in ("first", "second"):
        door.cut()
        door.mend()
        door.from_.publish("kept/state", value, retain=True)
        msg = inbox.take()
        assert (msg.topic, msg.value) == ("kept/state", value)
        door.from_.publish("live", 1)
        expect(inbox, "live", 1)
        ends(door, inbox)


def killed(door):
    inbox = door.subscribe("n")
    with door.another() as kill:
        door.from_.numbers(["n"], 0, MANY // 2)
        kill()
        door.from_.numbers(["n"], MANY // 2, MANY)
        for number in range(MANY):
            expect(inbox, "n", number)
        ends(door, inbox)


def arrives(door, inbox, life):
    """Whether a message reaches the inbox before its life is over; one that does not is counted by its link."""
    lost = door.from_.link_stats()["lost"]
    door.from_.publish("news", "short", ttl=life)
    eventually(lambda: inbox.stats()["offered"] == 1 or door.from_.link_stats()["lost"] > lost)
    return inbox.stats()["offered"] == 1


def ttl(door):
    inbox = door.subscribe("news")
    life = 0.02
    while not arrives(door, inbox, life):  # it may expire on a link that is slow today
        life *= 2
        assert life < WATCHDOG
    door.from_.publish("news", "later")
    eventually(lambda: inbox.stats()["offered"] == 2)
    time.sleep(life + 0.01)
    expect(inbox, "news", "later", lost=1)
    assert inbox.stats()["lost_by"]["expired"] == 1
    ends(door, inbox)


def function_of(name):
    return globals()[{"bytes": "bytes_"}.get(name, name)]


@pytest.mark.parametrize(
    ("promise", "door"), [pytest.param(*cell, id="/".join(cell)) for cell in TABLE.cells("python")]
)
def test_promise_is_kept(promise, door):
    with contextlib.ExitStack() as stack:
        function_of(promise)(DOORS[door](stack))


def test_the_page_says_what_the_table_says():
    page = promises.SOURCE.parents[2] / "docs" / "internals" / "contract.md"
    assert page.read_text(encoding="utf-8") == matrix.page(TABLE), (
        "python3 tests/contract/matrix.py"
    )
