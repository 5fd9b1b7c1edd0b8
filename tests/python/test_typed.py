"""Typed payloads: msg.value has the subscription's type, or DecodeError names the place that does not match."""

from __future__ import annotations

import array
import dataclasses
import enum
import gc
import logging
import typing
import weakref
from typing import Any, ClassVar, Literal, NamedTuple, NewType, TypedDict

import pytest
from patience import WATCHDOG

import libbus

msgspec = pytest.importorskip("msgspec")

Celsius = NewType("Celsius", float)


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int = 0


class Limits(TypedDict):
    low: float


class MoreLimits(Limits, total=False):
    high: float


@dataclasses.dataclass
class Reading:
    kind: ClassVar[str] = "a reading"
    celsius: Celsius
    colour: Colour | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    inner: Reading | None = None
    seen: int = dataclasses.field(default=0, init=False)


class Sample(msgspec.Struct):
    celsius: float
    data: bytes = b""


READING = Reading(Celsius(21.5), Colour.RED, ["a"], Reading(Celsius(1.0)))


@pytest.fixture
def through(bus):
    """Publishes a value, and returns it as a subscription with a type reads it."""

    def through(value, kind):
        with bus.subscribe("t", type=kind) as sub:
            bus.publish("t", value)
            return sub.recv(timeout=0).value

    return through


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (READING, Reading),
        (Sample(1.5, b"\0"), Sample),
        ([Sample(1.5)], list[Sample]),
        ({"low": 1.0}, Limits),
        ({"low": 1.0}, MoreLimits),
        ({"low": 1.0, "high": 2.5}, MoreLimits),
        ({"a": READING}, dict[str, Reading]),
        (Point(1, 2), Point),
        (3, int),
        (None, None | int),
        (1, int | float),
        (1.0, int | float),
        (True, bool | int),
        ("a", Literal["a", 1]),
        (Colour.RED, Colour),
        (b"x", bytes),
        ([1, [2]], Any),
        ([1, "a"], list),
        ({"a": 1}, dict),
        (1.5, Celsius),
        ([1, 2], typing.Sequence[int]),
        (3, typing.Annotated[int, "a number"]),
        (3, typing.Optional[int]),  # noqa: UP045 - as older programs write it
    ],
    ids=repr,
)
def test_a_value_of_the_type_arrives_unchanged(through, value, kind):
    got = through(value, kind)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "kind", "becomes"),
    [
        (1, float, 1.0),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, "a"], tuple[int, str], (1, "a")),
        ([], tuple[()], ()),
        ([1, 1], set[int], {1}),
        ([1], frozenset, frozenset([1])),
        ([1], Point, Point(1, 0)),
        ({"celsius": 1, "of a newer program": 2}, Reading, Reading(Celsius(1.0))),
        ({"low": 1, "other": 2}, Limits, {"low": 1.0}),
        ({"celsius": 1}, Sample, Sample(1.0)),
        ({1: 2}, dict[int, float], {1: 2.0}),
    ],
    ids=repr,
)
def test_a_value_becomes_of_the_type(through, value, kind, becomes):
    got = through(value, kind)
    assert (got, type(got)) == (becomes, type(becomes))


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ({"tags": []}, Reading, "Reading: the key 'celsius' is missing at value"),
        ({"celsius": "1"}, Reading, "Reading: float is needed, not str, at value['celsius']"),
        (
            {"celsius": 1, "inner": {"celsius": 1, "tags": ["a", 2]}},
            Reading,
            "Reading: str is needed, not int, at value['inner']['tags'][1]",
        ),
        (
            {"celsius": 1, "colour": "blue"},
            Reading,
            "Colour or NoneType is needed, not str, at value['colour']",
        ),
        (3, Reading, "Reading: dict is needed, not int, at value"),
        ({"celsius": "1"}, Sample, "Expected `float`, got `str` - at `$.celsius`"),
        ([{"celsius": "1"}], list[Sample], "at value[0]"),
        ({}, Limits, "the key 'low' is missing"),
        (True, int, "int is needed, not bool"),
        (1, bool, "bool is needed, not int"),
        (True, float, "float is needed, not bool"),
        (1.0, int, "int is needed, not float"),
        (1, str | bytes, "str or bytes is needed, not int"),
        (True, Literal[1], "True is not one of 1"),
        ([1], Literal[1], "[1] is not one of 1"),
        ([1, 2, 3], Point, "2 elements are needed, not 3"),
        ([], Point, "2 elements are needed, not 0"),
        ([1], tuple[int, int], "2 elements are needed, not 1"),
        ([[1]], set, "elements that can be hashed are needed"),
        ("blue", Colour, "'blue' is not a Colour"),
        ({"a": 1, "b": "c"}, dict[str, int], "int is needed, not str, at value['b']"),
        ({1: 1}, dict[str, int], "str is needed, not int, at value[1]"),
    ],
    ids=repr,
)
def test_a_value_of_another_type_raises_when_it_is_read(bus, value, kind, says):
    with bus.subscribe("t", type=kind) as sub:
        bus.publish("t", value)
        msg = sub.recv(timeout=0)
        for _ in range(2):
            with pytest.raises(libbus.DecodeError) as caught:
                _ = msg.value
            assert str(caught.value).startswith("t: not of type ")
            assert says in str(caught.value)
            assert (caught.value.topic, caught.value.name) == ("t", "BUS_E_DECODE")
        assert msg.data == libbus.packb(value)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (complex, "complex: a payload cannot be read as complex"),
        (dict[str, list[complex]], "cannot be read as complex"),
        (dataclasses.make_dataclass("Wave", [("phase", complex)]), r"Wave\.phase: a payload"),
        (typing.TypeVar("T"), "~T: a payload cannot"),
        (3, "3: a payload cannot be read as 3"),
    ],
    ids=repr,
)
def test_an_unreadable_type_raises_when_subscribing(bus, kind, says):
    for ask in (
        lambda: bus.subscribe("t", type=kind),
        lambda: bus.on("t", print, type=kind),
        lambda: bus.get("t", type=kind),
        lambda: bus.wait("t", 0, type=kind),
    ):
        with pytest.raises(TypeError, match=says):
            ask()
    assert bus.stats()["offered"] == 0


