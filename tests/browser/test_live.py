"""Pages of a real server in a real browser, from the first message to the last: what they get, counted exactly."""

import json
import os
import signal
import threading
import time
from textwrap import dedent

import pytest
from browser import chromium
from page import BEGIN, SHORT, in_each, until
from patience import WATCHDOG
from sse import AWKWARD, one_end_of_lines
from webserver import Server

import libbus

pytestmark = pytest.mark.xdist_group("live")

TABS, TOPICS = 8, 5

APP = """
    import os
    import pathlib

    import flask
    from libbus.flask import Bus

    app = flask.Flask(__name__)
    bus = Bus(app, name="live", directory={directory!r}, allow=["t/#"], heartbeat=0.5)
    closed = pathlib.Path({directory!r}) / "closed"

    @app.before_request
    def refuse():
        if closed.exists() and flask.request.path == "/bus/events":
            return {{"error": {{"code": "BUSY", "message": "no place"}}}}, 503

    @app.get("/")
    def page():
        return flask.render_template_string("<!doctype html><title>live</title>{{{{ bus.script() }}}}")

    @app.get("/pages")
    def pages():
        return {{"pid": os.getpid(), **bus.pages()}}
"""


class Site:
    """Two workers on a named bus, and the one program that publishes: numbers from 0 on, on t/0 to t/4 in turn."""

    def __init__(self, folder, server, bus):
        self.folder, self.server, self.bus = folder, server, bus
        self.count = 0

    def publish(self, count, pause=0.0):
        for _ in range(count):
            self.bus.publish(f"t/{self.count % TOPICS}", self.count)
            self.count += 1
            time.sleep(pause)

    def workers(self):
        """The counters of both workers, by pid."""
        found = {}
        deadline = time.monotonic() + WATCHDOG
        while len(found) < 2:
            assert time.monotonic() < deadline, found
            with self.server.page("/pages") as answer:
                stats = json.load(answer)
            found[stats["pid"]] = stats
        return found

    def holder(self):
        """Waits until there is one connection; the worker that has it."""
        deadline = time.monotonic() + WATCHDOG
        while True:
            workers = self.workers()
            if sum(each["pages"] for each in workers.values()) == 1:
                return next(pid for pid, each in workers.items() if each["pages"])
            assert time.monotonic() < deadline, workers
            time.sleep(0.05)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "app.py").write_text(dedent(APP).format(directory=str(tmp_path)))
    options = ("--workers", "2", "--worker-class", "gthread", "--threads", "4")
    with libbus.Bus("live", directory=tmp_path) as bus, Server(tmp_path, *options) as server:
        yield Site(tmp_path, server, bus)


@pytest.fixture
def browser():
    with chromium() as browser:
        browser.set_script_timeout(WATCHDOG)
        yield browser


def expect_all(browser, site):
    """The tab that is shown has each of its topics' numbers once and in order, and no loss or reset."""
    wanted = [list(range(topic, site.count, TOPICS)) for topic in range(TOPICS)]
    lists = "[0, 1, 2, 3, 4].map((topic) => heard[`t/${topic}`])"
    until(
        browser,
        f"{lists}.reduce((sum, {{ length }}) => sum + length, 0) >= {site.count}",
        True,
    )
    assert browser.execute_script(f"return {lists}") == wanted
    assert browser.execute_script("return [lost, resets]") == [[], []]


def test_eight_tabs_get_every_message_once_whatever_happens_to_them_and_to_the_server(
    browser, site
):
    tabs = []
    for _ in range(TABS):
        browser.switch_to.new_window("tab")
        browser.get(site.server.url)
        browser.execute_script(
            BEGIN + f"for (let i = 0; i < {TOPICS}; i++) hear(`t/${{i}}`)", SHORT
        )
        until(browser, "bus.state", "live")
        tabs.append(browser.current_window_handle)

    # One connection, for tabs that are hidden, too.
    site.holder()
    until(browser, "bus.shared", True)
    site.publish(100)
    for _ in in_each(browser, tabs):
        expect_all(browser, site)

    # A tab that is frozen, and one that is busy.
    frozen, busy = tabs[:2]
    browser.switch_to.window(frozen)
    browser.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "frozen"})
    browser.switch_to.window(busy)
    browser.execute_script(
        "setTimeout(() => { const end = Date.now() + 1000; while (Date.now() < end); window.idle = true; })"
    )
    site.publish(300)
    for _ in in_each(browser, tabs[2:]):
        expect_all(browser, site)
    browser.switch_to.window(frozen)
    browser.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "active"})
    for _ in in_each(browser, (frozen, busy)):
        expect_all(browser, site)

    # Listeners that are added late have their last messages; among traffic, too.
    browser.switch_to.window(tabs[2])
    browser.execute_script("hear('t/#', {last: 30}, 'late'); hear('t/2', {last: 10}, 'third')")
    until(browser, "[heard.late.length, heard.third.length]", [30, 10])
    stop = threading.Event()

    def publish():
        while not stop.wait(0.002):
            site.publish(1)

    traffic = threading.Thread(target=publish)
    traffic.start()
    for name, last in (("one", 20), ("two", 40)):
        browser.execute_script(f"hear('t/#', {{last: {last}}}, {name!r})")
        until(browser, f"heard.{name}.length > 50", True)
    stop.set()
    traffic.join()
    for _ in in_each(browser, tabs):
        expect_all(browser, site)
    browser.switch_to.window(tabs[2])
    late, third, one, two = browser.execute_script(
        "return [heard.late, heard.third, heard.one, heard.two]"
    )
    assert late == list(range(400 - 30, site.count))
    assert third == list(range(400 - 48, site.count, TOPICS))
    assert one == list(range(one[0], site.count))
    assert two == list(range(two[0], site.count))

    # Its worker is killed, and there is no place for a while.
    (site.folder / "closed").touch()
    os.kill(site.holder(), signal.SIGKILL)
    site.publish(100)
    until(browser, "[bus.reason, bus.retries > 3]", ["no place", True])
    site.publish(100)
    (site.folder / "closed").unlink()
    for _ in in_each(browser, tabs):
        until(browser, "[bus.state, bus.reason]", ["live", ""])
        expect_all(browser, site)

    # All workers are replaced.
    before = set(site.workers())
    site.server.process.send_signal(signal.SIGHUP)
    site.publish(200, 0.005)
    for _ in in_each(browser, tabs):
        expect_all(browser, site)
    deadline = time.monotonic() + WATCHDOG
    while site.holder() in before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    site.publish(10)
    for _ in in_each(browser, tabs):
        expect_all(browser, site)


def test_a_browser_reads_texts_full_of_ends_of_lines_marks_and_nul_as_they_were(browser, site):
    browser.get(site.server.url)
    browser.execute_script(BEGIN + """
        hear("t/x");
        window.raw = [];
        window.source = new EventSource("/bus/events?filter=t/x&raw");
        source.onmessage = ({ data }) => raw.push(data);
        window.begun = false;
        source.addEventListener("hb", () => { begun = true; });
    """, SHORT)  # fmt: skip
    until(browser, "[bus.state, begun]", ["live", True])
    for text in AWKWARD:
        site.bus.publish("t/x", text)
    until(browser, f"Math.min(heard['t/x'].length, raw.length) >= {len(AWKWARD)}", True)
    assert browser.execute_script("return heard['t/x']") == AWKWARD
    assert browser.execute_script("return raw") == list(map(one_end_of_lines, AWKWARD))
