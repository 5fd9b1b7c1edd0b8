"""libbus.testing: the recorder, and the fixtures of the pytest plugin in a user's test suite."""

import asyncio
import threading

import pytest
from interpreter import run
from patience import WATCHDOG

import libbus
import libbus.testing

pytest_plugins = ["pytester"]


# --- the recorder ---------------------------------------------------------------------------------------------


def test_a_recorder_has_a_message_when_publish_returns(bus):
    recorder = libbus.testing.record(bus, "home/#", "garden")
    bus.publish("home/door", "open")
    bus.publish("street", 1)
    bus.publish("garden", {"rain": True})
    bus.publish("home/door", "shut")
    assert recorder.topics == ["home/door", "garden", "home/door"]
    assert recorder.values() == ["open", {"rain": True}, "shut"]
    assert recorder.values("home/door") == recorder.values("home/+") == ["open", "shut"]
    assert recorder.values("home/hall") == []
    assert recorder.items()[1] == ("garden", {"rain": True})
    assert len(recorder) == 3
    assert [msg.topic for msg in recorder] == recorder.topics
    assert libbus.testing.record(bus).values() == []
    assert repr(recorder) == "<libbus.testing.Recorder home/# garden with 3 messages>"
    recorder.clear()
    assert recorder.messages == []


def test_a_recorder_can_be_read_after_the_end_of_it_and_of_its_bus():
    with libbus.Bus() as bus:
        with libbus.testing.record(bus, "a") as first:
            bus.publish("a", 1)
        bus.publish("a", 2)
        second = libbus.testing.record(bus, "a")
        bus.publish("a", 3)
        assert second.values() == [3]
    assert (first.values(), second.values()) == ([1], [3])


def test_a_recorder_has_the_messages_from_before_the_end_of_its_bus():
    with libbus.testing.Bus() as bus:
        recorder = libbus.testing.record(bus, "#")
        bus.on("a", lambda msg: bus.publish("b", msg.value))
        bus.publish("a", 1)
    assert recorder.items() == [("a", 1), ("b", 1)]
    with libbus.Bus() as bus:
        recorder = libbus.testing.record(bus, "#")
        bus.publish("a", 1)
    with pytest.raises(AssertionError, match=r"had unread messages \(1\) when its bus was closed"):
        recorder.values()


def test_wait_returns_when_the_messages_have_arrived(bus):
    recorder = libbus.testing.record(bus, "a")
    bus.publish("a", 1)
    later = threading.Timer(0.01, lambda: [bus.publish("a", n) for n in (2, 3)])
    later.start()
    assert [msg.value for msg in recorder.wait(3, WATCHDOG)] == [1, 2, 3]
    later.join()


def test_wait_fails_with_the_messages_that_arrived(bus):
    recorder = libbus.testing.record(bus, "home/#")
    with pytest.raises(
        AssertionError, match=r"^1 message on home/# expected in 0 s, none arrived$"
    ):
        recorder.wait(timeout=0)
    for n in range(21):
        bus.publish("home/door", "x" * 300 if n == 1 else n)
    with pytest.raises(AssertionError) as caught:
        recorder.wait(30, timeout=0.01)
    lines = str(caught.value).splitlines()
    assert lines[:2] == [
        "30 messages on home/# expected in 0.01 s, 21 arrived:",
        "  home/door  0",
    ]
    assert lines[2].endswith("x …")
    assert lines[-1] == "  and 1 more"
    bus.close()
    with pytest.raises(AssertionError, match="expected before the recording or its bus was closed"):
        recorder.wait(30)


def test_wait_can_be_awaited():
    async def main():
        async with libbus.Bus() as bus:
            recorder = libbus.testing.record(bus, "a")
            asyncio.get_running_loop().call_later(0.01, bus.publish, "a", 1)
            assert [msg.value for msg in await recorder.wait(1, WATCHDOG)] == [1]
            with pytest.raises(
                AssertionError, match=r"2 messages on a expected in 0.01 s, 1 arrived"
            ):
                await recorder.wait(2, 0.01)

    asyncio.run(main())


def test_a_recorder_that_lost_messages_raises(bus, monkeypatch):
    monkeypatch.setattr(libbus.testing, "ROOM_BYTES", 4096)
    recorder = libbus.testing.record(bus, "a")
    for n in range(1000):
        bus.publish("a", n)
    with pytest.raises(
        AssertionError, match=r"Recorder a with \d+ messages> has lost \d+ messages"
    ):
        recorder.values()
    recorder.clear()
    bus.publish("a", 1)
    assert recorder.values() == [1]


# --- the fixtures: the test suite of a user -----------------------------------------------------------------------

SUITE = """
import asyncio, os

import pytest

import libbus

seen = []
places = []


def test_one(bus):
    bus.publish("a", 1, retain=True)
    bus.on("a", print)
    seen.append(bus)


def test_another_has_a_bus_of_its_own(bus):
    assert bus.get("a") is None
    assert seen[0].closed and seen[0].name is None


@pytest.mark.parametrize("number", [0, 1])
def test_named_buses_are_apart_from_those_of_other_tests(named_bus, open_bus, number):
    assert named_bus.get("a") is None
    named_bus.publish("a", 1, retain=True)
    assert open_bus(named_bus.name).get("a").value == 1
    with libbus.Bus(named_bus.name, directory=named_bus.directory) as third:
        assert third.get("a").value == 1
    assert open_bus("other").get("a") is None
    assert not [place for place in places if os.path.exists(place)]
    places.append(named_bus.directory)


def test_expects_what_its_callback_raises(bus):
    bus.on("a", lambda msg: 1 / 0)
    bus.publish("a", 1)
    bus.flush()
    failure = bus.failures.pop()
    assert failure.topic == "a" and isinstance(failure.error, ZeroDivisionError)


def test_request_raises_the_error_of_serve(bus):
    bus.serve("a", lambda msg: 1 / 0)
    with pytest.raises(libbus.ReplyError):
        bus.request("a", 1)


def test_fails_by_a_callback(bus):
    @bus.on("a")
    def heard(msg):
        raise ValueError("no such door")

    bus.publish("a", 1)


def test_fails_by_workers(bus):
    @bus.on("a", workers=2)
    def heard(msg):
        raise ValueError("no such worker")

    bus.publish("a", 1)


def test_fails_by_an_async_callback(bus):
    async def main():
        told = asyncio.Event()

        @bus.on("a")
        async def heard(msg):
            told.set()
            raise ValueError("no such task")

        bus.publish("a", 1)
        await told.wait()

    asyncio.run(main())


def test_fails_for_another_reason(bus):
    bus.on("a", lambda msg: [].pop())
    bus.publish("a", 1)
    assert 1 == 2


@pytest.fixture
def door(bus):
    yield bus.on("a", lambda msg: 1 / 0)
    bus.publish("a", "end")


def test_fixture_teardown_raises(door):
    pass
"""


def test_the_fixtures_close_their_buses_and_report_exceptions_of_callbacks(pytester):
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=7, failed=4, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_fixture_teardown_raises*",
            "*ZeroDivisionError: division by zero",
            "*test_fails_by_a_callback*",
            "callback test_fails_by_a_callback.<locals>.heard raised on a:",
            "*ValueError: no such door",
            "(a test that expects this exception removes it from bus.failures)",
            "*ValueError: no such worker",
            "*ValueError: no such task",
            "*assert 1 == 2",
            "*- libbus -*",
            "*IndexError: pop from empty list",
        ]
    )


APPS = """
import flask, pytest
import libbus.flask

@pytest.fixture
def app(request):
    bus = request.getfixturevalue(request.param)
    app = flask.Flask("app")
    pages = libbus.flask.Bus(app)
    heard = []
    bus.on("door/#", heard.append, workers=2)
    bus.on("door/#", heard.append)
    pages.on("a")(heard.append)

    @app.get("/")
    def page():
        pages.publish("a", 1)
        bus.publish("door/front", "open")
        return "fine"

    return app

@pytest.mark.parametrize("app", ["bus", "named_bus"] * 5, indirect=True)
def test_app(app):
    assert app.test_client().get("/").data == b"fine"
"""

PROGRAM = """
import gc, os, pathlib, sys, tempfile, threading, time
import pytest

os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
tempfile.tempdir = DIRECTORY
os.chdir(DIRECTORY)
pathlib.Path("test_none.py").write_text("def test_without(): pass")
pathlib.Path("test_apps.py").write_text(APPS)


def passes(file):
    assert pytest.main(["-q", "-p", "no:cacheprovider", "-p", "_libbus_pytestplugin", file]) == 0


def left():
    deadline = time.monotonic() + LIMIT
    gc.collect()
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    files = [name for name in os.listdir() if name.startswith("libbus")]
    return threading.active_count(), len(os.listdir("/proc/self/fd")), files


passes("test_none.py")
assert not [name for name in sys.modules if name.partition(".")[0] == "libbus"]
passes("test_apps.py")
before = left()
passes("test_apps.py")
print(before == left(), before[0], before[2])
"""


def test_an_app_for_each_test_leaves_nothing_and_the_plugin_loads_libbus_for_these_alone(tmp_path):
    answer = run(PROGRAM, APPS=APPS, DIRECTORY=str(tmp_path), LIMIT=WATCHDOG)
    assert answer.splitlines()[-1] == "True 1 []", answer
