"""The demo as its user meets it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from patience import WATCHDOG
from programs import HOST_SENSORS, REPO


class Demo:
    def __init__(self, folder, *options):
        command = [
            sys.executable,
            REPO / "tools" / "demo.py",
            "--port",
            "0",
            "--sensors",
            HOST_SENSORS,
            *options,
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env=os.environ | {"TMPDIR": str(folder), "DEMO_PATIENCE_S": str(WATCHDOG)},
        )  # fmt: skip
        self.output = ""
        self.says("Ctrl-C ends it")
        self.link = re.search(r"http://\S+", self.output)[0]

    def says(self, wanted):
        for line in self.process.stdout:
            self.output += line
            if wanted in line:
                return
        raise AssertionError(f"never said {wanted!r}: {self.output}")

    def interrupt(self):
        os.killpg(self.process.pid, signal.SIGINT)  # as a terminal does, to the whole group
        self.output += self.process.communicate(timeout=WATCHDOG)[0]
        return self.process.returncode


@pytest.fixture
def demo(tmp_path):
    demos = []

    def start(*options):
        demos.append(Demo(tmp_path, *options))
        return demos[0]

    yield start
    for started in demos:
        started.process.terminate()  # it ends its children; a kill would leave them
        started.process.communicate(timeout=WATCHDOG)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def answer(opener, link):
    try:
        with opener.open(link, timeout=WATCHDOG) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def browser_without_proxy():
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()
    )


def test_ctrl_c_ends_everything_without_a_trace(demo, tmp_path):
    running = demo()
    assert "first reading (host/" in running.output
    assert re.search(r"ssh -L (\d+):127.0.0.1:\1 \S+@\S+", running.output)
    pids = children(running.process.pid)
    assert len(pids) == 2
    assert running.interrupt() == 0
    assert "Traceback" not in running.output
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert list(tmp_path.glob("libbus-demo-*")) == []


def test_what_dies_is_started_again(demo):
    running = demo()
    for pid in children(running.process.pid):
        os.kill(pid, signal.SIGKILL)
        running.says("starting it again")
    deadline = time.monotonic() + WATCHDOG
    while answer(browser_without_proxy(), running.link)[0] != 200:
        assert time.monotonic() < deadline


def test_beyond_this_machine_the_link_opens_one_browser_once(demo):
    running = demo("--host", "0.0.0.0")
    link, bare = running.link, running.link.partition("?")[0]
    assert "?token=" in link
    mine, another = browser_without_proxy(), browser_without_proxy()

    status, page = answer(another, bare)
    assert status == 403
    assert "link with the token" in page
    for address in ("bus/events?filter=host/%23", "bus/static/libbus.js", "?token=guess"):
        assert answer(another, bare + address)[0] == 403

    assert answer(mine, link)[0] == 200
    assert answer(mine, bare)[0] == 200
    assert answer(another, link)[0] == 403


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, REPO / "tools" / "demo.py", "--port", port, "--sensors", HOST_SENSORS],
            capture_output=True, text=True, timeout=WATCHDOG, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr
