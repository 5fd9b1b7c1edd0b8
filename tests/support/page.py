"""What tests of pages share."""

import os
import time
from pathlib import Path

from patience import WATCHDOG
from selenium.common.exceptions import JavascriptException


def until(browser, script, wanted):
    """Waits until the page's script returns what is wanted; returns all it returned on the way."""
    seen = []
    deadline = time.monotonic() + WATCHDOG
    while wanted not in seen:
        assert time.monotonic() < deadline, f"waited for {wanted!r}, saw {seen}"
        try:
            found = browser.execute_script(f"return {script}")
        except JavascriptException as error:
            found = error.msg  # the page may not have come yet
        if found not in seen[-1:]:
            seen.append(found)
        time.sleep(0.02)
    return seen


def picture(browser, name, width, height):
    """Saves what the browser shows, where ./dev pictures asks for it."""
    if folder := os.environ.get("LIBBUS_PICTURES"):
        browser.set_window_size(width, height)
        browser.save_screenshot(str(Path(folder) / name))


# A worker that starts slowly on a busy machine is waited for.
SHORT = {"retryMs": 50, "maxRetryMs": 500, "answerMs": 60_000}

# Its argument: options of the bus. hear(filter, past, name) begins lists of what a listener gets.
BEGIN = """
    window.states = [];
    window.heard = {};
    window.kept = {};
    window.lost = [];
    window.resets = [];
    window.bus = libbus("/bus", arguments[0]);
    bus.onstate = (state, reason) => states.push([state, reason]);
    bus.onlost = (n) => lost.push(n);
    bus.onreset = (reason) => resets.push(reason);
    window.hear = (filter, past, name = filter) => {
        heard[name] = [];
        kept[name] = [];
        return bus.on(filter, (value, msg) => (msg.kept ? kept : heard)[name].push(value), past);
    };
"""


def in_each(browser, handles):
    for handle in handles:
        browser.switch_to.window(handle)
        yield handle


def heard(browser, topic, count):
    until(browser, f"heard[{topic!r}].length >= {count}", True)
    return browser.execute_script("return heard[arguments[0]]", topic)
