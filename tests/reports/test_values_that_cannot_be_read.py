"""A value that can be packed can be read. Any other raises at the publisher, with the element's path."""

import enum
import math
import random

import pytest
from patience import WATCHDOG

import libbus

HALF = "\udc80"


class Identity:
    """Equal to itself alone."""

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


class Own(Identity, str):
    pass


class OwnInt(Identity, int):
    pass


class OwnBytes(Identity, bytes):
    pass


class Point(libbus.Ext):
    """An extension of a program's own."""


LARGE = 2**64
REFUSED = [
    # value, exception, where in the value
    ({(1, 2): "tree"}, TypeError, "cannot publish tuple as a key at the key (1, 2) of {};"),
    ({frozenset(): 1}, TypeError, "frozenset as a key at the key frozenset() of {};"),
    ({"grid": [0, {(): 1}]}, TypeError, "tuple as a key at the key () of {}['grid'][1];"),
    ({"a": [1, range(2)]}, TypeError, "cannot publish range at {}['a'][1];"),
    ({1: {None: {True: object()}}}, TypeError, "object at {}[1][None][True];"),
    ([{"a": ({b"k": complex(1)},)}], TypeError, "complex at {}[0]['a'][0][b'k'];"),
    ([[LARGE]], OverflowError, "the int does not fit 64 bits at {}[0][0];"),
    ({LARGE: 1}, OverflowError, f"does not fit 64 bits at the key {LARGE} of {{}};"),
    ({"a": {10**5000: 1}}, OverflowError, "at the key <int> of {}['a'];"),
    ({HALF: 1}, ValueError, r"half a surrogate pair at the key '\udc80' of {};"),
    ({"a": [HALF]}, ValueError, "half a surrogate pair at {}['a'][0];"),
    ({"x" * 1000: HALF}, ValueError, "at {}['" + "x" * 59 + "];"),
    ([libbus.Ext(128, b"")], ValueError, "the code of the Ext does not fit 8 bits at {}[0];"),
    ([libbus.Ext(2**100, b"")], ValueError, "the code of the Ext does not fit 8 bits at {}[0];"),
    ([libbus.Ext("1", b"")], TypeError, "the code of the Ext is str at {}[0];"),
    ([libbus.Ext(1, bytearray())], TypeError, "the data of the Ext is bytearray at {}[0];"),
    ([tuple.__new__(libbus.Ext, ())], TypeError, "the Ext does not have a code and data at {}[0];"),
    (
        {libbus.Ext(1, "text"): 1},
        TypeError,
        "the data of the Ext is str at the key Ext(code=1, data='text') of {};",
    ),
    ([{Own("a"): 1, "a": 2}], ValueError, "are the same to readers at the key 'a' of {}[0];"),
    ({Own("a"): 1, Own("a"): 2}, ValueError, "are the same to readers at the key 'a' of {};"),
    ({OwnInt(1): 1, True: 2}, ValueError, "are the same to readers at the key True of {};"),
    ({OwnBytes(b"k"): 1, memoryview(b"k"): 2}, ValueError, "the same to readers at the key <mem"),
    (
        {libbus.Ext(OwnInt(1), b""): 1, libbus.Ext(1, b""): 2},
        ValueError,
        "are the same to readers at the key Ext(code=1, data=b'') of {};",
    ),
    ([0, [0] * 65536], ValueError, "65536 elements in all; the limit is passed at {}[1];"),
    ([0, [0] * 40000, {1: [0] * 30000}], ValueError, "the limit is passed at {}[2][1];"),
]


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = {"k": value}
    return value


REFUSED.append(([nested(32)], ValueError, "the limit is passed at {}[0]" + "['k']" * 30))


@pytest.fixture
def bus():
    with libbus.Bus() as bus:
        yield bus


def doors(bus):
    """Every call of a bus that packs, with the path at which it packs the value."""

    def will(value, **more):
        return libbus.Bus("reports", will=libbus.Will("t", value, **more))

    yield "value", lambda value: bus.publish("t", value)
    yield "value", lambda value: bus.publish("t", value, retain=True)
    yield "value", lambda value: bus.request("t", value, timeout=WATCHDOG)
    yield "value", lambda value: will(value)
    yield "headers['h']", lambda value: bus.publish("t", 1, headers={"h": value})
    yield "headers['h']", lambda value: bus.publish_raw("t", b"1", headers={"h": value})
    yield "headers['h']", lambda value: bus.request("t", 1, headers={"h": value})
    yield "headers['h']", lambda value: will(1, headers={"h": value})


@pytest.mark.parametrize(("value", "kind", "place"), REFUSED)
def test_a_value_that_no_reader_could_decode_raises_at_every_door_with_its_path(
    bus, value, kind, place
):
    with bus.subscribe("t") as heard:
        for root, door in doors(bus):
            with pytest.raises(kind) as caught:
                door(value)
            assert str(caught.value).startswith("t: ")
            assert place.format(root) in str(caught.value)
        assert heard.recv_nowait() is None, "a refused value was published"


