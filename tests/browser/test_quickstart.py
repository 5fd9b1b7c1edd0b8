"""The live pages of README and of the tutorial, as they stand there, in a browser."""

import os
import shlex
import subprocess
import sys

import pytest
from page import until
from patience import WATCHDOG
from programs import LIBBUS, REPO, started
from readme import Readme
from webserver import Server

pytestmark = pytest.mark.xdist_group("quickstart")

HINT = "document.getElementById('hint')?.textContent"
ROWS = "[...document.querySelectorAll('tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"


@pytest.fixture
def readme():
    return Readme((REPO / "README.md").read_text(encoding="utf-8"))


def test_the_quickstart_is_five_lines_and_every_page_shows_what_the_shell_publishes(
    browser, readme, tmp_path
):
    name = f"test-quickstart-{os.getpid()}-{os.urandom(4).hex()}"
    app = readme.take("A live page", "python").text
    assert len([line for line in app.splitlines() if line]) == 5
    (tmp_path / "app.py").write_text(app.replace('"home"', repr(name)))
    run, publish = (shlex.split(readme.take("A live page").text) for _ in range(2))
    assert run == ["gunicorn", "--workers", "2", "app:app"]
    program, pub, home, *rest = publish
    assert (program, pub, home) == ("venv/bin/libbus", "pub", "home")

    with Server(tmp_path, *run[1:-1]) as server:
        browser.get(server.url)
        until(browser, "document.getElementById('state').textContent", "live")
        hint = browser.execute_script(f"return {HINT}")
        assert hint == f"No message yet. Publish one: libbus pub {name} room/test 1"
        subprocess.run([LIBBUS, pub, name, *rest], check=True, timeout=WATCHDOG)
        wanted = [["room/kitchen/temperature", "22.5"]]
        until(browser, ROWS, wanted)
        assert browser.execute_script(f"return {HINT}") is None
        browser.switch_to.new_window("window")  # opened later
        browser.get(server.url)
        until(browser, ROWS, wanted)


def test_the_tutorials_page_follows_its_sensor(browser, tmp_path):
    name = f"test-tutorial-{os.getpid()}-{os.urandom(4).hex()}"
    tutorial = Readme((REPO / "docs/tutorial.md").read_text(encoding="utf-8"))
    for section in ("2. A sensor", "4. A live page"):
        block = tutorial.take(section, "python")
        (tmp_path / block.file).write_text(block.text.replace('"home"', repr(name)))
    shown = "document.getElementById('t').textContent"

    with Server(tmp_path, "--workers", "2") as server:
        with started(sys.executable, tmp_path / "sensor.py"):
            browser.get(server.url)
            until(browser, f"{shown} !== '…'", True)
            until(browser, "document.getElementById('state').textContent.trim()", "live")
        subprocess.run(
            [LIBBUS, "pub", name, "room/temperature", "99.5"], check=True, timeout=WATCHDOG
        )
        until(browser, shown, "99.5")
