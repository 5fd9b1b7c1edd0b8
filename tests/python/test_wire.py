"""docs/wire.md is enough to speak with a bus: the reader and the peer here were made from that page."""

import contextlib
import random
import socket
import struct
import threading
import time

import pytest
from patience import WATCHDOG
from wire_proxy import OTHER, Proxy
from wire_reader import (
    BEFORE,
    FEATURE,
    FORBIDDEN,
    HEADERS,
    HELLO,
    KEPT,
    LINKED,
    MET,
    NOBODY,
    ORIGIN,
    PREAMBLE,
    REPLY_TO,
    RESTARTED,
    RETAIN,
    STAND,
    TOO_LONG,
    TTL,
    TYPED,
    Connection,
    History,
    Parser,
    WireError,
    WirePeer,
    frame,
    frames,
)

import libbus

# A connection that gets no CPU for a while is not to end.
CALM = 600.0
ROOM = 64 << 20


def eventually(condition):
    deadline = time.monotonic() + WATCHDOG
    while not (answer := condition()):
        assert time.monotonic() < deadline, "never became true"
        time.sleep(0.001)
    return answer


def peer(seed, **options):
    return WirePeer(seed, WATCHDOG, **options)


def text(kind, value):
    return frame(kind, value.encode())


# --- the reader itself --------------------------------------------------------------------------------------

HANDSHAKE = (
    PREAMBLE
    + frame("HELLO", HELLO.pack(b"a stranger's id.", 1 << 20, 3_600_000, 0))
    + frame("JOIN")
    + frame("RESUME", STAND.pack(0, 0, 0))
    + text("SUB", "#")
    + frame("READY")
)
STARTED = frame("START", STAND.pack(1, 0, 0))
T = frame("TOPIC", b"from/t", 0)


def message(flags=0, *fields, rest=b"", number=0, kind="MSG"):
    return frame(kind, b"".join(fields) + rest, number, flags)


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


KEPT_FIELDS = (u64(5), u64(1))
BIG = 1 << 20
MOST = (1 << 64) - 1

