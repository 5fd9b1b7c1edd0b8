"""Real pages in a real browser, fed by real programs."""

import os
import signal
import time
from textwrap import dedent

import pytest
from demo import DASHBOARD, chromium
from programs import HELLO, HOST_SENSORS, ipc_address, started  # noqa: F401 (a fixture)
from webserver import WATCHDOG, Server

GUNICORN = ("--worker-class", "gthread", "--threads", "8")

APP = """
    from flask import Flask, render_template_string
    from libbus.flask import Bus

    app = Flask(__name__)
    bus = Bus(app, allow=["room/#", "many/#"], dial=DIAL, heartbeat=HEARTBEAT, max_pages=LIMIT)

    @app.get("/")
    def page():
        return render_template_string("<!doctype html><title>page</title>{{ bus.script() }}")

    @app.get("/publish/<path:topic>")
    def publish(topic):
        bus.publish(topic, topic)
        return {}
"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        browser.set_script_timeout(WATCHDOG)
        yield browser


@pytest.fixture
def served(tmp_path):
    servers = []

    def serve(dial=(), heartbeat=5, limit=None):
        source = (
            dedent(APP)
            .replace("DIAL", repr(dial))
            .replace("HEARTBEAT", repr(heartbeat))
            .replace("LIMIT", repr(limit))
        )
        (tmp_path / "app.py").write_text(source)
        servers.append(Server(tmp_path, *GUNICORN))
        servers[0].start()
        return servers[0]

    yield serve
    for server in servers:
        server.__exit__()


def until(browser, script, wanted):
    """Waits until the page's script returns what is wanted; returns all it returned on the way."""
    seen = []
    deadline = time.monotonic() + WATCHDOG
    while wanted not in seen:
        assert time.monotonic() < deadline, f"waited for {wanted!r}, saw {seen}"
        found = browser.execute_script(f"return {script}")
        if found not in seen[-1:]:
            seen.append(found)
        time.sleep(0.02)
    return seen


STATE = "document.getElementById('badge').dataset.state"

BEGIN = """
    window.heard = [];
    window.states = [];
    window.bus = libbus();
    bus.onstate = (state, reason) => states.push([state, reason]);
    window.hear = (filter) => bus.on(filter, (value, msg) => heard.push([filter, value, msg.kept]));
"""


def test_the_21_5_that_hello_publishes_untagged_is_a_number_on_a_page(browser, served, ipc):
    with started(HELLO, ipc):
        server = served(dial=ipc)
        browser.get(server.url)
        browser.execute_script(BEGIN + "hear('room/+/temperature')")
        until(browser, "heard.length > 0 && heard[0][1]", 21.5)
        assert browser.execute_script("return typeof heard[0][1]") == "number"


def test_all_filters_of_a_page_share_one_connection_and_each_listener_gets_its_own(browser, served):
    server = served(limit=1)
    browser.get(server.url)
    browser.execute_script(
        BEGIN + "for (let i = 0; i < 20; i++) hear('many/' + i); hear('many/+'); hear('room/#')"
    )
    until(browser, "bus.state", "live")
    with server.page("/publish/many/7"):
        until(browser, "heard.length", 2)
    assert browser.execute_script("return heard") == [
        ["many/7", "many/7", False],
        ["many/+", "many/7", False],
    ]
    assert browser.execute_script("return states") == [["live", ""]]


def test_a_filter_that_is_not_allowed_closes_with_the_reason(browser, served):
    server = served()
    browser.get(server.url)
    browser.execute_script(BEGIN + "hear('secret/#')")
    until(browser, "bus.state", "closed")
    reason = browser.execute_script("return states.at(-1)[1]")
    assert "'secret/#'" in reason
    assert "init_app(allow=[...])" in reason


def test_a_page_without_a_place_waits_for_one(browser, served):
    server = served(limit=1, heartbeat=0.5)
    browser.get(server.url)
    with server.page("/bus/events?filter=room/%23"):
        browser.execute_script(BEGIN + "hear('room/#')")
        until(browser, "bus.state", "reconnecting")
    until(browser, "bus.state", "live")


def test_a_server_that_falls_silent_is_noticed(browser, served):
    server = served(heartbeat=0.5)
    browser.get(server.url)
    browser.execute_script(BEGIN + "hear('room/#')")
    until(browser, "bus.state", "live")
    os.killpg(server.process.pid, signal.SIGSTOP)  # the connection stays, and says nothing
    until(browser, "bus.state", "reconnecting")
    os.killpg(server.process.pid, signal.SIGCONT)
    until(browser, "bus.state", "live")


class Sensors:
    """host_sensors, until it is killed."""

    def __init__(self, bus):
        self.bus = bus

    def __enter__(self):
        self.program = started(HOST_SENSORS, "--bus", self.bus)
        self.process = self.program.__enter__()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.program.__exit__(None, None, None)


@pytest.fixture
def name():
    return f"test-page-{os.getpid()}"


def dashboard(bus):
    return Server(
        DASHBOARD,
        *GUNICORN,
        app="app:create_app()",
        DASHBOARD_BUS=bus,
        DASHBOARD_SECRET_KEY="the same",
    )


def test_the_dashboard_goes_stale_without_sensors_and_live_again_by_itself(browser, name):
    with dashboard(name) as server:
        with Sensors(name):
            browser.get(server.url)
            until(browser, "document.querySelectorAll('.tile').length > 2", True)
            assert until(browser, STATE, "live")[-1] == "live"
        until(browser, STATE, "stale")
        with Sensors(name):
            assert until(browser, STATE, "live")[-1] == "live"


def test_the_dashboard_reconnects_to_a_restarted_server_by_itself(browser, name):
    with Sensors(name), dashboard(name) as server:
        browser.get(server.url)
        until(browser, STATE, "live")
        browser.execute_script("window.unreloaded = true")
        server.kill()
        until(browser, STATE, "reconnecting")
        browser.execute_script("window.restarted = performance.now()")
        server.start()
        until(browser, STATE, "live")
        until(browser, "unreloaded && last > restarted", True)
