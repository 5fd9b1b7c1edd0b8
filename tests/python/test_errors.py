"""Every mistake has its own exception, which names the object and says what to do."""

import builtins
import errno
import re
import socket

import pytest
from conftest import REPO
from patience import WATCHDOG

import libbus
from libbus import _core

CODES = {name: code for code, name, _, _ in _core.ERRORS}


def test_every_code_of_error_h_has_its_exception():
    listed = re.findall(
        r'X\((\w+), (-\d+), +"([^"]*)"\)', (REPO / "include/libbus/error.h").read_text()
    )
    assert [(int(code), f"BUS_E_{name}", text) for name, code, text in listed] == [
        row[:3] for row in _core.ERRORS
    ]
    for code, name, text, kind in _core.ERRORS:
        error = _core.error(code, "here")
        assert type(error) is kind
        assert str(error).startswith(f"here: {text}")
        if kind is not MemoryError:
            assert isinstance(error, libbus.BusError)
            assert (error.code, error.name) == (code, name)


def test_every_exception_is_exported():
    for _, _, _, kind in _core.ERRORS:
        assert getattr(libbus, kind.__name__, None) or getattr(builtins, kind.__name__) is kind


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (libbus.BusTimeoutError, TimeoutError),
        (libbus.TopicError, ValueError),
        (libbus.FilterError, ValueError),
        (libbus.TooBigError, ValueError),
        (libbus.AddressError, ValueError),
        (libbus.ArgumentError, ValueError),
        (libbus.DecodeError, ValueError),
        (libbus.TransportError, OSError),
        (libbus.ForkError, RuntimeError),
        (libbus.StateError, RuntimeError),
    ],
)
def test_exceptions_are_also_what_python_would_raise(kind, parent):
    assert issubclass(kind, libbus.BusError) and issubclass(kind, parent)


@pytest.mark.parametrize(
    ("topic", "name", "text"),
    [
        ("", "TOPIC_EMPTY", "^empty: a topic or filter has at least one character"),
        ("x" * 1025, "TOPIC_LONG", "^x{80}…: too long: a topic or filter"),
        ("/".join("x" * 33), "TOPIC_LONG", "too long: a topic or filter"),
        ("a\0b", "TOPIC_BYTES", "^'a.x00b': topic is not text"),
        ("a\ud800", "TOPIC_BYTES", "topic is not text"),
        ("a/+", "TOPIC_WILDCARD", r"^a/\+: topic has"),
        ("a/#", "TOPIC_WILDCARD", "^a/#: topic has"),
        ("$SYS/a", "TOPIC_RESERVED", r"^\$SYS/a: topic begins with"),
    ],
)
def test_a_bad_topic_is_named_with_its_fault(bus, topic, name, text):
    for publish in (lambda: bus.publish(topic, 1), lambda: bus.publish_raw(topic, b"1")):
        with pytest.raises(libbus.TopicError, match=text) as caught:
            publish()
        assert caught.value.code == CODES[f"BUS_E_{name}"]
        assert (caught.value.topic, caught.value.address) == (topic, None)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("a/#/b", "FILTER"),
        ("a+/b", "FILTER"),
        ("a/b#", "FILTER"),
        ("", "TOPIC_EMPTY"),
        ("x" * 1025, "TOPIC_LONG"),
        ("a\0b", "TOPIC_BYTES"),
    ],
)
def test_a_bad_filter_is_named_with_its_fault(bus, asked, name):
    for subscribe in (lambda: bus.subscribe("good", asked), lambda: bus.on(asked, print)):
        with pytest.raises(libbus.FilterError) as caught:
            subscribe()
        assert caught.value.code == CODES[f"BUS_E_{name}"]
        assert caught.value.topic == asked


def test_a_payload_above_the_limit_is_too_big():
    with libbus.Bus(max_payload=1000) as bus, bus.subscribe("#") as everything:
        bus.publish_raw("a", bytes(1000))
        with pytest.raises(libbus.TooBigError, match=r"^a: payload too big"):
            bus.publish_raw("a", bytes(1001))
        assert len(everything.recv(timeout=WATCHDOG).data) == 1000
        assert everything.recv_nowait() is None


def test_an_exception_names_the_limit_and_the_value_beyond_it(bus):
    with (
        libbus.Bus(max_payload=1000) as small,
        pytest.raises(libbus.TooBigError, match=r"^a: .* 1001 bytes, and this bus takes 1000: "),
    ):
        small.publish_raw("a", bytes(1001))
    with pytest.raises(libbus.FilterError, match=r'^a/b\+/c: .* level 2 is "b\+"'):
        bus.subscribe("a/b+/c")
    with pytest.raises(libbus.LimitError, match=r"^a/#: last: 20000: .* at most 10000 messages$"):
        bus.keep("a/#", last=20000)
    with pytest.raises(libbus.TransportError, match=r"^home: .* log in /nowhere/bus: No such file"):
        libbus.Bus("home", directory="/nowhere/bus")


