"""docs/tutorial.md, pasted block by block into terminals, as a newcomer does it.

The second machine is this one, over loopback, with a configuration of its own. tests/net/test_hub.py has two machines."""

import http.client
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
import sse
from patience import WATCHDOG
from programs import BUILD, REPO
from readme import Readme
from terminal import Terminal

pytestmark = pytest.mark.xdist_group("tutorial")

# Reads its own terminal again, which makes that the one from which Ctrl-C reaches its programs.
SHELL = 'exec bash --norc --noprofile --noediting -i <"$(tty)"'
PASSWORD = re.compile(r"(?:[a-z2-9]{5}-){3}[a-z2-9]{5}")
ADDRESS = "tcp://192.168.1.5:7070"  # what the page invents
READING = r"room/temperature \d+(?:\.\d+)? ?\r?\n"


class Desk:
    """Terminals of a machine."""

    def __init__(self, folder):
        self.folder, self.terminals, self.log = folder, [], io.StringIO()
        # gunicorn has a socket there, whose path has to be short.
        self.runtime = tempfile.TemporaryDirectory(prefix="desk-")
        folder.mkdir()

    def terminal(self):
        path = f"{BUILD / 'tools'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environ = {
            "PATH": path,
            "XDG_CONFIG_HOME": self.folder / "config",
            "XDG_RUNTIME_DIR": self.runtime.name,
            "GUNICORN_CMD_ARGS": "--bind 127.0.0.1:0",
        }
        command = ["env", *(f"{k}={v}" for k, v in environ.items()), "bash", "-c", SHELL]
        terminal = Terminal(command, self.log, WATCHDOG)
        self.terminals.append(terminal)
        terminal.succeed(f"cd {self.folder}")
        return terminal

    def running(self, text, pattern):
        """A terminal in which this runs on, and what it printed first."""
        terminal = self.terminal()
        terminal.paste(text)
        return terminal, terminal.expect(pattern)

    def close(self):
        for terminal in self.terminals:
            if os.tcgetpgrp(terminal.master) != terminal.shell:  # a program still runs in it
                stop(terminal)
            terminal.close()
        self.runtime.cleanup()
        print(self.log.getvalue())


@pytest.fixture(name="desk")
def desks(tmp_path):
    made = []

    def desk(name):
        made.append(Desk(tmp_path / name))
        return made[-1]

    yield desk
    for each in reversed(made):
        each.close()


class Tutorial:
    """The page's blocks, on a bus of this test's own."""

    def __init__(self):
        self.bus = f"tutorial-{os.getpid()}"
        page = Readme((REPO / "docs/tutorial.md").read_text(encoding="utf-8"))
        self.blocks = page
        page.left = [block for block in page.left if block.section != "1. Install"]

    def take(self, section, kind="sh"):
        block = self.blocks.take(section, kind)
        text = re.sub(r'(?<=Bus\(")home(?=")|(?<=name=")home(?=")', self.bus, block.text)
        text = re.sub(r"(?<= )home(?= )", self.bus, text)
        return block.file, text.replace("tcp://0.0.0.0:7070", "tcp://127.0.0.1:0")

    def text(self, section):
        return self.take(section)[1]

    def save(self, section, desk, change=lambda text: text):
        file, text = self.take(section, "python")
        (desk.folder / file).write_text(change(text))


def stop(terminal):
    terminal.interrupt()
    terminal.finish()


def first_reading(port):
    """What a page gets first."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WATCHDOG)
    connection.request("GET", "/")
    assert b"/bus/" in connection.getresponse().read()
    connection.request("GET", "/bus/events?raw&filter=room%2Ftemperature")
    answer = connection.getresponse()
    value = next(event.data for event in sse.read(answer) if event.name == "message")
    answer.close()
    connection.close()
    return float(value)


def test_install_is_the_one_that_readme_shows():
    readme = Readme((REPO / "README.md").read_text(encoding="utf-8"))
    readme.take("See it run")
    tutorial = Readme((REPO / "docs/tutorial.md").read_text(encoding="utf-8"))
    assert tutorial.take("1. Install").text == readme.take("See it run").text + "libbus --version\n"


def test_a_newcomer_gets_from_a_sensor_to_a_second_machine(desk):
    page, pi, laptop = Tutorial(), desk("pi"), desk("laptop")

    part = "2. A sensor"
    page.save(part, pi)
    start_sensor = page.text(part)
    sensor = pi.terminal()
    sensor.paste(start_sensor)

    part = "3. The shell watches"
    shell = pi.terminal()
    command = page.text(part)
    assert len(re.findall(READING, shell.succeed(command) + "\n")) == 3
    shell.succeed(page.text(part))
    explain_lamp = f"libbus explain {page.bus} room/lamp"
    assert "last value" in shell.succeed(explain_lamp)
    stop(sensor)
    sensor.paste(start_sensor)
    shell.succeed(command)
    assert "last value" not in shell.succeed(explain_lamp)
    misspelt = pi.terminal()
    misspelt.paste(page.text(part))
    explain = page.text(part)
    while "room/temprature" not in shell.succeed(explain):
        pass
    stop(misspelt)

    part = "4. A live page"
    page.save(part, pi)
    server, port = pi.running(page.text(part), r"Listening at: http://127\.0\.0\.1:(\d+)")
    assert first_reading(int(port[1])) > 0

    part = "5. A second machine"
    hub, line = pi.running(page.text(part), r"  shell   (LIBBUS_PASSWORD=.*)\r?\n")
    watch, _ = laptop.running(line[1], f"{READING}{READING}")
    stop(watch)
    stop(hub)

    part = "6. A user for each machine"
    password = PASSWORD.search(pi.terminal().succeed(page.text(part)))[0]
    hub, url = pi.running(page.text(part), r'bus\.dial\("(.*?)"')
    hub.expect(": 0 peers")
    page.save(part, laptop, lambda text: text.replace(ADDRESS, url[1]))

    def pasted():
        return PASSWORD.sub(password, page.text(part)).replace(ADDRESS, url[1])

    display, _ = laptop.running(pasted(), READING)
    laptop.terminal().succeed(pasted())
    peers = page.text(part)
    while "room/lamp" not in (shown := shell.succeed(peers)):
        pass
    assert 'not allowed for "laptop"' in shown
    stop(display)
    stop(server)

    assert not page.blocks.left, f"no step pastes {page.blocks.left[0]}"