# What may not come behind the handshake: bytes, reason of the BYE, what the reader says of it.
FORBIDDEN_BYTES = {
    "kind 0": (frame(0), FORBIDDEN, "kind: there is none such"),
    "kind 16": (frame(16), FORBIDDEN, "kind: there is none such"),
    "kind 255": (frame(255), FORBIDDEN, "kind: there is none such"),
    "AUTH": (frame("AUTH"), FORBIDDEN, "kind: AUTH is reserved"),
    "ACK": (frame("ACK", u64(1)), FORBIDDEN, "kind: ACK is reserved"),
    "HELLO again": (
        frame("HELLO", HELLO.pack(b"a stranger's id.", 1 << 20, 1000, 0)),
        FORBIDDEN,
        "second",
    ),
    "JOIN again": (frame("JOIN"), FORBIDDEN, "second"),
    "RESUME again": (frame("RESUME", STAND.pack(0, 0, 0)), FORBIDDEN, "second"),
    "READY again": (frame("READY"), FORBIDDEN, "second"),
    "START again": (STARTED, FORBIDDEN, "second"),
    "flags of PING": (frame("PING", flags=1), FORBIDDEN, "flags"),
    "flags of TOPIC": (frame("TOPIC", b"t", 0, 1), FORBIDDEN, "flags"),
    "flags of LOST": (frame("LOST", u64(1), flags=1), FORBIDDEN, "flags"),
    "number of PING": (frame("PING", number=1), FORBIDDEN, "number"),
    "number of SUB": (frame("SUB", b"a", 1), FORBIDDEN, "number"),
    "number of LOST": (frame("LOST", u64(1), 1), FORBIDDEN, "number"),
    "number of REPLY": (message(REPLY_TO, u64(1), kind="REPLY", number=1), FORBIDDEN, "number"),
    "number of TOPIC": (frame("TOPIC", b"t", 10_000), FORBIDDEN, "number"),
    "number of MSG": (message(number=10_000), FORBIDDEN, "number"),
    "number without TOPIC": (message(number=9999), FORBIDDEN, "no TOPIC"),
    "body of PING": (frame("PING", b"!"), TOO_LONG, "length"),
    "body of READY": (frame("READY", b"!"), TOO_LONG, "length"),
    "body of BYE": (frame("BYE", b"!"), TOO_LONG, "length"),
    "no topic": (frame("TOPIC", b""), FORBIDDEN, "length"),
    "long topic": (frame("TOPIC", b"t" * 1025), TOO_LONG, "length"),
    "topic with NUL": (frame("TOPIC", b"a\0b"), FORBIDDEN, "NUL"),
    "topic of no UTF-8": (frame("TOPIC", b"a\xff"), FORBIDDEN, "UTF-8"),
    "topic of a surrogate": (frame("TOPIC", b"\xed\xa0\x80"), FORBIDDEN, "UTF-8"),
    "topic with +": (frame("TOPIC", b"a/+"), FORBIDDEN, "wildcard"),
    "topic with #": (frame("TOPIC", b"a/#"), FORBIDDEN, "wildcard"),
    "topic of one bus": (frame("TOPIC", b"$bus/x"), FORBIDDEN, "one bus only"),
    "no filter": (frame("SUB", b""), FORBIDDEN, "length"),
    "long filter": (frame("SUB", b"t" * 1025), TOO_LONG, "length"),
    "filter with NUL": (frame("SUB", b"a\0"), FORBIDDEN, "NUL"),
    "filter of no UTF-8": (frame("SUB", b"\xc0\xaf"), FORBIDDEN, "UTF-8"),
    "filter a+b": (frame("SUB", b"a+b"), FORBIDDEN, "no filter"),
    "filter #/a": (frame("SUB", b"#/a"), FORBIDDEN, "no filter"),
    "filter of one bus": (frame("SUB", b"$bus/#"), FORBIDDEN, "one bus only"),
    "LOST of 7 bytes": (frame("LOST", b"1234567"), FORBIDDEN, "length"),
    "LOST of 9 bytes": (frame("LOST", b"123456789"), TOO_LONG, "length"),
    "payload": (message(rest=bytes(BIG + 1)), TOO_LONG, "length"),
    "payload and headers": (
        message(HEADERS, u32(1), rest=bytes(BIG + 1)),
        TOO_LONG,
        "length",
    ),
    "BEFORE alone": (message(BEFORE), FORBIDDEN, "BEFORE"),
    "ORIGIN alone": (message(ORIGIN, bytes(16)), FORBIDDEN, "ORIGIN"),
    "question that is kept": (
        message(REPLY_TO | KEPT, *KEPT_FIELDS, u64(1)),
        FORBIDDEN,
        "question",
    ),
    "question that is to be kept": (
        message(REPLY_TO | RETAIN, *KEPT_FIELDS, u64(1)),
        FORBIDDEN,
        "question",
    ),
    "TYPED without type": (message(TYPED, b"123"), FORBIDDEN, "length"),
    "TTL 0": (message(TTL, u32(0)), FORBIDDEN, "ttl_ms"),
    "question 0": (message(REPLY_TO, u64(0)), FORBIDDEN, "question"),
    "headers 0": (message(HEADERS, u32(0)), FORBIDDEN, "header"),
    "headers beyond the end": (message(HEADERS, u32(3), rest=b"12"), FORBIDDEN, "headers"),
    "time before 1970": (message(RETAIN, u64(1 << 63), u64(1)), FORBIDDEN, "time_ns"),
    "changes 0": (message(RETAIN, u64(5), u64(0)), FORBIDDEN, "changes"),
    "changes 2^62": (message(KEPT, u64(5), u64(1 << 62)), FORBIDDEN, "changes"),
    "REPLY to nothing": (message(TYPED, u32(1), rest=b"1234", kind="REPLY"), FORBIDDEN, "REPLY_TO"),
    "REPLY to 0": (message(REPLY_TO, u64(0), kind="REPLY"), FORBIDDEN, "question"),
    "REPLY kept": (
        message(REPLY_TO | KEPT, *KEPT_FIELDS, u64(1), kind="REPLY"),
        FORBIDDEN,
        "flags",
    ),
    "NOBODY with more": (
        message(REPLY_TO | NOBODY, u64(1), rest=b"1", kind="REPLY"),
        TOO_LONG,
        "length",
    ),
    "NOBODY typed": (
        message(REPLY_TO | NOBODY | TYPED, u32(1), u64(1), kind="REPLY"),
        FORBIDDEN,
        "NOBODY",
    ),
}


def judged(record):
    """The WireError of a recorded connection, or None."""
    connection = Connection()
    try:
        for side, data in record:
            connection.feed(side, data)
    except WireError as error:
        return error
    return None


THEIRS = (
    PREAMBLE + frame("HELLO", HELLO.pack(b"the bus that is.", 1 << 20, 3_600_000, 0)),
    frame("RESUME", STAND.pack(0, 0, 0)) + frame("START", STAND.pack(7, 0, 0)) + frame("READY"),
)


def a_record(tail):
    """A connection on which the dialling side says this behind its START, or in place of it."""
    at = HANDSHAKE.index(frame("JOIN"))
    return [
        ("dialling", HANDSHAKE[:at]),
        ("listening", THEIRS[0]),
        ("dialling", HANDSHAKE[at:]),
        ("listening", THEIRS[1]),
        ("dialling", tail),
    ]


@pytest.mark.parametrize("name", FORBIDDEN_BYTES)
def test_the_reader_says_what_is_wrong_and_where(name):
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
    """How many messages a side said, and how many it said were lost, by a Connection."""
    counts = side.counts
    return counts["MSG"] + counts["KEPT"] + counts["REPLY"], counts["LOST"]