def test_an_exception_without_a_failed_call_has_no_text_of_an_earlier_one(bus):
    full = _core.error(CODES["BUS_E_FILTER"], "a/#/b")
    with pytest.raises(libbus.FilterError, match="level 2"):
        bus.subscribe("a/#/b")
    assert str(_core.error(CODES["BUS_E_FILTER"], "a/#/b")) == str(full)
    assert "level 2" not in str(full)


@pytest.mark.parametrize(
    ("url", "kind", "name"),
    [
        ("mqtt://127.0.0.1", libbus.AddressError, "SCHEME"),
        ("nothing", libbus.AddressError, "ADDRESS|SCHEME"),
        ("tcp://127.0.0.1:99999", libbus.AddressError, "ADDRESS"),
        ("ipc://relative", libbus.AddressError, "ADDRESS"),
        ("tcp://0.0.0.0:0", libbus.AddressError, "NOT_LOOPBACK"),
        ("tcp://127.0.0.1\0:1", libbus.AddressError, "ADDRESS"),
    ],
)
def test_a_bad_address_is_named_with_its_fault(bus, url, kind, name):
    with pytest.raises(kind) as caught:
        bus.listen(url)
    assert re.fullmatch(f"BUS_E_({name})", caught.value.name)
    assert caught.value.address == url
    shown = url if url.isprintable() else ascii(url)
    assert str(caught.value).startswith(f"{shown}: ")


def test_a_port_that_is_taken_is_a_transport_error(bus):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(libbus.TransportError, match=f"^{url}: address in use"):
            bus.listen(url)


def test_a_file_in_place_of_the_socket_is_left_alone(bus, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(libbus.TransportError, match="left untouched") as caught:
        bus.listen(f"ipc://{tmp_path}/file")
    assert caught.value.name == "BUS_E_NOT_A_SOCKET"
    assert (tmp_path / "file").read_text() == "precious"


def test_an_error_can_be_printed_whatever_it_is_about():
    with libbus.Bus() as bus, pytest.raises(libbus.TopicError) as caught:
        bus.publish("a\ud800", 1)
    assert str(caught.value).encode()


def test_a_callback_must_be_callable():
    with (
        libbus.Bus() as bus,
        pytest.raises(TypeError, match="a callback must be a function, not int"),
    ):
        bus.subscribe("a", callback=3)


def test_a_refusal_by_the_system_has_its_errno(tmp_path):
    with libbus.Bus() as bus, pytest.raises(libbus.TransportError) as caught:
        bus.listen(f"ipc://{tmp_path}/none/x.sock")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda bus: bus.publish(7, 1), TypeError, "a topic is a str, not int"),
        (lambda bus: bus.publish("a"), TypeError, "value"),
        (lambda bus: bus.subscribe(), TypeError, "at least one filter"),
        (lambda bus: bus.subscribe(b"a"), TypeError, "a filter is a str, not bytes"),
        (lambda bus: bus.on(), TypeError, "at least one filter"),
        (lambda bus: bus.subscribe("a", full="block"), ValueError, "drop_oldest, drop_newest"),
        (lambda bus: bus.subscribe("a", max_bytes=-1), ValueError, "max_bytes=-1"),
        (lambda bus: bus.subscribe("a").recv(-1), ValueError, "None to wait for ever"),
        (lambda bus: bus.subscribe("a").recv(float("nan")), ValueError, "timeout nan"),
        (lambda bus: bus.subscribe("a").recv("1"), TypeError, "str"),
        (lambda bus: bus.publish_raw("a", b"", encoding="xml"), ValueError, "untagged, msgpack"),
        (lambda bus: bus.dial("inproc://x", heartbeat=0.01), libbus.ArgumentError, "inproc://x"),
        (lambda bus: libbus.Bus(max_topics=-1), ValueError, "max_topics=-1"),
        (lambda bus: libbus.Message(), TypeError, "cannot create"),
    ],
)
def test_a_bad_argument_is_named(bus, call, kind, text):
    with pytest.raises(kind, match=text):
        call(bus)


def test_names_of_exceptions_end_in_error():
    for name in libbus.__all__:
        member = getattr(libbus, name)
        if isinstance(member, type) and issubclass(member, Exception):
            assert name.endswith("Error") and member.__name__ == name


def test_importing_everything_hides_no_builtin():
    assert not set(libbus.__all__) & set(dir(builtins))


@pytest.mark.parametrize("method", ["on", "serve"])
def test_a_decorator_without_parentheses_shows_the_right_form(bus, method):
    decorator = getattr(bus, method)
    with pytest.raises(TypeError, match=rf"^{method}\(\) has no filter: write @bus.{method}\('sen"):
        decorator(lambda msg: None)
    with pytest.raises(TypeError, match=rf"give at least one filter, like @bus.{method}\('sensors"):
        decorator()
    with pytest.raises(TypeError, match="a callback must be a function, not int"):
        decorator("a")(3)
