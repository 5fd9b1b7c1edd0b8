"""examples/python/behind_nginx: its page through a real nginx, before gunicorn with two workers."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from patience import WATCHDOG
from programs import REPO
from webserver import Server, stream

import libbus

EXAMPLE = REPO / "examples/python/behind_nginx"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(not NGINX, reason="no nginx is installed: ./dev web"),
]


def replaced(text, changes):
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Nginx:
    """nginx with the example's configuration, on a new socket: no port is guessed, and no file of the system is used."""

    def __init__(self, folder, upstream, **changes):
        self.folder = folder
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        own = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        conf = replaced(
            (EXAMPLE / "nginx.conf").read_text(),
            {
                "http {": f"http {{ {own} access_log off;",
                "listen 8000;": f"listen unix:{folder}/socket;",
                "127.0.0.1:8001": f"127.0.0.1:{upstream}",
                "worker_shutdown_timeout 10s;": "worker_shutdown_timeout 1s;",
                **changes,
            },
        )
        (folder / "nginx.conf").write_text(conf)
        settings = f"daemon off; pid {folder}/pid; error_log {folder}/log;"
        self.command = [NGINX, "-c", folder / "nginx.conf", "-g", settings]

    def __enter__(self):
        self.process = subprocess.Popen(self.command)
        try:
            self._await_start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _await_start(self):
        deadline = time.monotonic() + WATCHDOG
        while not (self.folder / "socket").exists() or not (self.folder / "pid").exists():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(WATCHDOG)

    def reload(self):
        subprocess.run([*self.command, "-s", "reload"], check=True, timeout=WATCHDOG)

    @contextlib.contextmanager
    def page(self, path, **headers):
        connection = http.client.HTTPConnection("localhost", timeout=WATCHDOG)
        connection.sock = socket.socket(socket.AF_UNIX)
        with connection.sock as sock:
            sock.settimeout(WATCHDOG)
            sock.connect(str(self.folder / "socket"))
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as answer:
                yield answer


@pytest.fixture
def name():
    return f"test-nginx-{os.getpid()}-{os.urandom(4).hex()}"


@pytest.fixture
def nginx(tmp_path, name):
    source = (EXAMPLE / "app.py").read_text()
    (tmp_path / "app.py").write_text(replaced(source, {'"behind-nginx"': repr(name)}))
    # Short, for the socket.
    with (
        tempfile.TemporaryDirectory(prefix="nginx-") as folder,
        Server(tmp_path, "--workers", "2") as server,
        Nginx(Path(folder), server.port) as nginx,
    ):
        yield nginx


def numbers(answer):
    """(number, id) of each message about the test."""
    return ((json.loads(event.data), event.id) for event in stream(answer) if event.name == "test")


EVENTS = "/bus/events?filter=room/test&raw"


def publish(bus, numbers):
    for number in numbers:
        bus.publish("room/test", number, headers={"event": "test"})


def test_the_page_shows_the_clock_and_each_event_arrives_without_waiting_for_the_next(nginx, name):
    with nginx.page("/") as page:
        assert b"libbus.js" in page.read()
    with nginx.page("/bus/events?filter=room/clock&raw") as answer:
        assert answer.version == 11
        assert any(":" in event.data for event in stream(answer) if event.name == "message")
    with nginx.page(EVENTS) as answer, libbus.Bus(name) as bus:
        found = numbers(answer)
        for number in range(3):
            publish(bus, [number])
            assert next(found)[0] == number


def test_a_page_resumes_after_a_reload_of_nginx_and_misses_nothing(nginx, name):
    with libbus.Bus(name) as bus:
        with nginx.page(EVENTS) as answer:
            found = numbers(answer)
            publish(bus, range(10))
            seen = [next(found) for _ in range(10)]
            nginx.reload()
            publish(bus, range(10, 20))
            seen += found  # until the old worker ends
        publish(bus, range(20, 30))
        with nginx.page(EVENTS, **{"Last-Event-ID": seen[-1][1]}) as answer:
            publish(bus, range(30, 40))
            found = numbers(answer)
            while seen[-1][0] != 39:
                seen.append(next(found))
    assert [number for number, _ in seen] == list(range(40))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "example.com"}, None),
        ({"Host": "www.example.com:8000", "Origin": "http://www.example.com:8000"}, None),
        ({"Host": "192.0.2.7"}, None),
        ({"Host": "evil.example"}, "HOST"),
        ({"Host": "example.com", "Origin": "http://evil.example"}, "ORIGIN"),
    ],
)
def test_the_app_checks_the_name_by_which_the_browser_asked_nginx(nginx, headers, code):
    with nginx.page(EVENTS, **headers) as answer:
        if code is None:
            assert answer.status == 200
        else:
            assert answer.status == 403
            assert json.load(answer)["error"]["code"] == code


def test_the_example_has_less_than_100_lines():
    files = [EXAMPLE / "app.py", EXAMPLE / "nginx.conf"]
    assert sum(len(file.read_text().splitlines()) for file in files) < 100