def agree(sides, listening, dialled):
    """Whether the counters of both links are those of the wire: a message is counted when its write has ended."""
    return all(
        counted(ours, theirs) == on_the_wire(sides[name]) * 2
        for name, ours, theirs in (
            ("listening", listening, dialled),
            ("dialling", dialled, listening),
        )
    )


def counted(sender, receiver):
    """What one link counts as sent and lost, and the other as received and lost."""
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
        # The last that replies goes while the question is on its way to it.
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
        # Filters that come later bring what is kept.
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


def test_both_sides_ping_when_there_is_nothing_else(two):
    a, b = two
    with contextlib.ExitStack() as stack:
        _, _, proxy = linked(stack, a, b, heartbeat=0.1)
        # A slow machine may end connections: the dialling side comes back.
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


def test_what_finds_no_room_towards_a_peer_is_said_as_lost(two):
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
    """Publishes numbers on a topic until it is told to stop."""

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
    """How many numbers of a stream came; each says how many are missing right before it."""
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


# --- a peer that breaks the rules -------------------------------------------------------------------------


# How a link counts what it ends with each BYE.
ENDS = {
    "protocol": FORBIDDEN,
    "too_big": TOO_LONG,
    "version": FEATURE,
    "closed": LINKED,
    "gone": None,
}


class Served:
    """A bus that listens, and an honest peer on it that must not notice what others do."""

    def __init__(self, bus, link):
        self.bus, self.link, self.url = bus, link, link.url
        self.inbox = bus.subscribe("from/#", max_bytes=ROOM)
        bus.publish_raw("alive", b"yes", retain=True)
        self.honest = peer("honest").dial(self.url)
        self.honest.handshake("honest")
        self.turn = self.seed = 0

    def check(self, lost=0):
        """Both directions of the honest peer work, and no more than this is lost."""
        self.turn += 1
        self.bus.publish_raw("honest", u64(self.turn))
        assert self.honest.until("MSG")["payload"] == u64(self.turn)
        self.honest.publish("from/honest", u64(self.turn))
        msg = self.inbox.recv(WATCHDOG)
        assert (msg.topic, msg.data) == ("from/honest", u64(self.turn))
        assert msg.lost <= lost

    def attacker(self, **options):
        self.seed += 1
        return peer(self.seed, **options).dial(self.url)

    def is_alone(self):
        """Waits until nobody but the honest peer is connected, and the link thread has done with the last."""
        eventually(lambda: self.link.stats()["peers"] == 1)
        self.honest.unsubscribe("alive")
        self.honest.subscribe("alive")
        assert self.honest.until("MSG")["topic"] == "alive"

    def judges(self, attacker, data):
        """What the bus ends the connection for, 3 or 4 or 6; "alive" if it answers what comes behind these bytes.

        It says BYE only if its wire is free, and closes without a word otherwise.
        """
        before = self.ends()
        # In one piece: a BYE may be lost where bytes come after the end.
        attacker.raw(data + text("SUB", "alive"))
        bye = None
        while (found := attacker.read()) is not None:
            if found.kind == "MSG" and found["topic"] == "alive":
                return "alive"
            if found.kind == "BYE":
                bye = found.number
                break
        counted = eventually(lambda: [end for end in ENDS if self.ends()[end] > before[end]])
        assert counted == [end for end in counted if bye in (None, ENDS[end])]
        return ENDS[counted[0]]

    def ends(self):
        """For what connections were ended."""
        return self.link.stats()["ended"]


@pytest.fixture(params=["tcp", "ipc"])
def served(request, tmp_path):
    tmp_path.chmod(0o700)
    url = "tcp://127.0.0.1:0" if request.param == "tcp" else f"ipc://{tmp_path}/bus.sock"
    with libbus.Bus() as bus, bus.listen(url, heartbeat=CALM) as link:
        served = Served(bus, link)
        with served.honest:
            served.check()
            yield served
            served.check()
            served.is_alone()


def test_the_bus_forbids_what_the_page_forbids(served):
    differences = {}
    for name, (data, bye, _) in FORBIDDEN_BYTES.items():
        with served.attacker() as attacker:
            attacker.handshake()
            if bye == TOO_LONG:
                data = data[:8]  # the head is enough
            said = served.judges(attacker, T + data)
        if said != bye:
            differences[name] = (said, bye)
    assert differences == {}


def stand(*values):
    return STAND.pack(*values)


