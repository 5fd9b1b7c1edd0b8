"""Pages that were written for something else run as they are: those of docs/migrate/live-pages.md, and one that reads ids."""

import itertools
import os
import time
import urllib.parse
import urllib.request

import migrate_lines
import pytest
from browser import chromium
from page import until
from patience import WATCHDOG
from webserver import Server

import libbus

pytestmark = pytest.mark.xdist_group("migrated_pages")

FLASK_SSE = migrate_lines.apps()["Flask-SSE"]
QUEUES = migrate_lines.apps()["A queue per client"]

WITH_IDS = """
from flask import Flask
from libbus.flask import Bus

app = Flask(__name__)
bus = Bus(app, name="announcer")


@app.get("/")
def page():
    return app.send_static_file("page.html")


@app.get("/listen")
def listen():
    return bus.sse("announcements", raw=True)
"""

PAGE_WITH_IDS = """<!doctype html>
<ul id="heard"></ul>
<script>
  const source = new EventSource("/listen");
  let newest = 0;
  source.onmessage = (event) => {
    if (Number(event.lastEventId) <= newest) return;
    newest = Number(event.lastEventId);
    const line = document.createElement("li");
    line.textContent = `${newest} ${event.data}`;
    document.getElementById("heard").append(line);
  };
</script>
"""

HEARD = "[...document.querySelectorAll('#heard li')].map((line) => line.textContent)"
LAST = f"{HEARD}.at(-1)"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def bus():
    """Stays on the bus while a server restarts."""
    with libbus.Bus(f"test-migrated-{os.getpid()}-{os.urandom(4).hex()}") as bus:
        yield bus


@pytest.fixture
def served(tmp_path, bus):
    servers = []

    def serve(app, page, *options):
        (tmp_path / "app.py").write_text(app.replace('"announcer"', repr(bus.name)))
        (tmp_path / "static").mkdir()
        (tmp_path / "static/page.html").write_text(page)
        servers.append(Server(tmp_path, *options, SSE_BUS=bus.name))
        servers[0].start()
        return servers[0]

    yield serve
    for server in servers:
        server.__exit__()


def post(server, path, **form):
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(server.url + path, data, timeout=WATCHDOG) as answer:
        assert answer.status == 204


def open_page(browser, server, publish):
    """Publishes 0, 1, 2 ... until the page shows one of them, which is returned with the one to publish next."""
    browser.get(server.url)
    deadline = time.monotonic() + WATCHDOG
    for number in itertools.count():
        publish(str(number))
        if heard := browser.execute_script(f"return {HEARD}"):
            return int(heard[0]), number + 1
        assert time.monotonic() < deadline, "the page shows nothing"


def check_nothing_is_missed(browser, server, publish, publish_from_elsewhere):
    first, following = open_page(browser, server, publish)
    server.kill()
    for number in range(following, following + 20):
        publish_from_elsewhere(str(number))
    server.start()
    until(browser, LAST, str(following + 19))
    publish("the end")
    until(browser, LAST, "the end")
    wanted = [str(number) for number in range(first, following + 20)]
    assert browser.execute_script(f"return {HEARD}") == [*wanted, "the end"]


def test_flask_sse_s_page_with_types_shows_all_over_a_restart(browser, served, bus):
    _, app, page = FLASK_SSE

    def publish(text):
        bus.publish("sse/sse", {"message": text}, headers={"event": "greeting"})

    server = served(app, page, "--workers", "2")
    check_nothing_is_missed(browser, server, publish, publish)
    post(server, "/hello")
    until(browser, LAST, "Hello!")


def test_the_announcer_s_page_with_plain_text_shows_all_over_a_restart(browser, served, bus):
    _, app, page = QUEUES
    server = served(app, page, "--workers", "2")
    check_nothing_is_missed(
        browser,
        server,
        lambda text: post(server, "/announce", text=text),
        lambda text: bus.publish("announcements", text),
    )
    post(server, "/announce", text="of two\nlines")
    until(browser, LAST, "of two\nlines")


def test_the_announcer_s_page_is_that_of_the_app_before(browser, served):
    app, _, page = QUEUES
    server = served(app, page, "--threads", "4")
    _, following = open_page(browser, server, lambda text: post(server, "/announce", text=text))
    until(browser, LAST, str(following - 1))


def test_a_page_that_reads_ids_gets_those_of_the_publisher(browser, served, bus):
    ids = itertools.count(1)

    def publish(text):
        bus.publish("announcements", text, headers={"id": str(next(ids))})

    server = served(WITH_IDS, PAGE_WITH_IDS, "--workers", "2")
    browser.get(server.url)
    deadline = time.monotonic() + WATCHDOG
    while not browser.execute_script(f"return {HEARD}.length"):
        assert time.monotonic() < deadline
        publish("x")
    number = next(ids)
    bus.publish("announcements", "seen", headers={"id": str(number)})
    bus.publish("announcements", "seen twice", headers={"id": str(number)})
    bus.publish("announcements", "the end", headers={"id": str(number + 1)})
    until(browser, LAST, f"{number + 1} the end")
    heard = browser.execute_script(f"return {HEARD}")
    assert heard[-2:] == [f"{number} seen", f"{number + 1} the end"]
