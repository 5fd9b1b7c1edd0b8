"""Nested values of every type of docs/payloads.md: the value that Python reads, the one that C reads, and their JSON.

BUS_TEST_ROUNDS=10 tries ten times as many.
"""

import array
import base64
import collections
import datetime
import enum
import json
import math
import os
from dataclasses import dataclass
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from c_reader import Numbers, Reader, Seen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import WATCHDOG

import libbus

numpy = pytest.importorskip("numpy")
msgspec = pytest.importorskip("msgspec")

ROUNDS = int(os.environ.get("BUS_TEST_ROUNDS", "1"))
UTC = timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)

random_values = settings(
    deadline=None,
    max_examples=25 * ROUNDS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Case(NamedTuple):
    """A value of one row of the table."""

    published: Any
    read: Any  # in Python
    seen: Seen  # in C
    json: Any  # as json.loads() gives it; a map is a list of pairs


def case(read: Any, kind: str, what: Any, text: Any, ext: int = 0) -> Case:
    return Case(read, read, Seen(kind, what, ext), text)


# --- one value, row by row ----------------------------------------------------------------------------------------------


def an_int(number: int) -> Case:
    return case(number, "INT" if number < 2**63 else "UINT", number, number)


def a_float(number: float) -> Case:
    return case(number, "FLOAT", number, number if math.isfinite(number) else None)


def a_text(text: str) -> Case:
    return case(text, "TEXT", text.encode(), text)


def some_bytes(data: bytes) -> Case:
    return case(data, "BYTES", data, [("$bytes", base64.b64encode(data).decode())])


def a_time(moment: datetime.datetime) -> Case:
    seconds, rest = divmod(moment - EPOCH, timedelta(seconds=1))
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    if micro := rest.microseconds:
        text += f".{micro // 1000:03}" if micro % 1000 == 0 else f".{micro:06}"
    return case(moment, "TIME", (seconds, 1000 * rest.microseconds), text + "Z")


def a_text_of(number: int, value: Any) -> Case:
    return case(value, "TEXT", str(value).encode(), str(value), number)


def an_ext(ext: libbus.Ext) -> Case:
    text = base64.b64encode(ext.data).decode()
    return case(ext, "EXT", ext.data, [("$bytes", text), ("$ext", ext.code)], ext.code)


INTS = st.integers(-(2**63), 2**64 - 1) | st.sampled_from(
    [edge + step for power in (5, 7, 8, 15, 16, 31, 32, 53, 63) for edge in (2**power, -(2**power))
     for step in (-1, 0, 1) if edge + step >= -(2**63)]
)  # fmt: skip
LENGTHS = st.sampled_from([0, 1, 15, 16, 31, 32, 255, 256, 1000])
TIMES = st.datetimes(
    datetime.datetime(1, 1, 2),
    datetime.datetime(9999, 12, 30),
    timezones=st.sampled_from(
        [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(seconds=-1))]
    ),
)
DECIMALS = st.decimals(allow_nan=False) | st.builds(
    lambda digits, power: Decimal(digits).scaleb(power), st.integers(), st.integers(-900, 900)
)
EXTS = st.builds(libbus.Ext, st.integers(-128, 127), st.binary(max_size=20)).filter(
    lambda ext: ext.code not in (-1, *range(100, 110))
)

# A key may have these types too.
KEYS = st.one_of(
    st.just(case(None, "NIL", None, None)),
    st.booleans().map(lambda truth: case(truth, "BOOL", truth, truth)),
    INTS.map(an_int),
    st.floats(allow_nan=False).map(a_float),
    (st.text() | LENGTHS.map("é".__mul__) | LENGTHS.map("a".__mul__)).map(a_text),
    (st.binary() | LENGTHS.map(bytes)).map(some_bytes),
    TIMES.map(a_time),
    DECIMALS.map(lambda number: a_text_of(100, number)),
    st.uuids().map(lambda uuid: a_text_of(101, uuid)),
    st.dates().map(lambda day: a_text_of(102, day)),
    EXTS.map(an_ext),
)


def instead(cases: Any, make: Any) -> Any:
    """The same cases, published as what make returns."""
    return cases.map(lambda each: each._replace(published=make(each.published)))


class Colour(enum.Enum):
    RED = "red"
    GREEN = 2


class Number(enum.IntEnum):
    SEVEN = 7


class Name(str):
    __slots__ = ()


def packed_floats(bits: int) -> Any:
    return st.floats(width=bits, allow_nan=False).map(a_float)


OTHERS = st.one_of(
    instead(st.binary().map(some_bytes), bytearray),
    instead(st.binary().map(some_bytes), memoryview),
    instead(st.binary().map(some_bytes), lambda data: memoryview(bytes(2 * len(data)))[::2]).map(
        lambda each: some_bytes(bytes(each.published))._replace(published=each.published)
    ),
    st.sampled_from(Colour).map(
        lambda each: (a_text("red") if each is Colour.RED else an_int(2))._replace(published=each)
    ),
    st.just(an_int(7)._replace(published=Number.SEVEN)),
    instead(st.text().map(a_text), Name),
    instead(st.integers(-128, 127).map(an_int), numpy.int8),
    instead(st.integers(-(2**63), 2**63 - 1).map(an_int), numpy.int64),
    instead(st.integers(0, 2**64 - 1).map(an_int), numpy.uint64),
    instead(st.booleans().map(lambda truth: case(truth, "BOOL", truth, truth)), numpy.bool_),
    instead(packed_floats(16), numpy.float16),
    instead(packed_floats(32), numpy.float32),
    instead(packed_floats(64), numpy.float64),
)

# --- arrays -----------------------------------------------------------------------------------------------------------

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


def an_array(published: Any) -> Case:
    sent = numpy.asarray(published)
    sent = numpy.ascontiguousarray(sent, sent.dtype.newbyteorder("<"))
    kind, data = sent.dtype.kind, sent.tobytes()
    size = sent.dtype.itemsize
    seen = Seen("EXT", Numbers("b" if kind == "b" else kind, size, sent.shape, data), 103)
    text = [
        ("$bytes", base64.b64encode(data).decode()),
        ("$numbers", f"{kind}{size}"),
        ("$shape", list(sent.shape)),
    ]
    return Case(published, sent, seen, text)


@st.composite
def arrays(draw: Any) -> Any:
    kind = numpy.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)))
    size = math.prod(shape) * kind.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if kind.kind == "b":
        data = bytes(byte & 1 for byte in data)
    made = numpy.frombuffer(data, kind).reshape(shape)
    way = draw(st.sampled_from(["as it is", "turned", "swapped", "every second", "reversed"]))
    match way:
        case "turned":
            made = made.T
        case "swapped":
            made = made.astype(kind.newbyteorder(">"))
        case "every second":
            made = made[::2]
        case "reversed":
            made = made[..., ::-1]
    return made


ARRAYS = st.one_of(
    arrays(),
    st.lists(st.integers(-128, 127)).map(lambda numbers: array.array("b", numbers)),
    st.lists(st.floats(allow_nan=False)).map(lambda numbers: array.array("d", numbers)),
    st.lists(st.integers(0, 2**32 - 1)).map(lambda n: memoryview(array.array("I", n))),
).map(an_array)

# --- containers ---------------------------------------------------------------------------------------------------------


def a_list(items: list[Case], make: Any = list) -> Case:
    return Case(
        make(each.published for each in items),
        [each.read for each in items],
        Seen("ARRAY", [each.seen for each in items]),
        [each.json for each in items],
    )


def a_set(item: Case, make: Any) -> Case:
    # One element only: the order of several is undefined.
    return a_list([item], make)


def a_map(pairs: list[tuple[Case, Case]], make: Any = dict) -> Case:
    return Case(
        make((key.published, item.published) for key, item in pairs),
        {key.read: item.read for key, item in pairs},
        Seen("MAP", [each.seen for pair in pairs for each in pair]),
        [(key.json if isinstance(key.read, str) else ANY, item.json) for key, item in pairs],
    )


@dataclass
class Plain:
    first: Any
    second: Any


@dataclass(frozen=True)
class Slotted:
    __slots__ = ("first", "second")
    first: Any
    second: Any


class Struct(msgspec.Struct):
    first: Any
    second: Any


def an_object(items: tuple[Case, Case], make: Any) -> Case:
    named = a_map([(a_text("first"), items[0]), (a_text("second"), items[1])])
    return named._replace(published=make(*(each.published for each in items)))


class Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


ANY = Anything()


