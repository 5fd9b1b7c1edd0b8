"""The outputs on docs/not-arrived.md are those of its commands, beside the two programs of the page.

PYTHONPATH=tests/support python3 tests/project/test_not_arrived.py writes the real outputs into the page.
"""

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from patience import WATCHDOG

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LIBBUS_BUILD", ROOT / "build"))
PAGE = ROOT / "docs/not-arrived.md"
PROGRAM = re.compile(r"^```python\n(# \w+\.py\n.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"(?<=^```console\n)\$ (.*?)\n(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
# What differs from run to run.
VARIES = [
    (r"python[\d.]*", "python"),
    (r" for \d+ s", ""),
    (r"(?m)^next: pid .*\n", ""),  # a process that is slow to run
    (r"\d+", "0"),
    (r" +", " "),
]


@contextlib.contextmanager
def programs(text):
    """The programs of the page, on their bus. They end with their stdin."""
    with contextlib.ExitStack() as running:
        for code in PROGRAM.findall(text):
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            watchdog = threading.Timer(WATCHDOG, process.kill)
            watchdog.start()
            running.callback(watchdog.cancel)
            running.callback(process.wait)
            running.callback(process.stdin.close)
            assert "ready\n" in process.stdout, "the program of the page ended early"
        yield


def real_output(command):
    env = os.environ | {"PATH": f"{BUILD / 'tools'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WATCHDOG,
        env=env,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def without_what_varies(text):
    for pattern, constant in VARIES:
        text = re.sub(pattern, constant, text)
    return text.strip()


@pytest.mark.xdist_group("plant")
def test_each_command_of_the_page_prints_what_the_page_shows():
    text = PAGE.read_text(encoding="utf-8")
    shown = CONSOLE.findall(text)
    assert len(shown) >= 5
    with programs(text):
        for command, output in shown:
            real = real_output(command)
            assert without_what_varies(output) == without_what_varies(real), command


def test_each_answer_that_the_page_explains_is_one_that_the_programs_give():
    page = PAGE.read_text(encoding="utf-8")
    answers = set(re.findall(r"^\| `([a-z][a-z ]+[a-z])", page, re.MULTILINE))
    assert "no such bus" in answers
    sources = [*(ROOT / "libbus").rglob("*.c"), *(ROOT / "tools").glob("*.c")]
    said = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert not {answer for answer in answers if answer not in said}


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    with programs(page):
        page = CONSOLE.sub(lambda m: f"$ {m[1]}\n{real_output(m[1])}", page)
    PAGE.write_text(page, encoding="utf-8")
