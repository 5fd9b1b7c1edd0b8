"""libbus.js in real tabs, against a server that does what a test says (bindings/js/test/support/server.js)."""

import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from page import BEGIN, SHORT, heard, in_each, until
from patience import WATCHDOG
from programs import REPO

import libbus

pytestmark = pytest.mark.xdist_group("shared")

STATIC = Path(libbus.__file__).parent / "static"


class Script:
    """The server, and what a test tells it."""

    def __init__(self):
        node = shutil.which("node")
        assert node, "apt-get install nodejs"
        program = REPO / "bindings" / "js" / "test" / "support" / "server.js"
        self.process = subprocess.Popen(
            [node, program, STATIC], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().strip()

    def __getattr__(self, name):
        def call(*arguments):
            request = urllib.request.Request(
                self.url + "/control", json.dumps({"call": [name, *arguments]}).encode()
            )
            with urllib.request.urlopen(request, timeout=WATCHDOG) as answer:
                return json.load(answer)

        return call

    def wait(self, condition):
        """Waits until the condition holds for the server's state; returns it."""
        deadline = time.monotonic() + WATCHDOG
        while not condition(state := self.state()):
            assert time.monotonic() < deadline, state
            time.sleep(0.02)
        return state

    def close(self):
        self.process.communicate(timeout=WATCHDOG)


@pytest.fixture
def script():
    server = Script()
    yield server
    server.close()


@pytest.fixture
def tabs(browser, script):
    """Opens tabs; the last one opened is shown, the others are hidden."""
    first = browser.current_window_handle

    def tab(options=SHORT, path="/"):
        browser.switch_to.new_window("tab")
        browser.get(script.url + path)
        browser.execute_script(BEGIN, options)
        return browser.current_window_handle

    yield tab
    for handle in browser.window_handles:
        if handle != first:
            browser.switch_to.window(handle)
            browser.close()
    browser.switch_to.window(first)


def one_connection(script, *filters):
    """Waits until the one connection has all of these filters."""
    script.wait(
        lambda state: state["open"] == 1 and all(name in state["queries"][-1] for name in filters)
    )


def test_eight_tabs_with_five_topics_each_hold_one_connection(browser, script, tabs):
    handles = []
    for tab in range(8):
        handles.append(tabs())
        for topic in range(5):
            browser.execute_script("hear(...arguments)", f"tab{tab}-{topic}")
    one_connection(script, *(f"tab{tab}-{topic}" for tab in range(8) for topic in range(5)))
    for tab in range(8):
        for topic in range(5):
            script.burst(f"tab{tab}-{topic}", 0, 20)
    for tab, _ in enumerate(in_each(browser, handles)):
        for topic in range(5):
            assert heard(browser, f"tab{tab}-{topic}", 20) == list(range(20))
        assert browser.execute_script("return [bus.state, bus.shared]") == ["live", True]
    assert script.state()["open"] == 1


def test_tabs_wait_while_the_server_has_no_place_and_then_miss_nothing(browser, script, tabs):
    handles = [tabs(), tabs()]
    for _ in in_each(browser, handles):
        browser.execute_script("hear('n')")
        until(browser, "bus.state", "live")
    one_connection(script)
    script.burst("n", 0, 10)
    for _ in in_each(browser, handles):
        heard(browser, "n", 10)
    script.set("refusal", {"status": 503, "code": "BUSY", "message": "no place"})
    script.cut()
    script.burst("n", 10, 10)
    script.wait(lambda state: state["asked"] > 4)
    for _ in in_each(browser, handles):
        until(browser, "[bus.state, bus.reason]", ["reconnecting", "no place"])
    script.set("refusal", None)
    for _ in in_each(browser, handles):
        until(browser, "[bus.state, bus.reason]", ["live", ""])
        assert heard(browser, "n", 20) == list(range(20))


def test_a_server_that_restarts_is_resumed_in_another_life_it_is_a_reset(browser, script, tabs):
    script.publish("n", "kept", {"retain": True})
    tabs()
    browser.execute_script("hear('n')")
    until(browser, "kept.n", ["kept"])
    one_connection(script)
    script.burst("n", 0, 10)
    script.end(200)
    script.burst("n", 10, 10)
    assert heard(browser, "n", 20) == list(range(20))
    assert browser.execute_script("return states") == [
        ["live", ""],
        ["reconnecting", ""],
        ["live", ""],
    ]
    script.reborn()
    until(browser, "resets.length", 1)
    script.publish("n", 20)
    assert heard(browser, "n", 21) == list(range(21))
    assert len(browser.execute_script("return kept.n")) > 1


def test_listeners_added_late_cost_the_others_none_of_ninety(browser, script, tabs):
    first = tabs()
    browser.execute_script("hear('n')")
    until(browser, "bus.state", "live")
    second = tabs()
    script.stream("n", 0, 90, 20)
    for number in range(6):
        browser.execute_script("hear(...arguments)", f"other/{number}")
        script.wait(lambda state, n=number: f"other%2F{n}" in state["queries"][-1])
    browser.switch_to.window(first)
    browser.execute_script("hear('n', {}, 'late')")
    heard(browser, "n", 90)
    one_connection(script, *(f"other%2F{number}" for number in range(6)))
    until(browser, "bus.state", "live")
    script.publish("n", 90)  # the last one for both
    for name in ("n", "late"):
        until(browser, f"heard[{name!r}].at(-1)", 90)
    assert heard(browser, "n", 91) == list(range(91))
    late = heard(browser, "late", 1)
    assert late == list(range(late[0], 91))
    browser.switch_to.window(second)
    assert browser.execute_script("return [bus.state, states]") == ["live", [["live", ""]]]


def test_a_tab_that_is_busy_loses_what_it_is_told_and_the_others_nothing(browser, script, tabs):
    busy = tabs()
    browser.execute_script("hear('n')")
    until(browser, "bus.state", "live")
    awake = tabs()
    browser.execute_script("hear('n')")
    until(browser, "bus.state", "live")
    one_connection(script, "n")
    script.publish("n", 0)
    for _ in in_each(browser, [busy, awake]):
        heard(browser, "n", 1)
    browser.switch_to.window(busy)
    browser.execute_script("""
        window.waiting = [];
        window.listen = bus.port.onmessage;
        bus.port.onmessage = (event) => waiting.push(event)""")
    browser.switch_to.window(awake)
    for first in range(1, 4001, 500):
        script.burst("n", first, 500)
        assert heard(browser, "n", first + 500) == list(range(first + 500))
    browser.switch_to.window(busy)
    browser.execute_script("bus.port.onmessage = listen; waiting.forEach(listen)")
    until(browser, "heard.n.at(-1)", 4000)
    values, lost = browser.execute_script("return [heard.n, lost]")
    assert len(values) + sum(lost) == 4001
    assert sum(lost) > 2000
    assert values == sorted(set(values))


def test_a_frozen_tab_gets_what_was_published_meanwhile(browser, script, tabs):
    frozen = tabs()
    browser.execute_script("hear('n')")
    until(browser, "bus.state", "live")
    one_connection(script)
    tabs()
    browser.execute_script("hear('n')")
    until(browser, "bus.state", "live")
    one_connection(script, "n")
    browser.switch_to.window(frozen)
    browser.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "frozen"})
    script.burst("n", 0, 100)
    browser.switch_to.window(browser.window_handles[-1])
    assert heard(browser, "n", 100) == list(range(100))
    browser.switch_to.window(frozen)
    browser.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "active"})
    assert heard(browser, "n", 100) == list(range(100))


