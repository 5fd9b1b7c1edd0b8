"""The real Taipy, its own pages in two browsers, and sessions that connect as its pages do. ./dev taipy runs this file."""

import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy
import pytest
from browser import chromium
from patience import WATCHDOG

import libbus

pytest.importorskip("taipy.gui")
pytest.importorskip("socketio")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
from session import Session
from taipy.gui import Gui

from libbus.taipy import BusGui

EXAMPLE = ROOT / "examples/python/taipy_sensors/app.py"
MODES = ["gevent", "threading"]  # Taipy's default, and the plain one


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def running(*command, **env):
    with subprocess.Popen([sys.executable, *map(str, command)], env=os.environ | env) as process:
        watchdog = threading.Timer(2 * WATCHDOG, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


class App:
    def __init__(self, port, bus):
        self.port, self.bus = port, bus
        self.sessions = []

    def session(self, begin=True):
        self.sessions.append(Session(self.port, begin))
        return self.sessions[-1]

    def login(self, **users):
        """user=session; until each session knows itself."""
        for user, session in users.items():
            self.bus.publish(f"user/{user}", f"hello {user}", retain=True)
            until(lambda session=session: session.values.get("seen_at_init"), "the session began")
        deadline = time.monotonic() + WATCHDOG
        while any(s.values.get("inbox") != f"hello {user}" for user, s in users.items()):
            assert time.monotonic() < deadline, [s.values for s in users.values()]
            self.bus.publish("login", {session.id: user for user, session in users.items()})
            time.sleep(0.2)


@pytest.fixture(scope="module", params=MODES)
def app(request):
    name, port = f"taipy-{os.getpid()}-{request.param}", free_port()
    with libbus.Bus(name) as bus, running(HERE / "app.py", port, request.param, name):
        bus.publish("many/t00", 5, retain=True)
        yield App(port, bus)


@pytest.fixture
def sessions(app):
    yield app
    while app.sessions:
        app.sessions.pop().close()


def until(condition, what):
    deadline = time.monotonic() + WATCHDOG
    while not (answer := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return answer


def test_a_session_has_the_present_values_in_its_own_on_init(sessions):
    first = sessions.session()
    first.until("t00", 5)
    late = sessions.session()
    late.until("seen_at_init", "t00=5")


def test_a_session_gets_nothing_before_its_on_init_has_run(sessions):
    first, late = sessions.session(), sessions.session(begin=False)
    for n in range(3):  # ticks go through all sessions in one order
        sessions.bus.publish("many/t04", n)
        first.until("t04", n)
    assert late.updates == 0
    late.begin()
    late.until("t04", 2)
    late.until("seen_at_init", "t00=5")
    sessions.bus.publish("many/t04", 3)
    late.until("t04", 3)


def test_every_session_gets_a_change(sessions):
    all_of_them = [sessions.session() for _ in range(3)]
    for session in all_of_them:
        session.until("t00", 5)
    sessions.bus.publish("many/t01", 17)
    for session in all_of_them:
        session.until("t01", 17)


def test_a_session_sees_its_own_topic_and_no_other(sessions):
    ann, bob, eve = sessions.session(), sessions.session(), sessions.session()
    sessions.login(ann=ann, bob=bob)
    sessions.bus.publish("user/ann", "a secret of ann")
    ann.until("inbox", "a secret of ann")
    sessions.bus.publish("user/bob", "a secret of bob")
    bob.until("inbox", "a secret of bob")
    sessions.bus.publish("many/t02", "after that")
    eve.until("t02", "after that")
    assert eve.values["inbox"] == "left"
    sessions.bus.publish("login", {ann.id: ""})
    ann.until("inbox", "left")
    sessions.bus.publish("user/ann", "another secret")
    sessions.bus.publish("many/t02", "and after that")
    ann.until("t02", "and after that")
    assert ann.values["inbox"] == "left"


def test_an_array_reaches_every_session_and_nothing_is_unpickled(sessions):
    both = [sessions.session() for _ in range(2)]
    sessions.bus.publish("grid", numpy.arange(4, dtype="float32").reshape(2, 2))
    for session in both:
        session.until("grid_seen", "ndarray float32 [[0.0, 1.0], [2.0, 3.0]] []")


SENDER = """
import sys, time
import libbus
name, topic = sys.argv[1:]
with libbus.Bus(name) as bus:
    bus.publish(topic, f"sent by {topic}")
    time.sleep(1000)
"""


def test_senders_may_be_killed_and_restart_in_any_order(sessions):
    session, topics = sessions.session(), ["many/t05", "many/t06"]
    for order in (topics, topics[::-1]):
        with contextlib.ExitStack() as senders:
            for topic in order:
                senders.enter_context(running("-c", SENDER, sessions.bus.name, topic))
                session.until(topic[-3:], f"sent by {topic}")
            late = sessions.session()
            for topic in topics:
                late.until(topic[-3:], f"sent by {topic}")
        for topic in topics:
            sessions.bus.publish(topic, "the senders are gone")
            session.until(topic[-3:], "the senders are gone")


def test_a_function_gets_each_message_in_each_session(sessions):
    first, second = sessions.session(), sessions.session()
    for session in (first, second):
        session.until("t00", 5)
    time_is_up = time.monotonic() + WATCHDOG
    while not all("fire" in str(s.values.get("alarms")) for s in (first, second)):
        assert time.monotonic() < time_is_up, (first.values, second.values)
        sessions.bus.publish("alarm", "fire")
        time.sleep(0.2)


def test_a_change_in_a_session_reaches_the_bus_once_and_all_other_sessions(sessions):
    first, second = sessions.session(), sessions.session()
    for session in (first, second):
        session.until("t00", 5)
    with sessions.bus.subscribe("set", "quiet") as heard:
        first.change("setpoint", 7, on_change="moved")
        second.until("setpoint", 7)
        first.change("quiet", 3)
        got = [heard.recv(timeout=WATCHDOG), heard.recv(timeout=WATCHDOG)]
        assert [(msg.topic, msg.value) for msg in got] == [("set", 7), ("quiet", 3)]
        assert not any(
            session.id in repr(msg.headers) for msg in got for session in (first, second)
        )
        sessions.bus.publish("many/t03", "after that")
        second.until("t03", "after that")
        assert [msg.topic for msg in heard.iter(timeout=0)] == []  # no echo
    assert sessions.bus.get("set").value == 7


def test_twenty_sessions_at_two_hundred_messages_a_second_get_ten_updates_a_second_at_most(
    sessions,
):
    everyone = [sessions.session() for _ in range(20)]
    sessions.bus.publish("many/t19", "begin")
    for session in everyone:
        session.until("t00", 5)
        session.until("t19", "begin")  # and all updates before it have arrived
    before = [(session.updates, session.assigned) for session in everyone]
    began = time.monotonic()
    for n in range(600):
        sessions.bus.publish(f"many/t{n % 20:02}", n)
        time.sleep(max(0.0, began + n / 200 - time.monotonic()))
    for session in everyone:
        for n in range(20):
            session.until(f"t{n:02}", 580 + n)  # the newest values
    took = time.monotonic() - began
    for session, (updates, assigned) in zip(everyone, before, strict=True):
        updates, assigned = session.updates - updates, session.assigned - assigned
        print(f"{updates} updates with {assigned} values in {took:.1f} s")
        assert updates <= 10 * took + 1  # they begin at least a tenth of a second apart
        assert assigned >= 2 * updates  # and each has all that is new: about 20
    sessions.bus.publish("many/t00", 5, retain=True)
    everyone[0].until("t00", 5)


@pytest.mark.parametrize(
    ("mode", "end"), [("gevent", "stop"), ("threading", "stop"), ("threading", "close")]
)
def test_updates_end_with_the_gui_and_begin_again_with_it(mode, end):
    done = subprocess.run(
        [sys.executable, HERE / "stopping.py", mode, end],
        capture_output=True, text=True, timeout=2 * WATCHDOG, check=False,
        env=os.environ | {"PYTHONPATH": f"{HERE}:{ROOT / 'tests/support'}"},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.endswith("ended\n"), done.stdout + done.stderr


# --- without a server -----------------------------------------------------------------------------------------


@pytest.fixture
def bus():
    with libbus.Bus() as bus:
        yield bus


def test_the_gui_keeps_a_link_that_the_program_does_not(bus):
    gui = Gui("# Empty")
    link = weakref.ref(BusGui(bus, gui))
    gc.collect()
    assert link() is not None


def test_each_variable_that_is_missing_is_named_when_the_gui_runs(bus, caplog):
    there = None  # noqa: F841 - Taipy binds it
    gui = Gui("<|{there}|text|>")
    link = BusGui(bus, gui)
    link.bind("a", "there")
    link.bind("b", "shown")
    link.publish_on_change("shown", "b")
    link.series("c", "grown")
    link.publish_on_change("sent", "d")
    link.per_client(lambda state: None, "own")
    gui.run(run_server=False)
    lines = [each.getMessage() for each in caplog.records if each.name == "libbus.taipy"]
    names = ["shown", "grown", "own", "sent"]
    assert [line.split(" in the scope")[0] for line in lines] == [
        f"there is no variable {name}" for name in names
    ]


# --- the example, in two browsers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages():
    with chromium() as one, chromium() as two:
        yield one, two


TEXT = "return (document.getElementById('temperature') || {}).innerText"
SLIDER = "const s = document.querySelector('#setpoint input'); return s && Number(s.value)"
LATEST = """
    const plot = document.querySelector('#history .js-plotly-plot');
    return plot && plot.data && plot.data[0] && plot.data[0].x ? String(plot.data[0].x.at(-1)) : ''"""
CHART = """
    const plot = document.querySelector('#history .js-plotly-plot');
    return plot && plot.data && plot.data[0] && plot.data[0].x ? Array.from(plot.data[0].y) : []"""


@pytest.fixture
def example(tmp_path):
    port, bus = free_port(), f"taipy-sensors-{os.getpid()}"
    source = tmp_path / "app.py"
    source.write_text(EXAMPLE.read_text().replace('"taipy-sensors"', repr(bus)))
    (tmp_path / ".taipyignore").write_text("*\n")
    with running(source, port):
        Session(port).close()  # it serves
        yield source, f"http://127.0.0.1:{port}/", bus


def test_text_and_chart_change_in_two_browsers_and_the_sensor_may_restart(pages, example):
    source, url, name = example
    one, two = pages

    def read(page, script):
        return page.execute_script(script)

    with running(source, "sensor"):
        one.get(url)
        until(lambda: read(one, TEXT), "a temperature is shown")
        before = until(lambda: read(one, LATEST), "a chart is shown")
        until(lambda: read(one, LATEST) > before, "the chart goes on")
        two.get(url)  # a session that comes later
        until(lambda: read(two, LATEST) > before, "the later session shows the same")
        slider = one.find_element("css selector", "#setpoint input")
        slider.send_keys("\ue014", "\ue014")  # right, twice
        until(lambda: read(two, SLIDER) == 21, "the other slider follows")
        with libbus.Bus(name) as bus:
            until(lambda: bus.get("room/setpoint").value == 21, "the set point is on the bus")
        until(lambda: max(read(two, CHART)) > 20.5, "the room gets warmer")
        if picture := os.environ.get("LIBBUS_TAIPY_PICTURE"):
            until(lambda: len(read(one, CHART)) > 150, "there is something to see")
            one.set_window_size(1280, 700)
            one.save_screenshot(picture)

    # The sensor was killed: both show the same, and go on when another one is started.
    until(lambda: read(one, CHART)[-3:] == read(two, CHART)[-3:] != [], "both show the same")
    until(lambda: read(one, TEXT) == read(two, TEXT), "both show the same text")
    shown = max(read(one, LATEST), read(two, LATEST))
    with running(source, "sensor"):
        for page in pages:
            until(lambda page=page: read(page, LATEST) > shown, "it goes on")
            assert read(page, SLIDER) == 21


def test_the_example_is_one_file_of_less_than_100_lines():
    assert len(EXAMPLE.read_text().splitlines()) < 100
    assert [each.name for each in EXAMPLE.parent.glob("*.py")] == ["app.py"]
