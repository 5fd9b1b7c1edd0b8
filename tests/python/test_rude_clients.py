"""Clients that break the rules, against gunicorn: other pages continue, and the server keeps nothing of these clients."""

import json
import socket
import struct
from textwrap import dedent

import pytest
from flask_site import until
from patience import WATCHDOG
from webserver import Server, messages

import libbus

APP = """
    import os
    from flask import Flask
    from libbus.flask import Bus

    app = Flask(__name__)
    bus = Bus(app, name="test", directory=os.path.dirname(os.path.abspath(__file__)), allow=["a"], heartbeat=5)
    app.add_url_rule("/stats", view_func=lambda: bus.pages())
"""
ASKED = b"GET /bus/events HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def server(tmp_path):
    (tmp_path / "app.py").write_text(dedent(APP))
    options = ("--worker-class", "gthread", "--threads", "2")
    with (
        open(tmp_path / "log", "w") as log,
        Server(tmp_path, *options, stderr=log) as server,
    ):
        yield server
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text
    assert "[ERROR]" not in text


def sent(server, data):
    client = socket.create_connection(("127.0.0.1", server.port), timeout=WATCHDOG)
    client.sendall(data)
    return client


def pages(server):
    with server.page("/stats") as answer:
        return json.load(answer)["pages"]


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


WAYS = [
    reset,
    socket.socket.close,
    lambda client: client.shutdown(socket.SHUT_WR),
    lambda client: client.shutdown(socket.SHUT_RDWR),
]


def test_400_of_500_pages_vanish_and_the_others_go_on(server, tmp_path):
    clients = [sent(server, ASKED + b"\r\n") for _ in range(500)]
    until(lambda: pages(server) == 500)
    for n, client in enumerate(clients[:400]):
        WAYS[n % len(WAYS)](client)
    with libbus.Bus("test", directory=tmp_path) as bus:
        bus.publish("a", 1)
    for client in clients[400:]:
        text = b""
        while b'"value":1' not in text:
            data = client.recv(65536)
            assert data, text
            text += data
    until(lambda: pages(server) == 100)
    for client in clients:
        client.close()
    until(lambda: pages(server) == 0)


def test_a_page_gets_events_while_half_requests_hold_all_threads(server, tmp_path):
    with server.page("/bus/events") as page, libbus.Bus("test", directory=tmp_path) as bus:
        found = messages(page)
        bus.publish("a", "before")
        assert next(found)["value"] == "before"
        slow = [sent(server, ASKED[:20]) for _ in range(20)]
        probe = sent(server, b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for number in range(3):
            bus.publish("a", number)
            assert next(found)["value"] == number
        probe.setblocking(False)
        with pytest.raises(BlockingIOError):
            probe.recv(1)  # no thread is free
        for client in (*slow, probe):
            client.close()
    until(lambda: pages(server) == 0)


ODD = {
    "a body": ASKED + b"Content-Length: 5\r\n\r\nhello",
    "a body that is missing": ASKED + b"Content-Length: 500000\r\n\r\nhello",
    "half a chunk": ASKED + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "the next requests at once": 3 * (ASKED + b"\r\n"),
    "another protocol": ASKED + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "HTTP/1.0": b"GET /bus/events HTTP/1.0\r\n\r\n",
    "a long id": ASKED + b"Last-Event-ID: " + b"x" * 8000 + b"\r\n\r\n",
    "an id of no charset": ASKED + b"Last-Event-ID: \xff\xfe\r\n\r\n",
    "an origin of no charset": ASKED + b"Origin: \xff\xfe\r\n\r\n",
    "a host of no charset": b"GET /bus/events HTTP/1.1\r\nHost: \xff.evil\r\n\r\n",
    "two hosts": ASKED + b"Host: evil.example\r\n\r\n",
    "a foreign host": b"GET /bus/events HTTP/1.1\r\nHost: evil_x.example\r\n\r\n",
    "a query of no charset": b"GET /bus/events?filter=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "too many headers": ASKED + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
    "a large header": ASKED + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
}


def test_no_odd_request_is_an_error_of_the_server_or_keeps_a_place(server):
    answers = {}
    for name, request in ODD.items():
        with sent(server, request) as client:
            answers[name] = client.recv(12)[9:12].decode()
    assert not [name for name, status in answers.items() if not status or status[0] == "5"]
    assert answers["a body that is missing"] == "200"
    assert answers["a foreign host"] == "403"
    assert answers["a query of no charset"] == "400"
    until(lambda: pages(server) == 0)
