"""docs/internals/wire.md is enough to speak with a bus: the reader and the peer here were made from that page."""

import contextlib
import random
import struct
import threading

import pytest
from patience import WATCHDOG
from wire_proxy import OTHER, Proxy
from wire_reader import (
    BEFORE,
    HEADERS,
    KEPT,
    NOBODY,
    ORIGIN,
    PREAMBLE,
    REPLY_TO,
    RETAIN,
    TTL,
    TYPED,
    History,
    Parser,
    WireError,
    frames,
)
from wire_world import (
    CALM,
    FORBIDDEN_BYTES,
    HANDSHAKE,
    ROOM,
    STARTED,
    T,
    a_record,
    eventually,
    judged,
    message,
    u32,
    u64,
)

import libbus

# --- the reader itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORBIDDEN_BYTES)
def test_the_reader_names_the_fault_and_its_place(name):
    data, bye, word = FORBIDDEN_BYTES[name]
    offset = len(HANDSHAKE) + len(STARTED) + len(T)
    error = judged(a_record(STARTED + T + data))
    assert error.bye == bye
    assert f"at byte {offset}" in str(error)
    assert word in str(error)


def test_the_reader_takes_bytes_in_any_pieces():
    data = HANDSHAKE + STARTED + T + message(HEADERS | TYPED, u32(2), u32(1), rest=b"payloadh")
    whole = frames(data)
    kinds = " ".join(found.kind for found in whole)
    assert kinds == "HELLO JOIN RESUME SUB READY START TOPIC MSG"
    assert (whole[-1]["payload"], whole[-1]["headers"], whole[-1]["type"]) == (b"payload", b"h", 2)
    parser = Parser()
    parser.joined = True
    assert [found for at in range(len(data)) for found in parser.feed(data[at : at + 1])] == whole
    with pytest.raises(WireError, match="ends inside the frame at byte"):
        frames(data[:-1])


@pytest.mark.parametrize("at", range(8))
def test_the_reader_judges_each_byte_of_the_preamble_as_soon_as_it_is_there(at):
    data = PREAMBLE[:at] + b"\x7f"
    with pytest.raises(WireError, match=f"preamble at byte {at}") as caught:
        list(Parser().feed(data))
    assert caught.value.bye is None


# --- real traffic through a proxy ------------------------------------------------------------------------


@pytest.fixture
def two():
    """Two buses; the first listens, the second is to dial."""
    with libbus.Bus() as a, libbus.Bus() as b:
        yield a, b


def linked(stack, a, b, heartbeat=CALM, bytes=ROOM, plan=None):
    """A link from b to a through a proxy."""
    listening = a.listen("tcp://127.0.0.1:0", heartbeat=heartbeat, max_bytes=bytes)
    proxy = stack.enter_context(Proxy(listening.url, plan))
    dialled = b.dial(proxy.url, heartbeat=heartbeat, max_bytes=bytes)
    eventually(lambda: dialled.state == "up" and listening.stats()["peers"] == 1)
    return listening, dialled, proxy


def on_the_wire(side):
    """Returns the messages that a side sent, and those it reported as lost, by a Connection."""
    counts = side.counts
    return counts["MSG"] + counts["KEPT"] + counts["REPLY"], counts["LOST"]


def agree(sides, listening, dialled):
    """Returns whether the counters of both links equal those of the wire: a message counts when its write has ended."""
    return all(
        counted(ours, theirs) == on_the_wire(sides[name]) * 2
        for name, ours, theirs in (
            ("listening", listening, dialled),
            ("dialling", dialled, listening),
        )
    )


def counted(sender, receiver):
    """Returns one link's counts of sent and lost messages, and the other's of received and lost ones."""
    ours, theirs = sender.stats(), receiver.stats()
    return ours["sent"], ours["lost"], theirs["received"], theirs["lost_by_peers"]


