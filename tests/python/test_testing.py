"""libbus.testing: the recorder, and the fixtures of the pytest plugin as a user's test suite has them."""

import asyncio
import threading

import pytest
from interpreter import run
from patience import WATCHDOG

import libbus
import libbus.testing

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester):
    """Runs a test module of a user, and returns the result."""

    def go(text, *args, process=False):
        pytester.makepyfile(text)
        call = pytester.runpytest_subprocess if process else pytester.runpytest_inprocess
        return call("-p", "no:cacheprovider", *args)

    return go


# --- the recorder ---------------------------------------------------------------------------------------------


def test_a_recorder_has_what_was_published_when_publish_returns(bus):
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


def test_wait_returns_when_so_many_messages_are_there(bus):
    recorder = libbus.testing.record(bus, "a")
    bus.publish("a", 1)
    later = threading.Timer(0.01, lambda: [bus.publish("a", n) for n in (2, 3)])
    later.start()
    assert [msg.value for msg in recorder.wait(3, WATCHDOG)] == [1, 2, 3]
    later.join()


def test_wait_fails_with_what_did_arrive(bus):
    recorder = libbus.testing.record(bus, "home/#")
    with pytest.raises(AssertionError, match=r"^1 message on home/# expected in 0 s, none came$"):
        recorder.wait(timeout=0)
    for n in range(21):
        bus.publish("home/door", "x" * 300 if n == 1 else n)
    with pytest.raises(AssertionError) as caught:
        recorder.wait(30, timeout=0.01)
    lines = str(caught.value).splitlines()
    assert lines[:2] == [
        "30 messages on home/# expected in 0.01 s, 21 came:",
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
            with pytest.raises(AssertionError, match=r"2 messages on a expected in 0.01 s, 1 came"):
                await recorder.wait(2, 0.01)

    asyncio.run(main())


def test_a_recorder_that_has_lost_messages_says_so(bus, monkeypatch):
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


# --- the fixtures ---------------------------------------------------------------------------------------------


def test_each_test_has_a_bus_of_its_own_which_is_closed_after_it(suite):
    suite(
        """
        seen = []

        def test_one(bus):
            bus.publish("a", 1, retain=True)
            seen.append(bus)

        def test_two(bus):
            assert bus.get("a") is None
            assert seen[0].closed and seen[0].name is None
        """
    ).assert_outcomes(passed=2)


def test_named_buses_of_a_test_are_apart_from_those_of_others(suite):
    suite(
        """
        import os
        import libbus

        places = []

        def look(named_bus, open_bus):
            assert named_bus.get("a") is None
            named_bus.publish("a", 1, retain=True)
            assert open_bus(named_bus.name).get("a").value == 1
            with libbus.Bus(named_bus.name, directory=named_bus.directory) as third:
                assert third.get("a").value == 1
            assert open_bus("other").get("a") is None
            places.append(named_bus.directory)

        def test_one(named_bus, open_bus):
            look(named_bus, open_bus)

        def test_two(named_bus, open_bus):
            look(named_bus, open_bus)
            assert not os.path.exists(places[0])
        """
    ).assert_outcomes(passed=2)


def test_a_callback_that_raises_fails_its_test_and_no_other(suite):
    result = suite(
        """
        import asyncio

        def test_passes(bus):
            bus.on("a", print)
            bus.publish("a", 1)

        def test_callback(bus):
            @bus.on("a")
            def heard(msg):
                raise ValueError("no such door")
            bus.publish("a", 1)

        def test_workers(bus):
            @bus.on("a", workers=2)
            def heard(msg):
                raise ValueError("no such worker")
            bus.publish("a", 1)

        def test_async(bus):
            async def main():
                told = asyncio.Event()
                @bus.on("a")
                async def heard(msg):
                    told.set()
                    raise ValueError("no such task")
                bus.publish("a", 1)
                await told.wait()
            asyncio.run(main())

        def test_that_fails_for_a_reason_of_its_own(bus):
            @bus.on("a")
            def heard(msg):
                raise ValueError("beside")
            bus.publish("a", 1)
            assert 1 == 2
        """
    )
    result.assert_outcomes(passed=1, failed=4)
    result.stdout.fnmatch_lines(
        [
            "*test_callback*",
            "callback test_callback.<locals>.heard raised on a:",
            "*ValueError: no such door",
            "(a test that expects this takes it out of bus.failures)",
            "*ValueError: no such worker",
            "*ValueError: no such task",
            "*assert 1 == 2",
            "*- libbus -*",
            "*ValueError: beside",
        ]
    )


def test_a_test_may_expect_what_a_callback_raises(suite):
    suite(
        """
        import pytest
        import libbus

        def test_expects(bus):
            bus.on("a", lambda msg: 1 / 0)
            bus.publish("a", 1)
            bus.flush()
            failure = bus.failures.pop()
            assert failure.topic == "a" and isinstance(failure.error, ZeroDivisionError)

        def test_the_caller_of_request_is_told(bus):
            bus.serve("a", lambda msg: 1 / 0)
            with pytest.raises(libbus.ReplyError):
                bus.request("a", 1)
        """
    ).assert_outcomes(passed=2)


def test_what_a_callback_raises_while_fixtures_end_is_an_error(suite):
    result = suite(
        """
        import pytest

        @pytest.fixture
        def door(bus):
            yield bus.on("a", lambda msg: 1 / 0)
            bus.publish("a", "end")

        def test_it(door):
            pass
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError: division by zero"])


def test_the_plugin_loads_libbus_only_for_tests_that_use_it(suite):
    suite(
        """
        import sys

        def test_without():
            assert not [name for name in sys.modules if name.partition(".")[0] == "libbus"]
        """,
        process=True,
    ).assert_outcomes(passed=1)


def test_an_app_for_each_test_leaves_no_thread_no_descriptor_and_no_file(tmp_path):
    answer = run(
        f"""
import gc, os, tempfile, threading, time
import flask, libbus.flask
import pytest

APP = '''
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

@pytest.mark.parametrize("app", ["bus", "named_bus"] * 8, indirect=True)
def test_app(app):
    assert app.test_client().get("/").data == b"fine"
'''

tempfile.tempdir = {str(tmp_path)!r}
os.chdir(tempfile.tempdir)
with open("test_apps.py", "w") as file:
    file.write(APP)


def counts():
    deadline = time.monotonic() + LIMIT
    gc.collect()
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    files = [name for name in os.listdir() if name.startswith("libbus")]
    return threading.active_count(), len(os.listdir("/proc/self/fd")), files


found = []
for _ in range(2):
    assert pytest.main(["-q", "-p", "no:cacheprovider", "-W", "ignore"]) == 0
    found.append(counts())
print(found[0] == found[1], found[1][0], found[1][2])
""",
        LIMIT=WATCHDOG,
    )
    assert answer.splitlines()[-1] == "True 1 []", answer
