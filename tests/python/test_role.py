"""Roles: work for one process of a named bus at a time."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from patience import WATCHDOG
from programs import started

import libbus


@pytest.fixture
def place(tmp_path):
    return tmp_path


@pytest.fixture
def named(place):
    with libbus.Bus("test", directory=place, log_bytes=4 << 20) as bus:
        yield bus


def holder(place):
    """A process that holds the role and prints so; it ends with its input."""
    program = (
        f"import libbus, sys\nwith libbus.Bus('test', directory={str(place)!r}) as bus:\n"
        "    with bus.role('heater') as role:\n"
        "        print('has it', flush=True)\n        sys.stdin.read()\n"
    )
    return started(sys.executable, "-c", program)


def test_one_process_holds_the_role_and_the_next_takes_it_after_its_end(named, place):
    with holder(place) as other:
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(libbus.BusTimeoutError, match=r"^heater: timed out") as caught:
            named.role("heater", timeout=0.1)
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(libbus.BusTimeoutError):
            named.role("heater", timeout=0)
        other.stdin.close()
        with named.role("heater", timeout=WATCHDOG) as role:
            assert (role.name, role.closed, role.bus) == ("heater", False, named)
            assert repr(role) == "<libbus.Role heater>"
        assert role.closed and repr(role) == "<libbus.Role heater closed>"
        role.close()


def test_the_next_process_takes_the_role_when_its_holder_is_killed(named, place):
    with holder(place) as other:
        assert other.stdout.readline() == "has it\n"
        other.kill()
        named.role("heater", timeout=WATCHDOG)


def test_a_bus_can_wait_for_another_of_the_same_process_while_python_runs(named, place):
    with libbus.Bus("test", directory=place) as second:
        first = named.role("heater")
        got = []
        thread = threading.Thread(target=lambda: got.append(second.role("heater")))
        thread.start()
        time.sleep(0.05)
        assert got == []
        first.close()
        thread.join(WATCHDOG)
        assert not got[0].closed


def test_a_role_without_references_is_held_until_the_bus_closes(named, place):
    named.role("heater")
    gc.collect()
    with libbus.Bus("test", directory=place) as second:
        with pytest.raises(libbus.BusTimeoutError):
            second.role("heater", timeout=0)
        role = named.role("lamp")
        named.close()
        assert role.closed
        second.role("heater", timeout=0)
        second.role("lamp", timeout=0)


def test_it_keeps_its_bus_open(place):
    role = libbus.Bus("test", directory=place).role("heater")
    gc.collect()
    assert not role.closed
    with libbus.Bus("test", directory=place) as second, pytest.raises(libbus.BusTimeoutError):
        second.role("heater", timeout=0)
    role.bus.close()


def test_waiting_for_a_role_raises_closed_when_the_bus_closes(named, place):
    with libbus.Bus("test", directory=place) as second:
        second.role("heater")
        threading.Timer(0.1, named.close).start()
        with pytest.raises(libbus.ClosedError):
            named.role("heater")


def test_ctrl_c_ends_the_wait(named, place):
    named.role("heater")
    program = (
        f"import libbus\nbus = libbus.Bus('test', directory={str(place)!r})\n"
        "print('waiting', flush=True)\nbus.role('heater')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=WATCHDOG)
    assert stderr.endswith("KeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT


def test_a_callback_may_take_it_but_not_wait_for_it(named):
    seen = []

    @named.on("a")
    def heard(msg):
        with pytest.raises(libbus.StateError, match=r"^heater: wrong place"):
            named.role("heater")
        seen.append(named.role("heater", timeout=0))

    named.publish("a", 1)
    named.flush(timeout=WATCHDOG)
    assert not seen[0].closed


def test_a_forked_child_does_not_have_it(named, place):
    role = named.role("heater")
    pid = os.fork()
    if pid == 0:
        role.close()
        os._exit(0 if role.closed else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert not role.closed
    with libbus.Bus("test", directory=place) as second, pytest.raises(libbus.BusTimeoutError):
        second.role("heater", timeout=0)


@pytest.mark.parametrize(
    ("name", "timeout", "kind", "text"),
    [
        ("", None, libbus.TopicError, "^empty"),
        ("a/#", None, libbus.TopicError, "^a/#: "),
        ("a\0", None, libbus.TopicError, "not text"),
        ("x" * 1025, None, libbus.TopicError, "too long"),
        (7, None, TypeError, "a name is a str, not int"),
        ("a", -1, ValueError, "timeout -1"),
    ],
)
def test_a_bad_argument_is_named(named, name, timeout, kind, text):
    with pytest.raises(kind, match=text):
        named.role(name, timeout=timeout)


def test_a_private_bus_has_no_roles(bus):
    with pytest.raises(libbus.NotSupportedError, match=r"^heater: roles are for a named bus"):
        bus.role("heater")
