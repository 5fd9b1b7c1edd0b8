"""Values through payloads, and the attributes of a message."""

import enum
import gc
import math
import threading
import time

import pytest
from patience import WATCHDOG

import libbus


@pytest.fixture
def through(bus):
    """Publishes a value, and returns the message that arrives."""
    sub = bus.subscribe("t")

    def through(value):
        bus.publish("t", value)
        return sub.recv(timeout=WATCHDOG)

    return through


@pytest.fixture
def raw(bus):
    sub = bus.subscribe("t")

    def raw(data, type="untagged"):
        bus.publish_raw("t", data, encoding=type)
        return sub.recv(timeout=WATCHDOG)

    return raw


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (-(2**63), -(2**63)),
        (2**64 - 1, 2**64 - 1),
        (1.5, 1.5),
        (math.inf, math.inf),
        ("naïve 🌡", "naïve 🌡"),
        ("a\0b", "a\0b"),
        ("", ""),
        (b"\xff\0", b"\xff\0"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"abc")[1:], b"bc"),
        (memoryview(b"abcd")[::-2], b"db"),
        ([1, [2, []]], [1, [2, []]]),
        ((1, "a"), [1, "a"]),
        ({"a": {1: b"", b"k": None}}, {"a": {1: b"", b"k": None}}),
        (Colour.RED, 1),
        (libbus.Ext(-1, b"\1\2"), libbus.Ext(-1, b"\1\2")),
    ],
)
def test_a_value_arrives_as_itself(through, value, arrives):
    got = through(value).value
    assert got == arrives and type(got) is type(arrives)


def test_a_value_as_deep_as_allowed_arrives_and_a_deeper_one_is_refused(bus, through):
    deep = []
    for _ in range(31):
        deep = [deep]
    assert through(deep).value == deep
    with pytest.raises(ValueError, match=r"^t: a value may nest 32 deep"):
        bus.publish("t", [deep])
    deep = {}
    deep["itself"] = deep
    with pytest.raises(ValueError, match=r"^t: a value may nest 32 deep"):
        bus.publish("t", deep)


def test_a_value_of_too_many_parts_is_refused(bus, through):
    assert len(through([0] * 65535).value) == 65535
    for value in ([0] * 65536, [[0] * 40000, [0] * 40000]):
        with pytest.raises(ValueError, match=r"^t: .* 65536 elements in all"):
            bus.publish("t", value)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (2**64, OverflowError, "^t: the int does not fit 64 bits"),
        (-(2**63) - 1, OverflowError, "^t: the int does not fit 64 bits"),
        ({"a": range(2)}, TypeError, "^t: cannot publish range"),
        (object(), TypeError, "^t: cannot publish object"),
        ("a\ud800", ValueError, "^t: the str has half a surrogate pair"),
        (libbus.Ext(200, b""), ValueError, "^t: the code of the Ext does not fit 8 bits"),
    ],
)
def test_an_unpackable_value_is_refused_with_a_reason(bus, through, value, kind, text):
    with pytest.raises(kind, match=text):
        bus.publish("t", value)
    assert through("the next one").value == "the next one"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"21.5", 21.5),
        (b'"a"', "a"),
        (b"{not json", "{not json"),
        (b"\xff\xfe", b"\xff\xfe"),
        (b"", ""),
    ],
)
def test_untagged_bytes_are_read_as_json_else_text_else_bytes(raw, data, value):
    assert raw(data).value == value


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("json", b"{"),
        ("text", b"\xff"),
        ("msgpack", b"\x92\x01"),
        ("msgpack", b"\x01\x01"),
        ("msgpack", b"\xdd\xff\xff\xff\xff"),
        ("msgpack", b"\x91" * 33 + b"\x01"),
        ("msgpack", b"\x81\x90\x01"),  # a list as a key
    ],
)
def test_a_payload_that_does_not_match_its_type_is_a_decode_error(raw, kind, data):
    msg = raw(data, kind)
    for _ in range(2):
        with pytest.raises(libbus.DecodeError, match=r"^t: not valid") as caught:
            _ = msg.value
        assert caught.value.topic == "t"
    assert msg.data == data


def test_a_value_is_decoded_once(through):
    msg = through([1])
    assert msg.value is msg.value
    assert msg.data is msg.data
    assert msg.topic is msg.topic


def test_threads_that_ask_for_the_value_at_once_get_the_same(through):
    for _ in range(50):
        msg, got, start = through(list(range(1000))), [], threading.Barrier(4)

        def ask(msg=msg, got=got, start=start):
            start.wait()
            got.append(msg.value)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(value is got[0] for value in got)


def test_json_is_for_pages(through):
    assert (
        through({"a": [1.5, None, True], "b": b"x"}).json()
        == '{"a":[1.5,null,true],"b":{"$bytes":"eA=="}}'
    )
    assert through("line\nline").json() == '"line\\nline"'


