"""What tests of pages share."""

import os
import time
from pathlib import Path

from patience import WATCHDOG


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


def picture(browser, name, width, height):
    """Saves what the browser shows, where ./dev pictures asks for it."""
    if folder := os.environ.get("LIBBUS_PICTURES"):
        browser.set_window_size(width, height)
        browser.save_screenshot(str(Path(folder) / name))
