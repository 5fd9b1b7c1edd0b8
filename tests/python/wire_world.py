"""Shared by the tests of the wire: bytes by docs/internals/wire.md, and a bus with honest and other peers."""

import struct
import time

import pytest
from patience import WATCHDOG
from wire_peer import WirePeer
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
    RETAIN,
    STAND,
    TOO_LONG,
    TTL,
    TYPED,
    Connection,
    WireError,
    frame,
)

import libbus

# A connection that gets no CPU for a while must not end.
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

# Forbidden after the handshake: bytes, reason of the BYE, text of the reader.
FORBIDDEN_BYTES = {
    "kind 0": (frame(0), FORBIDDEN, "kind: there is none such"),
    "kind 18": (frame(18), FORBIDDEN, "kind: there is none such"),
    "kind 255": (frame(255), FORBIDDEN, "kind: there is none such"),
    "AUTH": (frame("AUTH", b"n,,n=pico,r=nonce"), FORBIDDEN, "does not need it"),
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
    "flags of LOST": (frame("LOST", u64(1), flags=4), FORBIDDEN, "flags"),
    "LOST at least, without a hub": (frame("LOST", u64(1), flags=1), FORBIDDEN, "hub"),
    "LOST passed on, without a hub": (
        frame("LOST", u64(1) + bytes(16) + u64(1), flags=2),
        FORBIDDEN,
        "hub",
    ),
    "LOST passed on, of 8 bytes": (frame("LOST", u64(1), flags=2), FORBIDDEN, "length"),
    "PASSED without a hub": (frame("PASSED", bytes(16) + u64(1)), FORBIDDEN, "hub"),
    "PASSED of 23 bytes": (frame("PASSED", bytes(23)), FORBIDDEN, "length"),
    "PASSED under number 0": (frame("PASSED", bytes(24)), FORBIDDEN, "number"),
    "PASSED through 9 hubs": (frame("PASSED", bytes(16) + u64(1 | 9 << 48)), FORBIDDEN, "number"),
    "PASSED and KEPT": (
        frame("PASSED", bytes(16) + u64(1) + u64(0) + u64(1), flags=KEPT),
        FORBIDDEN,
        "event",
    ),
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


# --- a bus that listens -------------------------------------------------------------------------------------

# The counter of a link for each BYE with which it ends a connection.
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
        """Waits until only the honest peer is connected, and the link thread has freed the last other one."""
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
        """The reasons of ended connections."""
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


def says(found):
    """All flags but MET, which does not depend on the sequence."""
    flags = found.flags & ~MET if found.kind == "RESUME" else found.flags
    return (found["id"], found["next"], found["missing"], flags)
