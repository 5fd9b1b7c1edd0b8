"""Two machines as a new user sets them up: `libbus hub home --lan` on one, and its printed lines pasted on the other."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lab import PORT, eventually

pytestmark = pytest.mark.net

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LIBBUS_BUILD", "build")).resolve()
LIBBUS = BUILD / "tools" / "libbus"
URL = f"tcp://10.1.0.2:{PORT}"

# The program around the pasted lines.
C_PROGRAM = """
#include <stdio.h>
#include <libbus/libbus.h>

int main(void)
{
    struct bus *bus;
    struct bus_mailbox *mbox;
    const struct bus_msg *msg;

    bus_open(NULL, NULL, &bus);
    bus_mailbox_open(bus, NULL, &mbox);
    bus_mailbox_subscribe(mbox, "room/#", NULL, NULL, NULL);
    {
%s
    }
    if (bus_recv(mbox, -1, &msg) > 0)
        printf("%%s %%.*s\\n", msg->topic, (int)msg->len, (const char *)msg->data);
    bus_close(bus, 1000);
    return 0;
}
"""
PYTHON_SCRIPT = """
import libbus

bus = libbus.Bus()
with bus.subscribe("room/#") as messages:
    %s
    for message in messages:
        print(message.topic, message.value)
        break
"""


class Program:
    """A command on a machine, whose lines are read as they come."""

    def __init__(self, machine, *words, shell=False, env=None):
        command = ["sh", "-c", words[0]] if shell else words
        self.lines, self.last = [], ""
        # A hub shows passwords on a terminal only.
        self.screen, terminal = pty.openpty()
        self.process = subprocess.Popen(
            machine.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            env=os.environ | (env or {}),
            start_new_session=True,
        )
        os.close(terminal)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        """The hub rewrites its status line: each rewrite counts as a line."""
        with contextlib.suppress(OSError):  # the last program on the terminal has ended
            while more := os.read(self.screen, 4096).decode():
                *lines, self.last = re.split(r"\r?\n|\r(?=[^\n])", self.last + more)
                self.lines += lines

    def text(self):
        return "\n".join([*self.lines, self.last])

    def shows(self, pattern):
        return eventually(
            lambda: re.search(pattern, self.text(), re.MULTILINE), f"{pattern} in {self.text()}"
        )

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()
        os.close(self.screen)


class Hub:
    """The hub on machine b, and programs on both machines."""

    def __init__(self, lab, tmp_path):
        self.lab, self.tmp = lab, tmp_path
        self.env = {
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "PATH": f"{BUILD / 'tools'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": str(BUILD / "libbus"),
        }
        self.bus_dir = tmp_path / "b"
        self.bus_dir.mkdir(mode=0o700)
        self.programs = []
        self.hub = self.on(
            lab.b,
            LIBBUS,
            "hub",
            "home",
            "--dir",
            self.bus_dir,
            "--lan",
            "--listen",
            f"tcp://0.0.0.0:{PORT}",
        )
        self.hub.shows("^home: 0 peers")

    def on(self, machine, *words, **options):
        program = Program(machine, *words, env=self.env, **options)
        self.programs.append(program)
        return program

    def lines(self, language):
        """Returns the lines to paste: those after that word, up to an empty one."""
        lines = self.hub.lines
        at = next(i for i, line in enumerate(lines) if line.startswith(f"  {language} "))
        pasted = []
        for line in lines[at:]:
            if not line:
                break
            pasted.append(line.removeprefix(f"  {language}").strip())
        return pasted

    def publish(self, topic, value):
        self.lab.b.run(LIBBUS, "pub", "home", "--dir", self.bus_dir, topic, value)

    def peers(self):
        return self.lab.b.run(LIBBUS, "explain", "home", "--dir", self.bus_dir, "--peers")

    def close(self):
        for program in reversed(self.programs):
            program.close()


@pytest.fixture
def hub(lab, tmp_path):
    hub = Hub(lab, tmp_path)
    try:
        yield hub
    finally:
        hub.close()


def c_program(hub):
    source, program = hub.tmp / "pasted.c", hub.tmp / "pasted"
    source.write_text(C_PROGRAM % "\n".join(hub.lines("C")))
    subprocess.run(
        [
            "cc",
            "-Wall",
            "-Werror",
            source,
            "-o",
            program,
            f"-I{ROOT / 'include'}",
            f"-I{BUILD / 'include'}",
            f"-L{BUILD / 'libbus'}",
            "-lbus",
        ],
        check=True,
    )
    return hub.on(hub.lab.a, program)


def python_script(hub):
    script = hub.tmp / "pasted.py"
    script.write_text(PYTHON_SCRIPT % hub.lines("Python")[0])
    return hub.on(hub.lab.a, sys.executable, script)


def shell(hub):
    return hub.on(hub.lab.a, hub.lines("shell")[0], shell=True)


def test_the_printed_lines_connect_c_python_and_a_shell(hub):
    programs = [paste(hub) for paste in (c_program, python_script, shell)]
    hub.hub.shows("^home: 3 peers")
    hub.publish("room/door", "open")
    for program in programs:
        program.shows("^room/door .?open")


def test_peers_of_the_hub_get_each_others_messages(hub):
    hears = shell(hub)
    hub.hub.shows("^home: 1 peers")
    command = hub.lines("shell")[0].replace(" sub ", " pub ").removesuffix(" '#'")
    says = hub.on(hub.lab.a, f"{command} room/window shut", shell=True)
    hears.shows("^room/window shut$")
    assert says.process.wait() == 0


SUB = f"libbus sub x --dial {URL} --lan --connect-timeout 0.5"
GET = f"""{sys.executable} -c "
import socket
with socket.create_connection(('10.1.0.2', {PORT})) as s:
    s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n')
    s.recv(1)" """


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"LIBBUS_PASSWORD=guess {SUB} --user remote", 'wrong password for "remote"'),
        (f"LIBBUS_PASSWORD=guess {SUB} --user nobody", "unknown user, not in users_file"),
        (SUB, "no user given"),
        (f"{GET}", "HTTP"),
        (f"openssl s_client -connect 10.1.0.2:{PORT} </dev/null", "TLS"),
        (
            f"export LIBBUS_PASSWORD=guess; for i in 1 2 3 4 5 6; do {SUB} --user remote; done",
            "too many failed attempts",
        ),
    ],
    ids=["password", "unknown", "none", "http", "tls", "many"],
)
def test_explain_peers_names_refused_peers_with_reasons(hub, command, words):
    hub.on(hub.lab.a, command, shell=True)
    eventually(lambda: words in hub.peers(), f"{words} in {hub.peers()}")
    shown = hub.peers()
    print(shown)
    assert "10.1.0.1" in shown
    assert "guess" not in shown
    assert "nobody" not in shown