# Before the handshake is over: what is said, and the answer. A list is one frame after the other.
EARLY = {
    "SUB before RESUME": ("JOIN", [text("SUB", "a")], FORBIDDEN),
    "UNSUB before RESUME": ("JOIN", [text("UNSUB", "a")], FORBIDDEN),
    "READY before RESUME": ("JOIN", [frame("READY")], FORBIDDEN),
    "AUTH before RESUME": ("JOIN", [frame("AUTH")], FORBIDDEN),
    "RESUME twice": ("JOIN", [frame("RESUME", stand(0, 0, 0))] * 2, FORBIDDEN),
    "RESUME of 23 bytes": ("JOIN", [frame("RESUME", bytes(23))], FORBIDDEN),
    "RESUME of more bytes": ("JOIN+", [frame("RESUME", bytes(40))], "alive"),
    "RESUME WAITED of a sequence": ("JOIN", [frame("RESUME", stand(1, 0, 0), 0, 1)], FORBIDDEN),
    "RESUME WAITED": ("JOIN+", [frame("RESUME", bytes(24), 0, 1)], "alive"),
    "RESUME MET": ("JOIN+", [frame("RESUME", bytes(24), 0, 2)], "alive"),
    "RESUME with an unknown flag": ("JOIN", [frame("RESUME", bytes(24), 0, 4)], FORBIDDEN),
    "RESUME of 4,089 bytes": ("JOIN", [frame("RESUME", bytes(4089))], TOO_LONG),
    "RESUME lost > next": ("JOIN", [frame("RESUME", stand(5, 3, 4))], FORBIDDEN),
    "RESUME of an unknown sequence": ("JOIN+", [frame("RESUME", stand(5, 9, 4))], "alive"),
    "MSG before START": ("RESUME", [T, message()], FORBIDDEN),
    "LOST before START": ("RESUME", [frame("LOST", u64(1))], FORBIDDEN),
    "REPLY before START": ("RESUME", [message(REPLY_TO, u64(1), kind="REPLY")], FORBIDDEN),
    "PING before START": ("RESUME", [frame("PING")], "alive"),
    "START id 0": ("RESUME", [frame("START", stand(0, 0, 0))], FORBIDDEN),
    "START unsent > next": ("RESUME", [frame("START", stand(1, 3, 4))], FORBIDDEN),
    "START twice": ("RESUME", [STARTED] * 2, FORBIDDEN),
    "START flag 2": ("RESUME", [frame("START", stand(1, 0, 0), 0, 2)], FORBIDDEN),
    "START of 23 bytes": ("RESUME", [frame("START", bytes(23))], FORBIDDEN),
    "START of 4,089 bytes": ("RESUME", [frame("START", stand(1, 0, 0) + bytes(4065))], TOO_LONG),
    "START of more bytes": ("RESUME", [frame("START", stand(1, 0, 0) + bytes(9))], "alive"),
    "JOIN twice": ("JOIN", [frame("JOIN")], FORBIDDEN),
    "AUTH before JOIN": ("HELLO", [frame("AUTH")], FORBIDDEN),
    "ACK before JOIN": ("HELLO", [frame("ACK")], FORBIDDEN),
    "PING before JOIN": ("HELLO", [frame("PING")], FORBIDDEN),
    "RESUME before JOIN": ("HELLO", [frame("RESUME", bytes(24))], FORBIDDEN),
    "HELLO twice": (
        "",
        [frame("HELLO", HELLO.pack(b"a stranger's id.", 1, 999, 0))] * 2,
        FORBIDDEN,
    ),
    "HELLO of 31 bytes": ("", [frame("HELLO", bytes(31))], FORBIDDEN),
    "HELLO of 28 bytes": ("", [frame("HELLO", bytes(28))], FORBIDDEN),
    "HELLO of 4,089 bytes": ("", [frame("HELLO", bytes(4089))], TOO_LONG),
    "HELLO with flags": ("", [frame("HELLO", bytes(32), 0, 1)], FORBIDDEN),
    "heartbeat of 99": ("", [frame("HELLO", HELLO.pack(bytes(16), 1 << 20, 99, 0))], FORBIDDEN),
    "JOIN before HELLO": ("", [frame("JOIN")], FORBIDDEN),
    "AUTH before HELLO": ("", [frame("AUTH")], FORBIDDEN),
    "a feature that is needed": (
        "",
        [frame("HELLO", HELLO.pack(bytes(16), 1, 999, 1 << 32))],
        FEATURE,
    ),
    "the last feature": ("", [frame("HELLO", HELLO.pack(bytes(16), 1, 999, 1 << 63))], FEATURE),
}


# What would make each of these right; values come when READY has been said.
REST = {
    "": HANDSHAKE[8:],
    "HELLO": frame("JOIN") + frame("RESUME", stand(0, 0, 0)),
    "JOIN": frame("RESUME", stand(0, 0, 0)),
    "JOIN+": frame("READY"),
    "RESUME": frame("READY"),
}


def test_before_the_handshake_is_over_the_bus_forbids_what_the_page_forbids(served):
    differences = {}
    for name, (after, data, expected) in EARLY.items():
        with served.attacker() as attacker:
            if after == "":
                attacker.raw(PREAMBLE)
            else:
                attacker.hello()
                attacker.until("HELLO")
            if after in ("JOIN", "JOIN+", "RESUME"):
                attacker.say("JOIN")
                attacker.until("RESUME")
            if after == "RESUME":
                attacker.resume()
            said = served.judges(attacker, b"".join(data) + REST[after])
            judgement = judged(attacker.record)
        if said != expected:
            differences[name] = (said, expected)
        # The reader itself is of the same opinion.
        if (judgement and judgement.bye) != (None if expected == "alive" else expected):
            differences[name, "reader"] = (judgement, expected)
    assert differences == {}


