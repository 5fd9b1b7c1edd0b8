"""The table of docs/payloads.md: the form of a value in Python, in C's JSON and so in a page."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import json
import math
import sys
import threading
import uuid
from datetime import timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import WATCHDOG

import libbus

numpy = pytest.importorskip("numpy")

UTC = timezone.utc
A_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
EAST = timezone(timedelta(hours=5, minutes=30))


def moment(*args, tz=UTC):
    return datetime.datetime(*args, tzinfo=tz)


@pytest.fixture
def through(bus):
    sub = bus.subscribe("t")

    def through(value):
        bus.publish("t", value)
        return sub.recv(timeout=WATCHDOG)

    return through


TABLE = [
    # published, read, the text of its JSON
    (moment(2026, 11, 30, 7, 51, 18), moment(2026, 11, 30, 7, 51, 18), '"2026-11-30T07:51:18Z"'),
    (
        moment(2026, 1, 2, 3, 4, 5, 6000),
        moment(2026, 1, 2, 3, 4, 5, 6000),
        '"2026-01-02T03:04:05.006Z"',
    ),
    (
        moment(1969, 12, 31, 23, 59, 59, 1),
        moment(1969, 12, 31, 23, 59, 59, 1),
        '"1969-12-31T23:59:59.000001Z"',
    ),
    (moment(2026, 1, 1, 2, tz=EAST), moment(2025, 12, 31, 20, 30), '"2025-12-31T20:30:00Z"'),
    (moment(1, 1, 1), moment(1, 1, 1), '"0001-01-01T00:00:00Z"'),
    (moment(9999, 12, 31, 23, 59, 59), moment(9999, 12, 31, 23, 59, 59), '"9999-12-31T23:59:59Z"'),
    (datetime.date(2024, 2, 29), datetime.date(2024, 2, 29), '"2024-02-29"'),
    (Decimal("-12.50"), Decimal("-12.50"), '"-12.50"'),
    (Decimal("1E+9"), Decimal("1E+9"), '"1E+9"'),
    (Decimal("-Infinity"), Decimal("-Infinity"), '"-Infinity"'),
    (A_UUID, A_UUID, '"12345678-1234-5678-1234-567812345678"'),
    ({7}, [7], "[7]"),
    (frozenset(["a"]), ["a"], '["a"]'),
    ((1, "a"), [1, "a"], '[1,"a"]'),
    (collections.OrderedDict(a=1), {"a": 1}, '{"a":1}'),
    (2**64 - 1, 2**64 - 1, "18446744073709551615"),
    (-(2**63), -(2**63), "-9223372036854775808"),
    (numpy.int64(-7), -7, "-7"),
    (numpy.int8(-7), -7, "-7"),
    (numpy.uint64(2**64 - 1), 2**64 - 1, "18446744073709551615"),
    (numpy.float32(0.5), 0.5, "0.5"),
    (numpy.float16(0.5), 0.5, "0.5"),
    (numpy.float64(0.1), 0.1, "0.1"),
    (numpy.bool_(True), True, "true"),
    (numpy.str_("a"), "a", '"a"'),
    (numpy.bytes_(b"a"), b"a", '{"$bytes":"YQ=="}'),
    (numpy.array(2.5), 2.5, "2.5"),
    (numpy.array(2.5, ">f8"), 2.5, "2.5"),
    (bytearray(b"ab"), b"ab", '{"$bytes":"YWI="}'),
    (memoryview(b"abcd")[::2], b"ac", '{"$bytes":"YWM="}'),
]


def in_short(value):
    """Without addresses: the processes in which tests run must agree on their names."""
    return repr(value).split(" at 0x")[0][:40]


@pytest.mark.parametrize(("published", "read", "text"), TABLE, ids=in_short)
def test_a_value_is_read_as_the_table_says(through, published, read, text):
    for wrap in (lambda value: value, lambda value: {"k": [value]}):
        msg = through(wrap(published))
        assert msg.value == wrap(read)
        assert json.loads(msg.json()) == wrap(json.loads(text))
        assert text in msg.json()
    assert type(through(published).value) is type(read)


def test_a_datetime_is_read_in_utc(through):
    read = through(moment(2026, 7, 1, 12, tz=EAST)).value
    assert read.tzinfo is UTC
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "key", [moment(2026, 1, 1), datetime.date(2026, 1, 1), Decimal("1.5"), A_UUID], ids=repr
)
def test_a_type_of_the_table_may_be_a_key(through, key):
    msg = through({key: 1, "a": 2})
    assert msg.value == {key: 1, "a": 2}
    assert json.loads(msg.json())["a"] == 2


class Stubborn(Decimal):
    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


REFUSED = [
    (
        datetime.datetime(2026, 1, 1),
        TypeError,
        "the datetime has no time zone at {}; make it datetime.now(timezone.utc)",
    ),
    (
        moment(9999, 12, 31, 23, tz=timezone(timedelta(hours=-5))),
        OverflowError,
        "outside the years 1 to 9999 in UTC at {};",
    ),
    (
        timedelta(1),
        TypeError,
        "cannot publish datetime.timedelta at {}; publish its total_seconds()",
    ),
    (datetime.time(1), TypeError, "cannot publish datetime.time at {}; publish its isoformat()"),
    (Decimal("sNaN"), ValueError, "Decimal does not fit every reader at {};"),
    (Decimal("NaN123"), ValueError, "Decimal does not fit every reader at {};"),
    (2**64, OverflowError, "the int does not fit 64 bits at {};"),
    (1j, TypeError, "cannot publish complex at {}; publish [x.real, x.imag]"),
    (range(3), TypeError, "cannot publish range at {};"),
    (
        numpy.array([None]),
        TypeError,
        "numpy.ndarray with items of the format O at {}; arrays may hold bool, int and",
    ),
    (numpy.array(["a"]), TypeError, "numpy.ndarray with items of the format 1w at {};"),
    (numpy.zeros(2, "i4,f8"), TypeError, "numpy.ndarray with items of the format T{{"),
    (
        numpy.array(["2026"], "M8[s]"),
        TypeError,
        "cannot publish numpy.ndarray (cannot include dtype 'M' in a buffer) at {};",
    ),
    (
        numpy.datetime64("2026"),
        TypeError,
        "cannot publish numpy.datetime64 at {}; publish its astype('int64')",
    ),
    (numpy.complex64(1), TypeError, "cannot publish numpy.complex64"),
    (numpy.ma.array([1, 2], mask=[0, 1]), TypeError, "MaskedArray at {}; publish its filled()"),
    (
        {libbus.Ext(100, b"1"): 1},
        TypeError,
        "readers read the Ext as a value of another type at the key Ext(",
    ),
    (
        {Stubborn("1"): 1, 1: 2},
        ValueError,
        "two keys of the dict are the same to readers at the key",
    ),
    (
        {A_UUID: 1, frozenset(): 2},
        TypeError,
        "cannot publish frozenset as a key at the key frozenset() of {};",
    ),
]


@pytest.mark.parametrize(("value", "kind", "says"), REFUSED, ids=in_short)
def test_a_value_that_no_reader_can_hold_raises_with_its_path(bus, value, kind, says):
    with bus.subscribe("t") as heard:
        with pytest.raises(kind) as caught:
            bus.publish("t", {"a": [0, value]})
        assert str(caught.value).startswith("t: ")
        assert says.format("value['a'][1]") in str(caught.value)
        assert heard.recv_nowait() is None


@pytest.mark.parametrize(
    "data", [b"", b"1.5 ", b" 1.5", b"+1", b".5", b"1.", b"1e5", b"sNaN", b"1E+1234567890", b"\xff"]
)
def test_an_extension_that_has_not_its_form_is_read_as_an_extension(data):
    for code in (100, 101, 102, 103):
        packed = libbus.packb(libbus.Ext(code, data))
        assert libbus.unpackb(packed) == libbus.Ext(code, data)


@pytest.mark.parametrize("text", [b"2026-02-29", b"2026-13-01", b"0000-01-01", b"2026-1-01x"])
def test_a_day_that_the_calendar_lacks_is_read_as_an_extension(text):
    assert libbus.unpackb(libbus.packb(libbus.Ext(102, text))) == libbus.Ext(102, text)


@pytest.mark.parametrize(
    "data", [b"", b"12345", b"\xff" * 8, b"\xff" * 12, b"\x3b\x9a\xca\x00" + bytes(8)]
)
def test_an_invalid_time_is_read_as_an_extension(data):
    assert libbus.unpackb(libbus.packb(libbus.Ext(-1, data))) == libbus.Ext(-1, data)


def test_a_time_of_more_than_microseconds_is_rounded_down():
    data = (999_999_999).to_bytes(4, "big") + (-1).to_bytes(8, "big", signed=True)
    assert libbus.unpackb(b"\xc7\x0c\xff" + data) == moment(1969, 12, 31, 23, 59, 59, 999_999)
    late = (0).to_bytes(4, "big") + (2**62).to_bytes(8, "big")
    assert libbus.unpackb(b"\xc7\x0c\xff" + late) == libbus.Ext(-1, late)


# --- arrays --------------------------------------------------------------------------------------------------

KINDS = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0,), (5,), (2, 3), (2, 0, 3), (2, 1, 3, 2)])
def test_an_array_keeps_its_dtype_its_shape_and_its_numbers(through, kind, shape):
    sent = numpy.arange(math.prod(shape)).reshape(shape).astype(kind)
    for order in "<>":
        msg = through(sent.astype(sent.dtype.newbyteorder(order)))
        for read in (numpy.asarray(msg), numpy.asarray(msg.value)):
            assert (read.dtype, read.shape) == (sent.dtype, shape)
            assert numpy.array_equal(read, sent)


@pytest.mark.parametrize(
    "part",
    [
        lambda a: a[::2, ::-1],
        lambda a: a.T,
        lambda a: numpy.asfortranarray(a),
        lambda a: a[:, 1],
        lambda a: numpy.broadcast_to(a[0], (3, 6)),
    ],
)
def test_a_non_contiguous_array_is_sent_contiguous(through, part):
    sent = part(numpy.arange(24.0).reshape(4, 6))
    read = numpy.asarray(through(sent))
    assert numpy.array_equal(read, sent)
    assert read.flags.c_contiguous


def test_an_array_is_read_in_place_and_keeps_the_message_alive(through):
    msg = through(numpy.arange(8192.0))
    read, again, value = numpy.asarray(msg), numpy.asarray(msg), numpy.asarray(msg.value)
    assert numpy.shares_memory(read, again) and numpy.shares_memory(read, value)
    assert not read.flags.writeable and read.flags.aligned
    assert read.ctypes.data % 16 == 0
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 1
    view = msg.value
    del msg, again, value
    gc.collect()
    assert read[8191] == 8191.0 and view[8191] == 8191.0


def test_arrays_inside_a_value_are_aligned_and_share_the_message(through):
    msg = through({"name": "x", "a": numpy.arange(3.0), "b": [numpy.ones((2, 2), "i2")]})
    first = numpy.asarray(msg.value["a"])
    assert first.tolist() == [0.0, 1.0, 2.0]
    assert first.ctypes.data % 16 == 0
    assert msg.value["b"][0].tolist() == [[1, 1], [1, 1]]
    del msg
    gc.collect()
    assert first.tolist() == [0.0, 1.0, 2.0]


def test_an_array_in_a_message_ends_with_its_last_view(through):
    """A view keeps the bytes, not the message, so there is no cycle for the collector to find."""
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        for _ in range(2000):
            _ = through(numpy.arange(8.0)).value
        assert sys.getallocatedblocks() - before < 500
    finally:
        gc.enable()


def test_an_array_needs_no_numpy(through):
    for code in "bBhHiIlLqQfd":
        sent = array.array(code, [1, 2, 3])
        read = through(sent).value
        assert (read.format.replace("q", "l").replace("Q", "L"), read.itemsize) == (
            code.replace("q", "l").replace("Q", "L"),
            sent.itemsize,
        )
        assert array.array(code, read) == sent
    grid = memoryview(array.array("i", range(6))).cast("B").cast("i", (2, 3))
    assert through(grid).value.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_image_with_the_protocol_of_numpy_is_an_array(through):
    class Image:
        __array_interface__ = {  # noqa: RUF012 as Pillow's
            "version": 3,
            "shape": (2, 2, 3),
            "typestr": "|u1",
            "data": bytes(range(12)),
        }

    assert through([Image()]).value[0].tolist() == numpy.arange(12).reshape(2, 2, 3).tolist()


def test_a_message_is_the_memory_of_its_payload(bus, through):
    with bus.subscribe("raw") as sub:
        bus.publish_raw("raw", b"abc", encoding="bytes")
        assert bytes(memoryview(sub.recv(timeout=WATCHDOG))) == b"abc"
    for value in (1, "text", [1.0], {"a": numpy.arange(2)}):
        with pytest.raises(BufferError, match=r"^t: the payload is not an array: use msg\.value"):
            memoryview(through(value))
    again = through(through(numpy.arange(3)))  # a message with an array is one
    assert numpy.asarray(again).tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match=r"^t: cannot publish libbus\.Message \(t: the payload"):
        through(through(1))


def test_an_array_in_the_json_of_a_page_has_its_type_and_shape(through):
    assert json.loads(through(numpy.array([[1, 2]], "i2")).json()) == {
        "$bytes": "AQACAA==",
        "$numbers": "i2",
        "$shape": [1, 2],
    }


def test_arrays_and_times_can_be_typed(bus):
    @dataclasses.dataclass
    class Frame:
        at: datetime.datetime
        price: Decimal
        id: uuid.UUID
        day: datetime.date
        samples: numpy.ndarray
        tags: set[str]

    sent = Frame(
        moment(2026, 1, 1),
        Decimal("1.10"),
        A_UUID,
        datetime.date(2026, 1, 1),
        numpy.arange(3.0),
        {"a"},
    )
    with bus.subscribe("t", type=Frame) as sub:
        bus.publish("t", sent)
        read = sub.recv(timeout=WATCHDOG).value
    assert isinstance(read.samples, numpy.ndarray)
    assert read.samples.tolist() == sent.samples.tolist()
    assert (read.at, read.price, read.id, read.day, read.tags) == (
        sent.at, sent.price, sent.id, sent.day, sent.tags,
    )  # fmt: skip
    with bus.subscribe("n", type=numpy.ndarray) as sub:
        bus.publish("n", [1])
        with pytest.raises(libbus.DecodeError, match="an array is needed, not list"):
            _ = sub.recv(timeout=WATCHDOG).value


def test_a_struct_of_msgspec_keeps_the_types_of_the_table(bus):
    msgspec = pytest.importorskip("msgspec")
    Deal = msgspec.defstruct(
        "Deal", [("at", datetime.datetime), ("price", Decimal), ("id", uuid.UUID)]
    )
    sent = Deal(moment(2026, 1, 1, 0, 0, 0, 5), Decimal("1.10"), A_UUID)
    with bus.subscribe("t") as plain, bus.subscribe("t", type=Deal) as typed:
        bus.publish("t", sent)
        assert plain.recv(timeout=WATCHDOG).value == {
            "at": sent.at,
            "price": sent.price,
            "id": A_UUID,
        }
        assert typed.recv(timeout=WATCHDOG).value == sent


# --- all at once -----------------------------------------------------------------------------------------------

INTS = st.integers(-(2**63), 2**64 - 1)
TIMES = st.datetimes(
    datetime.datetime(1, 1, 2),
    datetime.datetime(9999, 12, 30),
    timezones=st.just(UTC) | st.just(EAST),
)
DECIMALS = st.decimals(allow_nan=False) | st.builds(
    lambda digits, power: Decimal(digits).scaleb(power), st.integers(), st.integers(-900, 900)
)
KEYS = (
    INTS
    | st.text()
    | st.binary()
    | st.none()
    | st.booleans()
    | TIMES
    | st.dates()
    | DECIMALS
    | st.uuids()
)
SCALARS = KEYS | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=40,
)
ARRAYS = st.builds(
    lambda data, kind, rows: numpy.frombuffer(
        data[: len(data) // (16 * rows) * 16 * rows], kind
    ).reshape(rows, -1),
    st.binary(max_size=600),
    st.sampled_from(KINDS[1:]),
    st.integers(1, 4),
)


@given(VALUES)
@settings(deadline=None, max_examples=300)
def test_every_value_arrives_equal(value):
    packed = libbus.packb(value)
    read = libbus.unpackb(packed)
    assert read == value
    assert libbus.packb(read) == packed or isinstance(value, (dict, list))


@given(ARRAYS)
@settings(deadline=None, max_examples=200)
def test_every_array_arrives_equal(sent):
    read = numpy.asarray(libbus.unpackb(libbus.packb(["x", sent]))[1])
    assert (read.dtype, read.shape, read.tobytes()) == (sent.dtype, sent.shape, sent.tobytes())


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_a_value_or_a_decode_error(data):
    try:
        value = libbus.unpackb(data)
    except libbus.DecodeError:
        return
    with libbus.Bus() as bus, bus.subscribe("t") as sub:
        bus.publish_raw("t", data, encoding="msgpack")
        msg = sub.recv(timeout=WATCHDOG)
        json.loads(msg.json())
        assert type(msg.value) is type(value)


@given(VALUES)
@settings(deadline=None, max_examples=200)
def test_every_value_has_a_json_text(value):
    with libbus.Bus() as bus, bus.subscribe("t") as sub:
        bus.publish("t", value)
        json.loads(sub.recv(timeout=WATCHDOG).json())


class Plain(enum.Enum):
    A = moment(2026, 1, 1)


def test_an_enum_is_its_value_of_any_type(through):
    assert through([Plain.A]).value == [moment(2026, 1, 1)]


def test_decimals_do_not_depend_on_the_context(through):
    with decimal.localcontext() as context:
        context.prec = 3
        assert through(Decimal("1.23456789")).value == Decimal("1.23456789")


# --- large arrays, which are written into the memory of a private bus ----------------------------------------------

LARGE = numpy.arange(8192.0).reshape(64, 128)


@pytest.mark.parametrize("name", [None, "arrays"])
def test_a_large_array_arrives_by_every_way_of_publishing(name, tmp_path):
    with (
        libbus.Bus(name, directory=tmp_path if name else None) as bus,
        bus.subscribe("t", max_bytes=1 << 22) as sub,
    ):
        with bus.publisher("t") as publisher:
            bus.publish("t", LARGE)
            bus.publish("t", LARGE[::2, ::3])
            publisher.send(LARGE)
            publisher.send(LARGE.T)
            publisher.send_many([LARGE, 1, LARGE])
            bus.publish("t", LARGE, headers={"a": 1})
            bus.publish("t", LARGE, retain=True)
        sent = [LARGE, LARGE[::2, ::3], LARGE, LARGE.T, LARGE, 1, LARGE, LARGE, LARGE]
        for want in sent:
            msg = sub.recv(timeout=WATCHDOG)
            assert numpy.array_equal(msg.value, want)
        assert numpy.array_equal(numpy.asarray(bus.get("t")), LARGE)


def test_a_large_array_that_cannot_be_published_is_refused_and_the_next_is_sent(bus):
    with bus.subscribe("t") as sub, bus.publisher("t") as publisher:
        for send in (lambda value: bus.publish("t", value), publisher.send):
            with pytest.raises(TypeError, match=r"^t: cannot publish numpy\.ndarray with items"):
                send(numpy.array([None] * 10000))
            with pytest.raises(libbus.TooBigError, match=r"^t: "):
                send(numpy.zeros(1 << 20))
            with pytest.raises(TypeError, match=r"^t: cannot publish .* \(cannot include dtype"):
                send(numpy.zeros(10000, "M8[s]"))
            send(LARGE)
            assert numpy.array_equal(numpy.asarray(sub.recv(timeout=WATCHDOG)), LARGE)
        assert sub.recv_nowait() is None


def test_a_large_array_waits_for_room_then_is_refused(bus):
    with bus.subscribe("t", full="refuse", max_bytes=200_000) as sub:
        late = bus.publisher("t", wait=0.05)
        with late, pytest.raises(libbus.FullError, match=r"^t: "):
            for _ in range(100):
                late.send(LARGE)
        held = [numpy.asarray(msg) for msg in sub.iter(timeout=0)]
        assert held and all(numpy.array_equal(array, LARGE) for array in held)
        with bus.publisher("t", wait=None) as publisher:

            def send():
                for n in range(20):
                    publisher.send(LARGE + n)

            thread = threading.Thread(target=send)
            thread.start()
            for n in range(20):
                assert numpy.array_equal(numpy.asarray(sub.recv(timeout=WATCHDOG)), LARGE + n)
            thread.join()
    bus.close()
    with pytest.raises(libbus.ClosedError, match=r"^t: "):
        bus.publish("t", LARGE)


# --- large payloads are copied once ------------------------------------------------------------------------------

SIZES = [4095, 4096, 16383, 16384, 65536, 1_000_000]


def packed_alike(value, one):
    assert one.data == libbus.packb(value)
    assert one.data is one.data


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [None, "big"], ids=["private", "named"])
def test_large_bytes_arrive_as_they_are_by_each_way_to_publish(name, size, tmp_path):
    value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    values = [value, bytearray(value), memoryview(value), memoryview(value)[::2], {"v": value}]
    with (
        libbus.Bus(name, directory=tmp_path) if name else libbus.Bus() as bus,
        bus.subscribe("t", max_bytes=64 << 20) as sub,
        bus.publisher("t") as pub,
    ):
        for each in values:
            for send in (pub.send, lambda v: bus.publish("t", v), lambda v: pub.send_many([v])):
                send(each)
                one = sub.recv(timeout=WATCHDOG)
                packed_alike(each, one)
                assert one.value == (each if isinstance(each, dict) else bytes(each))
        bus.publish("t", value, retain=True, headers={"a": 1})
        one = sub.recv(timeout=WATCHDOG)
        packed_alike(value, one)
        assert one.headers == {"a": 1} and bus.get("t").data == one.data


@pytest.mark.parametrize("name", [None, "big"], ids=["private", "named"])
def test_large_arrays_arrive_aligned_and_in_this_byte_order(name, tmp_path):
    plain = numpy.arange(30000, dtype="float64").reshape(3, 100, 100)
    values = [plain, plain[:, ::2], plain.T, plain.astype(">f8"), numpy.asfortranarray(plain)]
    with (
        libbus.Bus(name, directory=tmp_path) if name else libbus.Bus() as bus,
        bus.subscribe("t") as sub,
        bus.publisher("t") as pub,
    ):
        for value in values:
            for send in (pub.send, lambda v: bus.publish("t", v)):
                send(value)
                one = sub.recv(timeout=WATCHDOG)
                packed_alike(value, one)
                array = numpy.asarray(one)
                assert array.flags.aligned and array.ctypes.data % 16 == 0
                numpy.testing.assert_array_equal(array, value)
                del one
                assert array[0, 0, 0] == value[0, 0, 0]  # it keeps its memory alive


def test_large_value_of_callbacks_is_the_same_bytes_for_all():
    got = []
    with libbus.Bus() as bus:
        bus.on("t", lambda msg: got.append(msg.data))
        bus.on("#", lambda msg: got.append(msg.data))
        bus.publish("t", b"x" * 100_000)
        bus.flush()
    assert got[0] == got[1] and got[0] is got[1]


def test_a_large_value_without_room_is_refused_or_waits():
    value = b"x" * 40_000
    with (
        libbus.Bus() as bus,
        bus.subscribe("t", full="refuse", max_bytes=65536) as sub,
        bus.publisher("t", wait=WATCHDOG) as pub,
    ):
        sent = 0
        with pytest.raises(libbus.FullError):
            for _ in range(10):
                bus.publish("t", value)
                sent += 1
        taker = threading.Thread(target=lambda: [sub.recv(timeout=WATCHDOG) for _ in range(sent)])
        taker.start()
        pub.send(value)
        taker.join()
        assert sub.recv(timeout=WATCHDOG).value == value
        with pytest.raises(libbus.TooBigError):
            pub.send(b"x" * (2 << 20))