def test_a_message_outlives_its_subscription_and_bus():
    with libbus.Bus() as bus, bus.subscribe("t") as sub:
        bus.publish("t", "x" * 5000)
        first = sub.recv(timeout=WATCHDOG)
        bus.publish("t", "y" * 5000)
        sub.recv(timeout=WATCHDOG)
    assert first.value == "x" * 5000 and first.topic == "t"


def test_a_message_cannot_be_changed(through):
    msg = through(1)
    for name in ("topic", "data", "value", "lost"):
        with pytest.raises(AttributeError):
            setattr(msg, name, None)


def test_repr_shows_topic_type_length_and_a_short_value(through, bus):
    assert repr(through("abc")) == "<libbus.Message 't' msgpack, 4 bytes: 'abc'>"
    assert repr(through({"a": 1})) == "<libbus.Message 't' msgpack, 4 bytes: {'a': 1}>"
    assert repr(through(b"")) == "<libbus.Message 't' msgpack, 2 bytes: b''>"
    assert repr(through("x" * 500)) == f"<libbus.Message 't' msgpack, 503 bytes: '{'x' * 59}…>"
    assert repr(through("x" * 100_000)) == "<libbus.Message 't' msgpack, 100005 bytes>"


def test_repr_of_a_payload_that_cannot_be_read_shows_its_bytes(bus):
    with bus.subscribe("t") as sub:
        bus.publish_raw("t", b"\xc1", encoding="msgpack")
        assert repr(sub.recv()) == "<libbus.Message 't' msgpack, 1 bytes: b'\\xc1'>"


def test_repr_does_not_call_the_type(bus):
    with bus.subscribe("t", type=int) as sub:
        bus.publish("t", "no int")
        assert repr(sub.recv()) == "<libbus.Message 't' msgpack, 7 bytes: 'no int'>"


def test_msg_ttl_is_the_remaining_lifetime(through, bus):
    assert through(1).ttl is None
    with bus.subscribe("t") as sub:
        bus.publish("t", 1, ttl=600)
        bus.publish_raw("t", b"1", ttl=0.5e3)
        assert 0 < sub.recv(timeout=WATCHDOG).ttl <= 600
        assert 0 < sub.recv(timeout=WATCHDOG).ttl <= 500


def test_an_expired_message_is_not_delivered(bus):
    with bus.subscribe("t") as sub:
        bus.publish("t", "short", ttl=0.001, retain=True)
        time.sleep(0.01)
        bus.publish("t", "x")
        msg = sub.recv(timeout=WATCHDOG)
        assert (msg.value, msg.lost) == ("x", 1)
        assert sub.stats()["lost_by"]["expired"] == 1
    with bus.subscribe("t") as late:
        assert late.recv_nowait() is None


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), 5e6])
def test_a_life_of_nothing_is_refused(bus, ttl):
    for publish in (bus.publish, bus.publish_raw):
        with pytest.raises(ValueError, match=r"^ttl=.*: give seconds above 0"):
            publish("t", b"1", ttl=ttl)


def test_headers_go_with_a_value(through, bus):
    assert through(1).headers == {}
    given = {"trace": b"\x01", "hops": [1, 2], 3: None}
    with bus.subscribe("t") as sub:
        bus.publish("t", "v", headers=given, retain=True)
        bus.publish_raw("t", b"x" * 5000, headers=given)
        bus.publish("t", "v", headers={})
        for value in ("v", "x" * 5000):
            msg = sub.recv(timeout=WATCHDOG)
            assert msg.value == value and msg.headers == given
            assert msg.headers is msg.headers
        assert sub.recv(timeout=WATCHDOG).headers == {}
    with bus.subscribe("t") as late:
        assert late.recv(timeout=WATCHDOG).headers == given


def test_a_message_in_its_own_headers_is_garbage_like_others(bus):
    with bus.subscribe("t") as sub:
        bus.publish("t", 1, headers={"a": 1})
        msg = sub.recv(timeout=WATCHDOG)
    gone = []
    msg.headers["me"] = msg, Gone(gone)
    del msg
    gc.collect()
    assert gone == [True]


class Gone:
    def __init__(self, gone):
        self.gone = gone

    def __del__(self):
        self.gone.append(True)


def test_an_invalid_header_is_refused_with_a_reason(bus, through):
    with pytest.raises(TypeError, match=r"^t: headers must be a dict, not list"):
        bus.publish("t", 1, headers=[])
    with pytest.raises(TypeError, match=r"^t: cannot publish object"):
        bus.publish("t", 1, headers={"a": object()})
    with pytest.raises(libbus.TooBigError):
        bus.publish("t", b"x" * (1 << 19), headers={"a": b"x" * (1 << 19)})
    assert through("the next one").value == "the next one"