@pytest.mark.parametrize("kind", ["PING", "TOPIC", "START"])
def test_resume_is_the_first_frame_after_join(served, kind):
    with served.attacker() as attacker:
        attacker.join()
        attacker.until("RESUME")
        data = {"PING": frame("PING"), "TOPIC": T, "START": STARTED}[kind]
        said = served.judges(attacker, data + REST["JOIN"])
        assert judged(attacker.record).bye == FORBIDDEN
    assert said == FORBIDDEN


def test_a_feature_that_is_only_offered_and_a_longer_hello_are_ignored(served):
    for features, extra in ((1, b""), (0xFFFFFFFF, b""), (0, b"more"), (0, bytes(4088 - 32))):
        with served.attacker() as attacker:
            attacker.hello(features, extra)
            attacker.until("HELLO")
            attacker.say("JOIN")
            attacker.resume()
            attacker.say("READY")
            attacker.until("RESUME")
            attacker.start()
            assert served.judges(attacker, b"") == "alive"


def test_a_bus_that_meets_itself_refuses(served):
    with served.attacker() as attacker:
        attacker.id = bytes(16)
        attacker.hello()
        own = attacker.until("HELLO")["id"]
    with served.attacker() as attacker:
        attacker.id = own
        attacker.hello()
        assert attacker.ended() in (LINKED, None)


def test_numbers_that_were_never_given_end_the_connection(served):
    with served.attacker() as attacker:
        attacker.handshake("to/it")
        for _ in range(3):
            served.bus.publish("to/it", 1)
            attacker.until("MSG")
        id, number, missing = attacker.heard
        assert (number, missing) == (3, 0)
        for stand, expected in (
            ((id, 4, 0), FORBIDDEN),
            ((id, 1 << 63, 0), FORBIDDEN),
            ((id, (1 << 64) - 1, 0), FORBIDDEN),
            ((id, 3, 4), FORBIDDEN),
        ):
            attacker.break_off()
            served.is_alone()
            attacker.dial(served.url)
            attacker.join()
            attacker.resume(*stand)
            assert attacker.ended() in (expected, None)
        # The right one is still known.
        attacker.dial(served.url)
        _, began = attacker.handshake()
        assert (began["id"], began["next"], began["missing"], began.flags) == (id, 3, 0, 0)


def test_a_sequence_does_not_go_back(served):
    with served.attacker() as attacker:
        attacker.handshake()
        for number in range(5):
            attacker.publish("from/it", bytes([number]))
            assert served.inbox.recv(WATCHDOG).data == bytes([number])
        id = attacker.own[0]
        for start in ((id, 4, 0), (id, 0, 0), (id, 4, 4)):
            attacker.break_off()
            served.is_alone()
            attacker.dial(served.url)
            attacker.join()
            attacker.resume()
            theirs = attacker.until("RESUME")
            assert (theirs["id"], theirs["next"], theirs["missing"]) == (id, 5, 0)
            attacker.start(*start)
            assert attacker.ended() in (FORBIDDEN, None)


def test_losses_stay_at_the_most_that_can_be_counted(served):
    most = MOST
    with served.attacker() as attacker:
        attacker.handshake()
        attacker.lost(most)
        eventually(lambda: served.link.stats()["lost_by_peers"] == most)
        attacker.lost(most)
        assert served.judges(attacker, b"") == "alive"
        assert served.link.stats()["lost_by_peers"] == most
        attacker.break_off()
        served.is_alone()
        attacker.dial(served.url)
        attacker.join()
        attacker.resume()
        theirs = attacker.until("RESUME")
        assert says(theirs) == (attacker.own[0], 2 * most % (1 << 64), 2 * most % (1 << 64), 0)
    served.check(lost=MOST)


