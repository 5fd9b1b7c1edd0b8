"""Wills: messages published when a process dies."""

import sys
import time

import pytest
from patience import WATCHDOG
from programs import started

import libbus


@pytest.fixture
def named(tmp_path):
    with libbus.Bus("test", directory=tmp_path, log_bytes=4 << 20) as bus:
        yield bus


def member(place, will, end="sys.stdin.read()"):
    """A process on the bus with that will, which prints when it has joined."""
    program = (
        f"import libbus, os, sys\nbus = libbus.Bus('test', directory={str(place)!r}, will={will})\n"
        f"print('there', flush=True)\n{end}\n"
    )
    return started(sys.executable, "-c", program)


def wait_for(got):
    """Returns the next message. Any process that looks at the bus removes a dead one."""
    deadline = time.monotonic() + WATCHDOG
    while (msg := got.recv_nowait()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return msg


def test_the_will_of_a_killed_process_is_published(named, tmp_path):
    will = "libbus.Will('heater/state', {'why': 'died'}, retain=True, headers={'by': 'will'})"
    with named.subscribe("heater/state") as got, member(tmp_path, will) as process:
        assert process.stdout.readline() == "there\n"
        assert got.recv_nowait() is None
        process.kill()
        msg = wait_for(got)
    assert (msg.topic, msg.value, msg.headers) == (
        "heater/state",
        {"why": "died"},
        {"by": "will"},
    )
    late = named.subscribe("heater/state").recv(timeout=WATCHDOG)
    assert (late.value, late.kept) == ({"why": "died"}, True)


@pytest.mark.parametrize("end", ["bus.close()", "sys.exit(3)", "raise ValueError"])
def test_the_will_of_a_process_that_leaves_is_not_published(named, tmp_path, end):
    with named.subscribe("a", "$bus/members/+") as got:
        me = got.recv(timeout=WATCHDOG)
        with member(tmp_path, "libbus.Will('a', 1)", end) as process:
            process.wait(WATCHDOG)
        came, gone = wait_for(got), wait_for(got)
        assert (came.topic, gone.data) == (gone.topic, b"") and came.topic != me.topic
        assert got.recv_nowait() is None
        assert named.subscribe("a", start=libbus.oldest()).recv_nowait() is None


def test_a_process_that_crashes_has_left_without_close(named, tmp_path):
    with named.subscribe("a") as got, member(tmp_path, "libbus.Will('a', 1)", "os.abort()"):
        msg = wait_for(got)
    assert (msg.value, msg.kept) == (1, False)


@pytest.mark.parametrize(
    ("will", "kind", "text"),
    [
        (libbus.Will("a/#", 1), libbus.TopicError, r"^a/#: topic has"),
        (libbus.Will("$bus/a", 1), libbus.TopicError, r"^\$bus/a: topic begins with"),
        (libbus.Will("", 1), libbus.TopicError, r"^empty"),
        (libbus.Will("a\0", 1), libbus.TopicError, r"topic is not text"),
        (libbus.Will("a", b"x" * (1 << 20)), libbus.TooBigError, r"^a: payload too big"),
        (libbus.Will("a", object()), TypeError, r"^a: .*object"),
        (libbus.Will("a", 1, headers=[1]), TypeError, r"^a: headers must be a dict"),
        (libbus.Will(7, 1), TypeError, r"a topic is a str, not int"),
        ("a", TypeError, r"^will must be a libbus.Will, not str"),
    ],
)
def test_a_will_that_could_not_be_published_is_refused(tmp_path, will, kind, text):
    with pytest.raises(kind, match=text) as caught:
        libbus.Bus("test", directory=tmp_path, will=will)
    if isinstance(caught.value, libbus.BusError):
        assert caught.value.topic == will.topic
    with libbus.Bus("test", directory=tmp_path, will=libbus.Will("a", 1)):
        pass
    assert list(tmp_path.iterdir()) == []