def test_the_checker_accepts_every_byte_of_two_buses_and_counts_what_they_count(two):
    a, b = two
    with contextlib.ExitStack() as stack:
        a.publish("kept/before", 1, retain=True)
        a.publish("kept/forgotten", 1, retain=True)
        a.publish_raw("kept/forgotten", b"", retain=True)
        inbox = b.subscribe("plain/#", "kept/#", "many/#", "mark", max_bytes=ROOM)
        back = a.subscribe("back/#", max_bytes=ROOM)
        a.serve("ask/too")(lambda msg: msg.value * 2)
        serving = b.subscribe("ask/me", callback=lambda msg: b.reply(msg, msg.value + 1))
        listening, dialled, proxy = linked(stack, a, b)

        a.publish("plain/msgpack", {"a": [1, 2.5, None]})
        for type in ("untagged", "msgpack", "bytes", "json", "text"):
            a.publish_raw("plain/" + type, b"1", encoding=type)
        a.publish("plain/empty", "", ttl=3600)
        a.publish("plain/headers", 1, headers={"k": "v"})
        a.publish("plain/all", b"x", headers={"k": [1]}, ttl=60)
        a.publish("kept/now", 1, retain=True, headers={"h": 1}, ttl=3600)
        a.publish("kept/now", 2, retain=True)
        a.publish_raw("kept/now", b"", retain=True)
        b.publish("back/kept", 1, retain=True)
        # Large ones, up to the limit.
        for size in (1 << 14, (1 << 14) + 1, 1 << 16, (1 << 20) - 1, 1 << 20):
            a.publish_raw("plain/large", bytes(size))
            b.publish_raw("back/large", bytes(size))
        for turn in range(3):
            for topic in range(200):
                a.publish(f"many/{topic}", turn)
        # Questions and replies, in both directions.
        assert a.request("ask/me", 1, timeout=WATCHDOG).value == 2
        for number in range(3):
            assert (
                b.request("ask/too", number, timeout=WATCHDOG, headers={"n": 1}).value == 2 * number
            )
        # The last responder leaves while the request is in transit.
        proxy.last.hold("dialling")
        serving.close()
        eventually(lambda: proxy.last.said("dialling", "UNSUB"))
        answers = []
        asking = threading.Thread(target=ask, args=(a, "ask/me", answers))
        asking.start()
        eventually(lambda: [f for f in proxy.last.said("dialling", "REPLY") if f.flags & NOBODY])
        proxy.last.release("dialling")
        asking.join(WATCHDOG)
        assert answers == ["NobodyError"]
        # Filters added later bring the kept values.
        late = b.subscribe("kept/before", "late/#")
        assert late.recv(WATCHDOG).kept
        late.close()
        eventually(lambda: len(proxy.last.said("dialling", "UNSUB")) == 3)
        a.publish("mark", 1)
        eventually(lambda: any(msg.topic == "mark" for msg in inbox.iter(timeout=0.01)))
        b.publish("back/mark", 1)
        eventually(lambda: any(msg.topic == "back/mark" for msg in back.iter(timeout=0.01)))

        sides = proxy.last.judge(History()).sides
        eventually(lambda: agree(sides, listening, dialled))
        for kind in ("SUB", "UNSUB", "TOPIC", "REPLY"):
            assert [found for side in OTHER for found in proxy.last.said(side, kind)]
        flags = 0
        for found in proxy.last.said("listening", "MSG"):
            flags |= found.flags
        assert flags & ~(ORIGIN | BEFORE) == RETAIN | KEPT | TYPED | TTL | HEADERS | REPLY_TO
        dialled.close()
        eventually(lambda: proxy.last.over)
        sides = proxy.last.judge(History()).sides
        assert sides["dialling"].bye == 0
        assert (inbox.stats()["lost"], back.stats()["lost"]) == (0, 0)


def ask(bus, topic, answers):
    try:
        answers.append(bus.request(topic, 1, timeout=WATCHDOG).value)
    except libbus.BusError as error:
        answers.append(type(error).__name__)


def test_both_sides_ping_when_idle(two):
    a, b = two
    with contextlib.ExitStack() as stack:
        _, _, proxy = linked(stack, a, b, heartbeat=0.1)
        # A slow machine may end connections: the dialling side reconnects.
        eventually(
            lambda: any(
                len(each.said("listening", "PING")) > 2 and len(each.said("dialling", "PING")) > 2
                for each in list(proxy.connections)
            )
        )
        b.close()
        a.close()
        eventually(lambda: all(each.over for each in proxy.connections))
        history = History()
        for each in proxy.connections:
            each.judge(history)