RIGHT = {
    "plain": message(rest=b"plain"),
    "empty": message(),
    "typed, ttl, headers": message(TYPED | TTL | HEADERS, u32(2), u32(1000), u32(1), rest=b"xh"),
    "retain": message(RETAIN, *KEPT_FIELDS, rest=b"x"),
    "retain, origin": message(RETAIN | ORIGIN, *KEPT_FIELDS, bytes(16), rest=b"x"),
    "forget, origin": message(RETAIN | ORIGIN, *KEPT_FIELDS, bytes(16)),
    "kept": message(KEPT, *KEPT_FIELDS, rest=b"x"),
    "kept, from before": message(KEPT | BEFORE, *KEPT_FIELDS, rest=b"x"),
    "kept, origin": message(KEPT | ORIGIN, *KEPT_FIELDS, bytes(16), rest=b"x"),
    "question": message(REPLY_TO | TTL, u32(1000), u64(9)),
    "largest": message(HEADERS, u32(1), rest=bytes(BIG)),
    "reply": message(REPLY_TO, u64(9), kind="REPLY", rest=b"x"),
    "nobody": message(REPLY_TO | NOBODY, u64(9), kind="REPLY"),
    "topic": frame("TOPIC", b"another", 9999),
    "lost": frame("LOST", u64(1)),
    "lost 0": frame("LOST", u64(0)),
    "sub": frame("SUB", b"a/+/#"),
    "sub twice": frame("SUB", b"a") * 2,
    "unsub": frame("UNSUB", b"a/+/#"),
    "ping": frame("PING"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_bus_takes_what_the_page_allows(served, name):
    with served.attacker() as attacker:
        attacker.handshake()
        said = served.judges(attacker, T + RIGHT[name])
        assert judged(attacker.record) is None
    served.is_alone()
    while served.inbox.recv_nowait() is not None:
        pass
    served.check(lost=1)
    assert said == "alive"


def test_the_bus_and_the_reader_agree_on_frames_that_chance_has_changed(served):
    chance = random.Random(4)
    right = [data for data in RIGHT.values() if len(data) < 100]
    differences = []
    for _ in range(150):
        data = bytearray(chance.choice(right))
        for _ in range(chance.randrange(1, 3)):
            at = chance.choice((0, 4, 5, 6, chance.randrange(len(data))))
            data[at] = chance.choice((0, 1, 128, 255, data[at] ^ 1 << chance.randrange(8)))
        before = served.ends()
        with served.attacker() as attacker:
            attacker.handshake()
            attacker.raw(T + bytes(data))
            attacker.socket.shutdown(socket.SHUT_WR)  # half a frame ends, too
            attacker.ended()
            judgement = judged(attacker.record)
        eventually(lambda before=before: served.ends() != before)
        end = {None: "gone", FORBIDDEN: "protocol", TOO_LONG: "too_big"}[
            judgement and judgement.bye
        ]
        if served.ends() != before | {end: before[end] + 1}:
            differences.append((bytes(data), judgement, before, served.ends()))
    assert differences == []
    served.is_alone()
    # Changed frames brought messages and losses.
    while served.inbox.recv_nowait() is not None:
        pass
    served.check(lost=MOST)


def test_ten_thousand_filters_are_the_most(served):
    with served.attacker() as attacker:
        attacker.handshake()
        most = b"".join(text("SUB", f"f/{number}") for number in range(9_999))
        assert served.judges(attacker, most) == "alive"
        same = text("SUB", "f/0") + text("UNSUB", "g") + text("UNSUB", "alive")
        assert served.judges(attacker, same) == "alive"
        assert served.judges(attacker, text("SUB", "one/more")) == FORBIDDEN
        error = judged(attacker.record)
    assert (error.bye, str(error).split(": ")[-1]) == (FORBIDDEN, "it is filter 10001")


# --- a peer that breaks off, forgets, restarts --------------------------------------------------------------


def says(found):
    """All but MET, which is told apart from what the sequence is."""
    flags = found.flags & ~MET if found.kind == "RESUME" else found.flags
    return (found["id"], found["next"], found["missing"], flags)


def publish(served, topic, count):
    for number in range(count):
        served.bus.publish_raw(topic, bytes([number]))


def again(served, peer):
    """Breaks off, and waits until the bus knows."""
    peer.break_off()
    served.is_alone()


def test_resume_says_whether_two_buses_have_met(served):
    with served.attacker() as it:
        theirs, _ = it.handshake("to/it")
        assert theirs.flags == 0
        again(served, it)
        it.dial(served.url)
        theirs, _ = it.handshake("to/it")
        assert theirs.flags & MET
        it.bye(0)
        served.is_alone()
        it.dial(served.url)
        theirs, _ = it.handshake("to/it")
        assert theirs.flags == MET


def test_a_peer_that_comes_back_learns_what_it_missed(served):
    with served.attacker() as it:
        theirs, began = it.handshake("to/it")
        assert says(theirs) == (0, 0, 0, 0)
        id = began["id"]
        assert says(began) == (id, 0, 0, 0)
        publish(served, "to/it", 3)
        for _ in range(3):
            it.until("MSG")
        again(served, it)
        publish(served, "to/it", 4)
        publish(served, "to/nobody", 5)
        served.bus.flush(WATCHDOG)
        before = served.link.stats()
        # It had handled one of the three: two went missing on their way.
        it.dial(served.url)
        theirs, began = it.handshake("to/it", resume=(id, 1, 0))
        assert says(began) == (id, 7, 4, 0)
        served.bus.flush(WATCHDOG)
        after = served.link.stats()
        assert after["sent"] - before["sent"] == -2
        assert after["lost"] - before["lost"] == 2 + 4
        publish(served, "to/it", 1)
        it.until("MSG")
        # All is handled.
        again(served, it)
        it.dial(served.url)
        theirs, began = it.handshake("to/it", resume=(id, 8, 6))
        assert says(began) == (id, 8, 0, 0)


def test_a_peer_that_forgets_is_told_that_it_did(served):
    with served.attacker() as it:
        _, began = it.handshake("to/it")
        id = began["id"]
        publish(served, "to/it", 3)
        for _ in range(3):
            it.until("MSG")
        again(served, it)
        publish(served, "to/it", 4)
        it.dial(served.url)
        _, began = it.handshake("to/it", resume=(0, 0, 0))
        assert began["id"] not in (0, id)
        assert began.flags == RESTARTED
        assert began["next"] == began["missing"] == 4


def test_a_peer_that_restarts_as_another_bus_begins_anew(served):
    with served.attacker() as it:
        _, began = it.handshake("to/it")
        publish(served, "to/it", 3)
        for _ in range(3):
            it.until("MSG")
        again(served, it)
        publish(served, "to/it", 4)
        it.id = b"it has restarted"
        it.dial(served.url)
        theirs, anew = it.handshake("to/it", resume=(0, 0, 0))
        assert says(theirs) == (0, 0, 0, 0)
        assert anew["id"] not in (0, began["id"])
        assert says(anew)[1:] == (0, 0, 0)
        # It remembers what it was told when it was another.
        again(served, it)
        it.id = b"it restarts again"[:16]
        it.dial(served.url)
        _, third = it.handshake("to/it", resume=(began["id"], 2, 0))
        assert third["id"] not in (0, began["id"], anew["id"])
        assert says(third)[1:] == (0, 0, RESTARTED)


def test_bye_0_ends_what_is_remembered(served):
    with served.attacker() as it:
        _, began = it.handshake("to/it")
        it.publish("from/it", b"1")
        served.inbox.recv(WATCHDOG)
        publish(served, "to/it", 3)
        for _ in range(3):
            it.until("MSG")
        it.bye()
        served.is_alone()
        publish(served, "to/it", 4)
        it.dial(served.url)
        theirs, anew = it.handshake("to/it", resume=(0, 0, 0))
        assert says(theirs) == (0, 0, 0, 0)
        assert anew["id"] != began["id"]
        assert says(anew)[1:] == (0, 0, 0)


@pytest.mark.parametrize("reason", [1, 2, 3, 4, 5, 6])
def test_any_other_bye_breaks_the_connection(served, reason):
    with served.attacker() as it:
        _, began = it.handshake("to/it")
        it.publish("from/it", b"1")
        served.inbox.recv(WATCHDOG)
        it.bye(reason)
        served.is_alone()
        publish(served, "to/it", 4)
        it.dial(served.url)
        theirs, anew = it.handshake("to/it")
        assert says(theirs) == (it.own[0], 1, 0, 0)
        assert says(anew) == (began["id"], 4, 4, 0)


def test_what_the_start_of_a_peer_says_is_missing_is_missing(served):
    with served.attacker() as it:
        it.handshake()

        def lost():
            it.publish("from/it", b"1")
            return served.inbox.recv(WATCHDOG).lost

        assert lost() == 0
        it.lost(5)
        assert lost() == 5
        assert it.own[1] == 7
        # It goes on: exactly the difference.
        again(served, it)
        it.own[1], it.unsent = 10, 2
        it.dial(served.url)
        theirs, _ = it.handshake()
        assert says(theirs) == (it.own[0], 7, 5, 0)
        assert lost() == 3
        # It begins anew, and says so: at least those.
        again(served, it)
        it.own, it.unsent = [99, 6, 0], 6
        it.dial(served.url)
        theirs, _ = it.handshake(flags=RESTARTED)
        assert says(theirs)[1:] == (11, 8, 0)
        assert lost() == 6
        # It begins anew without a word: it has forgotten.
        again(served, it)
        it.own = [100, 2, 0]
        it.unsent = 2
        it.dial(served.url)
        theirs, _ = it.handshake()
        assert says(theirs) == (99, 7, 6, 0)
        assert lost() == 2
        assert served.link.stats()["lost_by_peers"] == 5 + 3 + 6 + 2


def test_a_peer_that_is_new_here_has_lost_nothing(served):
    with served.attacker() as it:
        it.handshake(start=(5, 9, 0))
        it.publish("from/it", b"1")
        assert served.inbox.recv(WATCHDOG).lost == 0


def test_where_the_bus_dials_a_peer_may_restart_too(tmp_path):
    with libbus.Bus() as bus, bus.subscribe("from/#") as inbox, peer(1) as it:
        url = it.listen("tcp://127.0.0.1:0")
        link = bus.dial(url, heartbeat=CALM)
        theirs, began = it.accept().handshake("to/it")
        assert says(theirs) == (0, 0, 0, 0)
        assert says(began)[1:] == (0, 0, 0)
        it.publish("from/it", b"1")
        assert inbox.recv(WATCHDOG).lost == 0
        it.break_off()
        eventually(lambda: link.state == "down")
        bus.publish("to/it", 1)
        theirs, began_again = it.accept().handshake("to/it")
        assert says(theirs) == (it.own[0], 1, 0, 0)
        assert says(began_again) == (began["id"], 1, 1, 0)
        it.break_off()
        # Another bus at the same address.
        it.id, it.own, it.heard = b"it has restarted", [77, 0, 0], [0, 0, 0]
        theirs, anew = it.accept().handshake("to/it")
        assert says(theirs) == (0, 0, 0, 0)
        assert says(anew)[1:] == (0, 0, 0)
        it.publish("from/it", b"1")
        assert inbox.recv(WATCHDOG).lost == 0
        link.close()
        assert it.ended() == 0


def test_a_named_bus_goes_on_where_it_was_however_often_the_peer_breaks_off(tmp_path):
    tmp_path.chmod(0o700)
    url = f"ipc://{tmp_path}/bus.sock"
    count = 40
    with (
        libbus.Bus("wire", directory=tmp_path) as bus,
        bus.listen(url, heartbeat=CALM) as link,
        peer(1) as it,
    ):
        it.dial(url).handshake("to/it")
        for away in range(3):
            it.break_off()
            eventually(lambda: link.stats()["peers"] == 0)
            if away == 0:
                # More than the kernel holds, so that most of it stays in the log.
                for _ in range(count):
                    bus.publish_raw("to/it", bytes(1 << 16))
            it.dial(url).handshake("to/it")
        bus.publish_raw("to/it", b"last")
        while it.until("MSG")["payload"] != b"last":
            pass
        assert len(it.messages) + it.heard[2] == it.heard[1] == count + 1


def test_what_was_unsubscribed_is_not_missed(served):
    with served.attacker() as it:
        _, began = it.handshake("to/it", "to/it/too")
        it.unsubscribe("to/it")
        assert served.judges(it, b"") == "alive"
        publish(served, "to/it", 2)
        publish(served, "to/it/too", 1)
        assert it.until("MSG")["topic"] == "to/it/too"
        again(served, it)
        publish(served, "to/it", 3)
        publish(served, "to/it/too", 4)
        it.dial(served.url)
        _, goes_on = it.handshake()
        assert says(goes_on) == (began["id"], 5, 4, 0)
        # It has asked for nothing in this connection, so from READY on nothing is missed.
        again(served, it)
        publish(served, "to/it/too", 4)
        it.dial(served.url)
        _, goes_on = it.handshake()
        assert says(goes_on) == (began["id"], 5, 0, 0)


def test_a_second_connection_of_a_bus_takes_the_place_of_the_first(served):
    with served.attacker() as it, served.attacker() as twin:
        _, began = it.handshake("to/it")
        it.publish("from/it", b"1")
        assert served.inbox.recv(WATCHDOG).data == b"1"
        publish(served, "to/it", 2)
        for _ in range(2):
            it.until("MSG")
        twin.id, twin.own, twin.heard = it.id, it.own, it.heard
        theirs, goes_on = twin.handshake("to/it")
        assert it.ended() in (LINKED, None)
        assert says(theirs) == (it.own[0], 1, 0, 0)
        assert says(goes_on) == (began["id"], 2, 0, 0)
        publish(served, "to/it", 1)
        assert twin.until("MSG")["payload"] == bytes([0])


def test_a_message_whose_life_is_over_is_said_as_lost(tmp_path):
    tmp_path.chmod(0o700)
    url = f"ipc://{tmp_path}/bus.sock"
    with libbus.Bus() as bus, bus.listen(url, heartbeat=CALM, max_bytes=ROOM), peer(1) as it:
        it.dial(url).handshake("to/it")
        # More than the kernel holds, so that what comes behind waits in the bus.
        for _ in range(40):
            bus.publish_raw("to/it", bytes(1 << 16))
        bus.publish_raw("to/it", b"short", ttl=0.01)
        time.sleep(0.02)
        bus.publish_raw("to/it", b"last")
        while (found := it.until("MSG"))["payload"] != b"last":
            assert found["payload"] != b"short"
        assert (len(it.messages), it.heard[1], it.heard[2]) == (41, 42, 1)


@pytest.mark.parametrize("forgets", [False, True])
def test_what_waited_when_the_connection_broke_was_never_sent(tmp_path, forgets):
    tmp_path.chmod(0o700)
    url = f"ipc://{tmp_path}/bus.sock"
    count = 40
    with (
        libbus.Bus() as bus,
        bus.listen(url, heartbeat=CALM, max_bytes=ROOM) as link,
        peer(1) as it,
    ):
        it.dial(url).handshake("to/it")
        # More than the kernel holds: most of it waits.
        for _ in range(count):
            bus.publish_raw("to/it", bytes(1 << 16))
        it.break_off()
        eventually(lambda: link.stats()["peers"] == 0)
        it.dial(url)
        _, began = it.handshake("to/it", resume=(0, 0, 0) if forgets else None)
        assert began["missing"] >= count // 2
