"""Tests that drive a browser need one that starts. Without one they fail where the archive has a browser. Where it has none
they are skipped, and the closing line of ./dev test counts them."""

import os
from pathlib import Path

import browser as chrome
import pytest
from patience import WATCHDOG

SKIPPED = pytest.StashKey()


def pytest_configure(config):
    config.stash[SKIPPED] = 0


def pytest_collection_modifyitems(config, items):
    driven = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
    if not driven:
        return
    try:
        chrome.find()
    except chrome.NoBrowserError as reason:
        if chrome.archive_has_one():
            return  # the fixture fails, with the reason
        config.stash[SKIPPED] = len(driven)
        for item in driven:
            item.add_marker(pytest.mark.skip(reason=str(reason)))


def pytest_sessionfinish(session):
    if "LIBBUS_SKIPPED" in os.environ and (count := session.config.stash[SKIPPED]):
        Path(os.environ["LIBBUS_SKIPPED"]).write_text(
            f"{count} tests skipped that need a browser: none starts here, and this system's archive has none"
        )


@pytest.fixture(scope="module")
def browser():
    with chrome.chromium() as page:
        page.set_script_timeout(WATCHDOG)
        yield page
