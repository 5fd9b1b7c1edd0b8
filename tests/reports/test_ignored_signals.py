"""A signal that is ignored when the command starts stays ignored: nohup, and & in a script, rely on it."""

import signal

import pytest
from patience import WATCHDOG
from programs import (
    HOST_SENSORS,
    LIBBUS,
    ipc_address,  # noqa: F401 (a fixture)
    started,
)

import libbus

ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def named(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus:
        yield bus


def ignoring(*numbers):
    """env, in front of a command that is to start with these signals ignored."""
    return ["env", *(f"--ignore-signal={number.name.removeprefix('SIG')}" for number in numbers)]


def heard(process, named, number):
    """Waits until the command prints a message that is published now."""
    named.publish("n", number, retain=True)
    return any(line.split()[-2:] == ["n", str(number)] for line in process.stdout)


def screens(process, named, number):
    """Waits for two screens of top: the second is begun after this call."""
    return sum(" topics, " in next(process.stdout) for _ in range(4)) > 0


def published(process, named, number):
    with named.subscribe("n") as numbers:
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        return numbers.recv(WATCHDOG).value == number


COMMANDS = [
    (("sub", "test", "n"), heard, 0),
    (("log", "tail", "test", "n"), heard, 0),
    (("top", "test", "n", "--interval", "0.05"), screens, 0),
    (("pub", "test", "n", "--lines"), published, None),
]


@pytest.mark.parametrize(("command", "works", "status"), COMMANDS)
@pytest.mark.parametrize("number", ENDINGS)
def test_a_command_goes_on_after_a_signal_that_was_ignored_at_its_start(
    named, tmp_path, command, works, status, number
):
    other = signal.SIGTERM if number == signal.SIGINT else signal.SIGINT
    with started(*ignoring(number), LIBBUS, *command, "--dir", tmp_path) as process:
        assert works(process, named, 1)
        process.send_signal(number)
        for after in range(2, 5):  # a signal that counts would end it behind the first of these
            assert works(process, named, after)
        process.send_signal(other)
        assert process.wait(WATCHDOG) == (-other if status is None else status)


@pytest.mark.parametrize("number", ENDINGS[:2])
def test_the_sensors_go_on_after_a_signal_that_was_ignored_at_their_start(ipc, number):
    other = signal.SIGTERM if number == signal.SIGINT else signal.SIGINT
    publish = (HOST_SENSORS, "--listen", ipc, "--interval", "50")
    with libbus.Bus() as bus, started(*ignoring(number), *publish) as process:
        with bus.subscribe("host/+/cpu/#") as readings:
            bus.dial(ipc)
            readings.recv(WATCHDOG)
            process.send_signal(number)
            first = readings.recv(WATCHDOG).topic
            for _ in range(3):  # rounds: a signal that counts would end it behind the first
                while readings.recv(WATCHDOG).topic != first:
                    assert process.poll() is None
        process.send_signal(other)
        assert process.wait(WATCHDOG) == 0