def test_a_reply_that_no_reader_could_decode_raises_at_the_side_that_replies(bus):
    raised = []

    def answer(msg):
        try:
            bus.reply(msg, {"a": {(1, 2): 3}})
        except TypeError as error:
            raised.append(str(error))
        try:
            bus.reply(msg, 1, headers={(1, 2): 3})
        except TypeError as error:
            raised.append(str(error))
        bus.reply(msg, "refused")

    bus.on("f", answer)
    assert bus.request("f", 0, timeout=WATCHDOG).value == "refused"
    assert "f: cannot publish tuple as a key at the key (1, 2) of value['a'];" in raised[0]
    assert "f: cannot publish tuple as a key at the key (1, 2) of headers;" in raised[1]


class Wordless(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(f"no file {HALF}"), r"f: OSError: no file \udc80"),
        (ValueError("x" * 2_000_000), "f: ValueError: x"),
        (Wordless(), "f: Wordless"),
    ],
)
def test_an_exception_whose_text_cannot_be_packed_is_raised_at_the_caller(bus, error, text):
    @bus.serve("f")
    def fail(msg):
        raise error

    with pytest.raises(libbus.ReplyError) as caught:
        bus.request("f", 0, timeout=WATCHDOG)
    assert str(caught.value).startswith(text)


class Colour(enum.IntEnum):
    RED = 1


def arbitrary(rng, depth):
    """A value of any kind that the documentation allows."""
    plain = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: rng.choice([0, -1, 127, 128, -32, -33, 2**63, 2**64 - 1, -(2**63), Colour.RED]),
        lambda: rng.choice([0.0, -0.0, 1e308, 5e-324, math.inf, -math.inf]),
        lambda: "".join(rng.choices("a\0\x7f\x80\uffff\ud7ff\U0010ffff", k=rng.choice([0, 3, 40]))),
        lambda: rng.randbytes(rng.choice([0, 1, 31, 32, 255, 256, 65536])),
        lambda: libbus.Ext(
            rng.choice([*range(-128, -1), *range(100), *range(110, 128)]),
            rng.randbytes(rng.choice([0, 1, 2, 3, 4, 8, 16, 17, 256])),
        ),
    ]
    if depth == 0 or rng.random() < 0.5:
        return rng.choice(plain)()
    inside = range(rng.choice([0, 1, 2, 15, 16]))
    if rng.random() < 0.5:
        return [arbitrary(rng, depth - 1) for _ in inside]
    return {rng.choice(plain)(): arbitrary(rng, depth - 1) for _ in inside}


def test_every_value_that_is_published_arrives_equal(bus):
    rng = random.Random(17)
    with bus.subscribe("t", max_bytes=1 << 24) as heard:
        for _ in range(300):
            value = arbitrary(rng, 4)
            try:
                bus.publish("t", value, headers={"h": value})
            except libbus.TooBigError:
                continue
            msg = heard.recv(WATCHDOG)
            assert msg.value == value
            assert msg.headers == {"h": value}
            msg.json()


def test_keys_that_decide_themselves_what_they_equal_arrive_as_what_they_are(bus):
    value = {Own("a"): 1, OwnInt(7): 2, OwnBytes(b"k"): 3, "b": 4, 8: 5, Point(3, b"xy"): 6}
    with bus.subscribe("t") as heard:
        bus.publish("t", value)
        arrived = heard.recv(WATCHDOG).value
    assert arrived == {"a": 1, 7: 2, b"k": 3, "b": 4, 8: 5, libbus.Ext(3, b"xy"): 6}


def test_an_extension_of_a_type_of_its_own_arrives_as_one(bus):
    with bus.subscribe("t") as heard:
        bus.publish("t", [Point(3, b"xy")])
        (arrived,) = heard.recv(WATCHDOG).value
    assert isinstance(arrived, libbus.Ext)
    assert arrived == (3, b"xy")


def test_nan_arrives_as_nan_also_as_a_key(bus):
    with bus.subscribe("t") as heard:
        bus.publish("t", {math.nan: [math.nan]})
        ((key, (value,)),) = heard.recv(WATCHDOG).value.items()
    assert math.isnan(key) and math.isnan(value)


def test_a_failing_repr_of_a_key_does_not_hide_the_reason(bus):
    class Mute(str):
        __slots__ = ()

        def __repr__(self):
            raise RuntimeError

    with pytest.raises(TypeError, match=r"^t: cannot publish range at value\[<Mute>\];"):
        bus.publish("t", {Mute("m"): range(1)})


def test_a_list_that_holds_itself_is_refused(bus):
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError, match=r"nest 32 deep .* limit is passed at value(\[0\]){32};"):
        bus.publish("t", endless)