def containers(inner: Any) -> Any:
    lists = st.lists(inner, max_size=6)
    pairs = st.lists(st.tuples(KEYS, inner), max_size=6, unique_by=lambda pair: pair[0].read)
    twins = st.tuples(inner, inner)
    return st.one_of(
        lists.map(a_list),
        lists.map(lambda items: a_list(items, tuple)),
        KEYS.map(lambda item: a_set(item, set)),
        KEYS.map(lambda item: a_set(item, frozenset)),
        pairs.map(a_map),
        pairs.map(lambda items: a_map(items, collections.OrderedDict)),
        *(
            twins.map(lambda items, make=make: an_object(items, make))
            for make in (Plain, Slotted, Struct)
        ),
    )


VALUES = st.recursive(KEYS | OTHERS | ARRAYS, containers, max_leaves=25)

# --- the proof ----------------------------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Equal and of one type, also inside; arrays to the byte, and 0.0 is not -0.0."""
    if isinstance(other, numpy.ndarray):
        found = numpy.asarray(one)
        return (
            isinstance(one, memoryview)
            and (found.dtype, found.shape) == (other.dtype, other.shape)
            and found.tobytes() == other.tobytes()
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(
            [each for pair in one.items() for each in pair], [e for p in other.items() for e in p]
        )
    return one == other and (not isinstance(one, (float, Decimal)) or str(one) == str(other))


@pytest.fixture(scope="module")
def c_reader():
    return Reader()


@pytest.fixture(scope="module", params=["private", "named"])
def between(request, tmp_path_factory):
    """A publishing bus, a second one of the same name, and its mailbox."""
    if request.param == "private":
        with libbus.Bus() as bus, bus.subscribe("t") as sub:
            yield bus, bus, sub
    else:
        folder = tmp_path_factory.mktemp("bus")
        with (
            libbus.Bus("values", directory=folder) as bus,
            libbus.Bus("values", directory=folder) as other,
            other.subscribe("t") as sub,
        ):
            yield bus, other, sub


def pairs(found: str) -> Any:
    return json.loads(found, object_pairs_hook=list)


@given(VALUES)
@random_values
def test_a_value_of_any_type_is_read_as_the_table_says(between, c_reader, value):
    bus, other, sub = between
    bus.publish("t", value.published, retain=True)
    msg = sub.recv(timeout=WATCHDOG)
    assert same(msg.value, value.read)
    assert same(libbus.unpackb(msg.data), value.read)
    assert same(other.get("t").value, value.read)
    assert libbus.packb(value.published) == msg.data

    seen, text = c_reader.read(msg.data)
    assert repr(seen) == repr(value.seen)  # tells -0.0 from 0.0
    assert text == msg.json() == c_reader.json_of_payload(msg.data)
    assert pairs(text) == normal(value.json)


def normal(text: Any) -> Any:
    """As json.loads() gives pairs: lists of tuples."""
    if isinstance(text, list):
        return [normal(each) for each in text]
    return tuple(map(normal, text)) if isinstance(text, tuple) else text


@given(VALUES)
@random_values
def test_a_received_value_is_published_again_unchanged(value):
    packed = libbus.packb(value.published)
    assert libbus.packb(libbus.unpackb(packed)) == packed


@dataclass
class Everything:
    truth: bool
    number: int
    measure: float
    text: str
    data: bytes
    at: datetime.datetime
    day: datetime.date
    price: Decimal
    colour: Colour
    either: int | str | None
    names: list[str]
    pair: tuple[int, str]
    tags: set[str]
    counts: dict[str, int]
    inner: list[Slotted]


EVERYTHING = st.builds(
    Everything,
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    TIMES,
    st.dates(),
    DECIMALS,
    st.sampled_from(Colour),
    st.none() | st.integers(-5, 5) | st.text(),
    st.lists(st.text()),
    st.tuples(st.integers(0, 9), st.text()),
    st.sets(st.text()),
    st.dictionaries(st.text(), st.integers(0, 9)),
    st.lists(st.builds(Slotted, st.integers(0, 9), st.text()), max_size=3),
)


@given(EVERYTHING)
@random_values
def test_a_typed_value_is_the_same_object_each_time(between, value):
    bus, other, _ = between
    with other.subscribe("typed", type=Everything) as typed:
        bus.publish("typed", value)
        assert typed.recv(timeout=WATCHDOG).value == value
