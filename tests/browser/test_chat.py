"""examples/python/chat: two people in two browsers, under gunicorn with two workers."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request

import pytest
from browser import chromium
from page import picture, until
from patience import WATCHDOG
from programs import REPO
from webserver import Server

EXAMPLE = REPO / "examples/python/chat"

pytestmark = pytest.mark.xdist_group("chat")


@pytest.fixture(scope="module")
def browser():
    """Two browsers with separate cookies. conftest.py skips tests by the name of this fixture."""
    with chromium() as one, chromium() as two:
        yield one, two


@pytest.fixture(scope="module")
def server():
    """For all tests: each has a room of its own."""
    name = f"test-chat-{os.getpid()}-{os.urandom(4).hex()}"
    with Server(EXAMPLE, "--workers", "2", CHAT_BUS=name, CHAT_SECRET_KEY="a test") as server:
        yield server


def log_in(page, server, name):
    page.delete_all_cookies()
    page.get(server.url)
    page.find_element("name", "name").send_keys(name)
    page.find_element("name", "password").send_keys(name)
    page.find_element("css selector", "button").click()


STATE = "typeof bus === 'object' && bus.state"


def enter(page, room):
    until(page, STATE, "live")
    page.find_element("link text", room).click()
    until(page, "location.pathname", f"/{room}")
    until(page, STATE, "live")


def say(page, text):
    page.find_element("name", "text").send_keys(text + "\n")
    until(page, "input.value + note.textContent", "")


LINES = "[...list.children].map((each) => each.textContent).join('\\n')"


def sees(page, *lines):
    until(page, LINES, "\n".join(lines))


def rooms(page):
    return [link.text for link in page.find_elements("css selector", "nav a")]


def status(page, script):
    """Of a request that the page sends."""
    return page.execute_async_script(
        f"const done = arguments[0]; ({script}).then((answer) => done(answer.status), (e) => done(String(e)))"
    )


def publish(topic):
    options = {
        "method": "POST",
        "headers": {"Content-Type": "application/json", "X-Libbus": "1"},
        "body": json.dumps({"topic": topic, "value": "a lie"}),
    }
    return f"fetch('/bus/publish', {json.dumps(options)})"


def test_members_talk_in_their_rooms_and_others_neither_read_nor_write(server, browser):
    one, two = browser
    log_in(one, server, "ann")
    enter(one, "kitchen")
    say(one, "Is there any coffee left?")
    log_in(two, server, "bob")
    enter(two, "kitchen")
    sees(two, "ann: Is there any coffee left?")  # from before
    say(two, "<b>Yes</b>, on the stove ☕")
    said = ["ann: Is there any coffee left?", "bob: <b>Yes</b>, on the stove ☕"]
    sees(one, *said)
    sees(two, *said)
    assert rooms(one) == rooms(two) == ["garden", "kitchen"]
    assert status(two, publish("chat/kitchen/ann")) == 403  # under another name
    assert status(two, publish("chat/cellar/bob")) == 403

    log_in(two, server, "eve")
    until(two, STATE, "live")
    assert rooms(two) == ["garden", "cellar"]
    for address in ("chat/kitchen/%2B", "chat/kitchen/ann", "chat/%2B/%2B"):
        assert status(two, f"fetch('/bus/events?last=30&filter={address}')") == 403
    assert status(two, publish("chat/kitchen/eve")) == 403
    two.get(f"{server.url}/kitchen")
    until(two, "location.pathname", "/garden")
    say(one, "And milk?")
    sees(one, *said, "ann: And milk?")  # none of the lies
    picture(one, "chat.png", 620, 380)


def test_a_room_shows_its_last_30_messages_whichever_worker_serves_it(server, browser):
    one, two = browser
    log_in(one, server, "ann")
    until(one, STATE, "live")
    one.execute_script(
        """window.sent = 0;
        (async () => { for (let n = 0; n < 35; n++) { await bus.publish("chat/garden/ann", n); sent++; } })();"""
    )
    until(one, "sent", 35)
    log_in(two, server, "bob")
    sees(two, *(f"ann: {n}" for n in range(5, 35)))


class Program:
    """A client that is no browser, with cookies."""

    def __init__(self, server, name, password):
        self.url = server.url
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()
        )
        self.page = self.ask("/login", urllib.parse.urlencode({"name": name, "password": password}))

    def ask(self, path, body=None, **headers):
        """Status and text."""
        request = urllib.request.Request(self.url + path, body and body.encode(), headers)
        try:
            with self.opener.open(request, timeout=WATCHDOG) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def publish(self, **headers):
        body = json.dumps({"topic": "chat/cellar/eve", "value": "hello"})
        return self.ask("/bus/publish", body, **{"Content-Type": "application/json", **headers})[0]


def test_without_the_password_nothing_is_read_or_written(server):
    guest = Program(server, "eve", "bob")
    assert "The name or the password is wrong: try again." in guest.page[1]
    status, reason = guest.ask("/bus/events?last=30&filter=chat/cellar/%2B")
    assert status == 403 and "may not listen" in reason
    assert guest.publish(**{"X-Libbus": "1"}) == 403


def test_another_site_cannot_write_with_the_cookie_of_a_member(server):
    eve = Program(server, "eve", "eve")
    assert eve.publish() == 403
    assert eve.publish(**{"X-Libbus": "1", "Origin": "https://other.example"}) == 403
    assert eve.publish(**{"X-Libbus": "1", "Origin": server.url}) == 204


def test_the_example_has_less_than_100_lines():
    files = [file for file in EXAMPLE.rglob("*.*") if file.suffix != ".pyc"]
    assert {file.suffix for file in files} == {".py", ".html"}
    assert sum(len(file.read_text().splitlines()) for file in files) < 100