def test_an_annotation_that_cannot_be_found_is_named(bus):
    @dataclasses.dataclass
    class Local:
        inner: Local | None = None

    with pytest.raises(TypeError, match="Local: name 'Local' is not defined: its annotations"):
        bus.subscribe("t", type=Local)


def test_json_and_raw_msgpack_are_read_by_the_type(bus):
    with bus.subscribe("t", type=Sample) as samples, bus.subscribe("t", type=Reading) as readings:
        bus.publish_raw("t", '{"celsius": 2}', encoding="json")
        bus.publish_raw("t", b'{"celsius": 2}')
        assert [msg.value for msg in samples.iter(timeout=0)] == [Sample(2.0)] * 2
        assert [msg.value for msg in readings.iter(timeout=0)] == [Reading(Celsius(2.0))] * 2
        bus.publish_raw("t", b"\xc1", encoding="msgpack")
        for sub in (samples, readings):
            with pytest.raises(libbus.DecodeError):
                _ = sub.recv(timeout=0).value


def test_callbacks_of_one_message_each_get_their_type(bus):
    got = []
    bus.on("t", lambda msg: got.append(msg.value), type=Reading)
    bus.on("t", lambda msg: got.append(msg.value), type=Sample)
    bus.on("t", lambda msg: got.append(msg.value))
    bus.publish("t", {"celsius": 1.5})
    bus.flush(WATCHDOG)
    assert got == [Reading(Celsius(1.5)), Sample(1.5), {"celsius": 1.5}]


def test_a_callback_that_reads_a_wrong_value_is_logged_and_gets_the_next(bus, caplog):
    got = []
    bus.on("t", lambda msg: got.append(msg.value), type=int)
    with caplog.at_level(logging.ERROR, "libbus"):
        bus.publish("t", "one")
        bus.publish("t", 2)
        bus.flush(WATCHDOG)
    assert got == [2]
    assert "t: not of type int: int is needed, not str" in caplog.text