def test_messages_without_room_towards_a_peer_are_reported_as_lost(two):
    a, b = two
    with contextlib.ExitStack() as stack:
        inbox = b.subscribe("n", max_bytes=ROOM)
        listening, dialled, proxy = linked(stack, a, b, bytes=1 << 16)
        proxy.last.stall("listening")
        published = 0
        while listening.stats()["lost"] == 0:
            a.publish("n", bytes(10_000))
            published += 1
        proxy.last.release("listening")
        a.flush(WATCHDOG)
        for _ in range(10):
            a.publish("n", b"")
        published += 10

        received = lost = 0
        while received + lost < published:
            msg = inbox.recv(WATCHDOG)
            received, lost = received + 1, lost + msg.lost
        assert received + lost == published
        sides = proxy.last.judge(History()).sides
        assert on_the_wire(sides["listening"]) == (received, lost)
        eventually(lambda: agree(sides, listening, dialled))


# --- a connection that is cut -----------------------------------------------------------------------------

CUTS = 12


class Stream:
    """Publishes numbers on a topic until stop is set."""

    def __init__(self, bus, topic, seed):
        self.bus, self.topic, self.random = bus, topic, random.Random(seed)
        self.count = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stopping.wait(0.001):
            for _ in range(self.random.randrange(20)):
                self.publish(self.random.choice((0, 10, 100, 1000)))

    def publish(self, size=0):
        self.bus.publish_raw(self.topic, u64(self.count) + bytes(size))
        self.count += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(WATCHDOG)


def received(inbox, published):
    """Returns how many numbers of a stream arrived; each has the count of those missing right before it."""
    expected = count = 0
    while expected < published:
        msg = inbox.recv(WATCHDOG)
        index = struct.unpack("<Q", msg.data[:8])[0]
        assert expected + msg.lost == index
        expected, count = index + 1, count + 1
    return count


@pytest.mark.parametrize(
    "names",
    [
        (None, None),
        ("a", None),
        (None, "b"),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [1, 2])
def test_messages_and_losses_add_up_however_often_a_connection_is_cut(tmp_path, seed, names):
    chance = random.Random(seed)

    def plan(recorded, number):
        if number < CUTS:
            # Now and then in the handshake: more often, and the dialling side would wait long.
            least = 0 if number % 4 == 3 else 300
            side = chance.choice(sorted(OTHER))
            recorded.cut_at[side] = chance.randrange(
                least, least + chance.choice((300, 3000, 30000))
            )

    with contextlib.ExitStack() as stack:
        a, b = (
            stack.enter_context(libbus.Bus(name, directory=tmp_path if name else None))
            for name in names
        )
        to_a, to_b = a.subscribe("to/a", max_bytes=ROOM), b.subscribe("to/b", max_bytes=ROOM)
        # The streams begin in the first connection, and the first cut comes behind its handshake.
        began = threading.Event()

        def patient(recorded, number):
            if began.is_set():
                plan(recorded, number)

        listening, dialled, proxy = linked(stack, a, b, plan=patient)
        began.set()
        with proxy.last.lock:
            for side in OTHER:
                proxy.last.cut_at[side] = proxy.last.delivered[side] + chance.randrange(3000)
        with Stream(a, "to/b", seed) as from_a, Stream(b, "to/a", seed + 100) as from_b:
            eventually(lambda: len(proxy.connections) > CUTS)
            eventually(lambda: dialled.state == "up")
        # The last one tells of those before it.
        from_a.publish()
        from_b.publish()
        at_b, at_a = received(to_b, from_a.count), received(to_a, from_b.count)

        history = History()
        for each in proxy.connections:
            each.judge(history)

        for sender, receiver, published, arrived in (
            (listening, dialled, from_a.count, at_b),
            (dialled, listening, from_b.count, at_a),
        ):
            exact = (arrived, published - arrived) * 2
            eventually(lambda s=sender, r=receiver, exact=exact: counted(s, r) == exact)
