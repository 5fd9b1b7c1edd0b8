"""Values as msgpack bytes, without a bus."""

import math
import threading

import pytest

import libbus

VALUES = [
    None,
    True,
    -(2**63),
    2**64 - 1,
    1.5,
    math.inf,
    "naïve 🌡",
    b"\xff\0",
    [1, [2, []]],
    {"a": {1: b"", b"k": None}},
    libbus.Ext(5, b"five"),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_packed_values_are_unpacked(value):
    packed = libbus.packb(value)
    for data in (packed, bytearray(packed), memoryview(packed)):
        unpacked = libbus.unpackb(data)
        assert (unpacked, type(unpacked)) == (value, type(value))


def test_publish_sends_the_packed_bytes(bus):
    with bus.subscribe("#") as sub:
        for value in VALUES:
            bus.publish("a", value)
            bus.publish_raw("a", libbus.packb(value), encoding="msgpack")
            one, other = sub.iter(timeout=0)
            assert (one.data, one.encoding) == (other.data, other.encoding)
            assert libbus.unpackb(one.data) == one.value


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (range(1), TypeError, r"^cannot pack range; make it None"),
        ({"a": [0, range(1)]}, TypeError, r"^cannot pack range at value\['a'\]\[1\]; make it"),
        ({(1, 2): 0}, TypeError, r"^cannot pack tuple as a key at the key \(1, 2\) of value"),
        ([2**64], OverflowError, r"^the int does not fit 64 bits at value\[0\]"),
        ("\ud800", ValueError, r"^the str has half a surrogate pair; "),
        ([0] * 65536, ValueError, r"^a value may nest 32 deep and hold 65536 elements"),
    ],
)
def test_an_unpackable_element_is_named_with_its_path(value, kind, text):
    with pytest.raises(kind, match=text):
        libbus.packb(value)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x01\x01", b"\x92\x01", b"\xa1\xff", b"\x81\x90\x01"]
)
def test_invalid_bytes_raise_a_decode_error(data):
    with pytest.raises(libbus.DecodeError) as caught:
        libbus.unpackb(data)
    assert caught.value.topic is None


def test_unpackb_takes_bytes():
    for wrong in ("text", 3, None):
        with pytest.raises(TypeError):
            libbus.unpackb(wrong)


def test_threads_may_pack_and_unpack_at_once():
    failed = []

    def work(who):
        for n in range(2000):
            value = {"who": who, "n": [n] * (n % 7)}
            if libbus.unpackb(libbus.packb(value)) != value:
                failed.append(value)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