def test_a_question_is_read_by_the_type_that_serve_names(bus):
    @bus.serve("double", type=Point)
    def double(msg):
        return Point(2 * msg.value.x, 2 * msg.value.y)

    assert bus.request("double", Point(1, 2), timeout=WATCHDOG).value == [2, 4]
    with pytest.raises(libbus.ReplyError, match="DecodeError: double: not of type Point"):
        bus.request("double", "one", timeout=WATCHDOG)


def test_get_and_wait_read_by_the_type(bus):
    bus.publish("t", READING, retain=True)
    assert bus.get("t", type=Reading).value == READING
    assert bus.get("u", 3, type=Reading) == 3
    assert bus.wait("t", 0, type=Reading).value == READING


def test_iteration_and_named_buses_read_by_the_type(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus, bus.subscribe("t", type=Sample) as sub:
        bus.publish("t", Sample(1.5))
        assert [msg.value for msg in sub.iter(timeout=0)] == [Sample(1.5)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rename": "camel"},
        {"tag": True},
        {"tag": 7, "tag_field": "kind"},
        {"omit_defaults": True},
        {"array_like": True},
        {"array_like": True, "tag": "made"},
        {"kw_only": True, "omit_defaults": True},
    ],
    ids=repr,
)
def test_a_struct_travels_as_msgspec_encodes_it(options):
    fields = [
        ("first_one", int),
        ("second_one", list, msgspec.field(default_factory=list)),
        ("third_one", int | msgspec.UnsetType, 3 if "array_like" in options else msgspec.UNSET),
        ("fourth_one", dict, msgspec.field(default_factory=dict)),
        ("fifth_one", str, "a"),
    ]
    Made = msgspec.defstruct("Made", fields, **options)
    for members in (
        {},
        {"second_one": [1], "third_one": 3},
        {"fifth_one": "b", "fourth_one": {1: 2}},
    ):
        made = Made(first_one=1, **members)
        assert libbus.packb([made]) == libbus.packb([msgspec.to_builtins(made)])
        assert libbus.unpackb(libbus.packb(made)) == msgspec.to_builtins(made)


def test_members_of_a_struct_are_packed_as_they_are_elsewhere():
    Holder = msgspec.defstruct("Holder", [("what", object)])
    text = type("Name", (str,), {})("a")
    for what in (
        libbus.Ext(5, b"x"),
        text,
        array.array("d", [1.5]),
        {1, 2},
        Colour.RED,
        Sample(1.0),
    ):
        for held in (what, [what], {"k": (what,)}):
            assert libbus.packb(Holder(held)) == libbus.packb({"what": held})
    with pytest.raises(
        TypeError, match=r"cannot pack range at value\['what'\]\[0\]\['what'\]\[0\]"
    ):
        libbus.packb(Holder([Holder([range(1)])]))


def test_a_dataclass_with_an_unpackable_field_is_refused_with_its_path(bus):
    with pytest.raises(TypeError, match=r"^t: cannot publish range at value\['inner'\]\['tags'\]"):
        bus.publish("t", Reading(Celsius(1), inner=Reading(Celsius(1), tags=range(1))))
    for wrong in (Reading, Colour, {Colour.RED: 1}, object()):
        with pytest.raises(TypeError, match=r"^t: cannot publish"):
            bus.publish("t", wrong)


def test_a_field_that_raises_ends_the_publish(bus):
    class Broken(Reading):
        @property
        def celsius(self):
            raise LookupError("no sensor")

        @celsius.setter
        def celsius(self, value):
            pass

    with pytest.raises(LookupError, match="no sensor"):
        bus.publish("t", [Broken(Celsius(1))])


def test_a_value_that_leads_back_to_its_message_is_collected(bus):
    @dataclasses.dataclass
    class Loop:
        n: int

    with bus.subscribe("t", type=Loop) as sub:
        bus.publish("t", Loop(1))
        msg = sub.recv(timeout=0)
    msg.value.msg = msg
    gone = weakref.ref(msg.value)
    del msg, sub
    gc.collect()
    assert gone() is None
