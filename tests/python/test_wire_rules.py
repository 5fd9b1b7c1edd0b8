"""Everything that docs/internals/wire.md forbids ends the connection, and only that: no other peer notices."""

import random
import socket

import pytest
from patience import WATCHDOG
from wire_reader import (
    BEFORE,
    FEATURE,
    FORBIDDEN,
    HEADERS,
    HELLO,
    KEPT,
    LINKED,
    NOBODY,
    ORIGIN,
    PREAMBLE,
    REPLY_TO,
    RETAIN,
    STAND,
    TOO_LONG,
    TTL,
    TYPED,
    frame,
)
from wire_world import (
    BIG,
    FORBIDDEN_BYTES,
    HANDSHAKE,
    KEPT_FIELDS,
    MOST,
    STARTED,
    T,
    eventually,
    judged,
    message,
    says,
    text,
    u32,
    u64,
)


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
    "AUTH before RESUME": ("JOIN", [frame("AUTH", b"n,,n=pico,r=nonce")], FORBIDDEN),
    "DENY before RESUME": ("JOIN", [frame("DENY", b"a")], FORBIDDEN),
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
    "DENY of a filter": ("RESUME", [frame("DENY", b"a/+/#")], "alive"),
    "DENY of a topic": ("RESUME", [frame("DENY", b"a/b", 1)], "alive"),
    "DENY of a topic with a wildcard": ("RESUME", [frame("DENY", b"a/+", 1)], FORBIDDEN),
    "DENY of no filter": ("RESUME", [frame("DENY", b"a+")], FORBIDDEN),
    "DENY of nothing": ("RESUME", [frame("DENY")], FORBIDDEN),
    "DENY number 2": ("RESUME", [frame("DENY", b"a", 2)], FORBIDDEN),
    "DENY of a topic of one bus": ("RESUME", [frame("DENY", b"$bus/drops", 1)], FORBIDDEN),
    "START of more bytes": ("RESUME", [frame("START", stand(1, 0, 0) + bytes(9))], "alive"),
    "JOIN twice": ("JOIN", [frame("JOIN")], FORBIDDEN),
    "AUTH before JOIN": ("HELLO", [frame("AUTH", b"n,,n=pico,r=nonce")], FORBIDDEN),
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
    "AUTH before HELLO": ("", [frame("AUTH", b"n,,n=pico,r=nonce")], FORBIDDEN),
    "a feature that is needed": (
        "",
        [frame("HELLO", HELLO.pack(bytes(16), 1, 999, 1 << 32))],
        FEATURE,
    ),
    "the last feature": ("", [frame("HELLO", HELLO.pack(bytes(16), 1, 999, 1 << 63))], FEATURE),
}


# The frames that would make each of these valid; values follow READY.
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
        # The reader agrees.
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


def test_an_offered_feature_and_a_longer_hello_are_ignored(served):
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
    # Changed frames caused messages and losses.
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