def test_the_module_shares_the_connection_of_the_script(browser, script, tabs):
    tabs()
    browser.execute_script("hear('n')")
    until(browser, "bus.state", "live")
    script.set("pages", {"/module": """<!doctype html><title>module</title><script type=module>
        import libbus, { libbus as named } from "/bus/static/libbus.mjs";
        window.module = libbus === named && libbus;
        </script>"""})  # fmt: skip
    browser.switch_to.new_window("tab")
    browser.get(script.url + "/module")
    until(browser, "typeof module", "function")
    browser.execute_script(BEGIN.replace('libbus("/bus", ', "module(undefined, "), SHORT)
    browser.execute_script("hear('m')")
    until(browser, "bus.state", "live")
    one_connection(script, "n", "m")
    script.publish("m", 1)
    assert heard(browser, "m", 1) == [1]


def test_a_page_that_comes_back_by_the_back_button_is_live_again(browser, script, tabs):
    script.set("pages", {
        "/": "<!doctype html><title>page</title><script src=/bus/static/libbus.js></script>",
        "/away": "<!doctype html><title>away</title>",
    })  # fmt: skip
    tabs()
    browser.execute_script("hear('n')")
    until(browser, "bus.state", "live")
    browser.get(script.url + "/away")
    script.wait(lambda state: state["open"] == 0)
    browser.back()
    until(browser, "document.title", "page")
    if not browser.execute_script("return 'bus' in window"):  # the browser did not keep it
        browser.execute_script(BEGIN, SHORT)
        browser.execute_script("hear('n')")
    until(browser, "bus.state", "live")
    one_connection(script)
    script.publish("n", 1)
    assert heard(browser, "n", 1) == [1]


def test_a_worker_that_does_not_load_leaves_each_tab_its_own_connection(browser, script, tabs):
    browser.switch_to.new_window("tab")
    browser.get(script.url)
    browser.get_log("browser")
    script.set("missing", ["libbus.js"])
    browser.execute_script(BEGIN, SHORT)
    browser.execute_script("hear('n')")
    until(browser, "bus.state", "live")
    assert browser.execute_script("return bus.shared") is False
    (line,) = [
        line["message"] for line in browser.get_log("browser") if "libbus: " in line["message"]
    ]
    assert "libbus.js does not start: this tab uses a separate connection" in line


def test_history_comes_before_what_is_new_and_to_whom_it_is_for(browser, script, tabs):
    script.burst("n", 0, 100)
    script.publish("state", "on", {"retain": True})
    tabs()
    browser.execute_script("hear('n'); hear('n', {last: 30}, 'last'); hear('state')")
    until(browser, "kept.state", ["on"])
    heard(browser, "last", 30)
    script.publish("n", 100)
    assert heard(browser, "last", 31) == list(range(70, 101))
    assert heard(browser, "n", 1) == [100]
