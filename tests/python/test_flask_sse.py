"""Apps and pages that were written for Flask-SSE, with another import."""

import contextlib
import json
import os
import subprocess
import sys
from textwrap import dedent

import flask
import pytest
from patience import WATCHDOG
from webserver import Server, stream

import libbus
from libbus.compat.flask_sse import ServerSentEventsBlueprint

APP = """
    from flask import Flask, render_template_string
    from libbus.compat.flask_sse import sse

    app = Flask(__name__)
    app.config["SSE_BUS"] = NAME
    app.register_blueprint(sse, url_prefix="/stream")

    @app.route("/hello")
    def publish_hello():
        sse.publish({"message": "Hello!"}, type="greeting")
        return "Message sent!"
"""


@pytest.fixture
def name():
    return f"test-sse-{os.getpid()}-{os.urandom(4).hex()}"


@pytest.fixture
def sse():
    """A blueprint of its own: the module's is one for the process."""
    return ServerSentEventsBlueprint()


@contextlib.contextmanager
def listening(app, path="/stream"):
    answer = app.test_client().get(path)
    try:
        assert answer.status_code == 200, answer.text
        events = stream(answer.response)
        next(events)  # it listens
        yield (event for event in events if event.name != "hb")
    finally:
        answer.close()


def site(sse, name):
    app = flask.Flask(__name__)
    app.config["SSE_BUS"] = name
    app.register_blueprint(sse, url_prefix="/stream")
    return app


def test_an_event_has_the_type_the_data_and_the_id_that_it_was_published_with(sse, name):
    app = site(sse, name)
    with listening(app) as events, app.app_context():
        sse.publish({"message": "Hello!"}, type="greeting")
        sse.publish("as it is\nin two lines")
        sse.publish([1, None], id=7, retry=500)
        first, second, third = (next(events) for _ in range(3))
        assert (first.name, json.loads(first.data)) == ("greeting", {"message": "Hello!"})
        assert (second.name, second.data) == ("message", "as it is\nin two lines")
        assert (third.name, third.data, third.id) == ("message", "[1,null]", "7")
        sse._pages.close()


def test_channels_are_kept_apart_whatever_they_are_called(sse, name):
    app = site(sse, name)
    with app.app_context():
        for channel in ("users.42", "a/b", "#", "+", "é ü", "x" * 100, "/"):
            with app.test_request_context(query_string={"channel": channel}):
                path = "/stream?" + flask.request.query_string.decode()
            with listening(app, path) as events:
                sse.publish("to others")
                sse.publish("to others", channel=channel + "x")
                sse.publish("mine", channel=channel)
                assert next(events).data == "mine"
        sse._pages.close()


def test_access_is_decided_before_the_request_as_in_flask_sse(sse, name):
    @sse.before_request
    def check_access():
        if flask.request.args.get("channel") == "analytics":
            flask.abort(403)

    app = site(sse, name)
    assert app.test_client().get("/stream?channel=analytics").status_code == 403
    with listening(app):
        pass
    with app.app_context():
        sse._pages.close()


def test_it_stands_beside_a_bus_of_libbus(sse, name):
    from libbus.flask import Bus

    app = site(sse, name)
    bus = Bus(app, allow=["#"])
    with listening(app) as events, app.app_context(), bus.subscribe("#") as got:
        sse.publish("x")
        assert next(events).data == "x"
        assert got.recv_nowait() is None
        bus.close()
        sse._pages.close()


def test_a_program_without_an_app_reaches_the_pages_of_all_workers(tmp_path, name):
    (tmp_path / "app.py").write_text(dedent(APP).replace("NAME", repr(name)))
    publish = "from libbus.compat.flask_sse import sse; sse.publish({'n': 1}, type='count')"
    with (
        Server(tmp_path, "--workers", "2", "--worker-class", "sync") as server,
        server.page("/stream") as page,
    ):
        events = stream(page)
        assert next(events).name == "hb"
        with server.page("/hello") as answer:
            assert answer.read() == b"Message sent!"
        subprocess.run(
            [sys.executable, "-c", publish],
            env=os.environ | {"SSE_BUS": name},
            check=True,
            timeout=WATCHDOG,
        )
        found = []
        while len(found) < 2:
            event = next(events)
            if event.name != "hb":
                found.append((event.name, json.loads(event.data)))
        assert found == [("greeting", {"message": "Hello!"}), ("count", {"n": 1})]
        # It goes on where it was, on whichever worker.
        with libbus.Bus(name) as bus:
            bus.publish("sse/sse", "missed", headers={"event": "late"})
        with server.page("/stream", **{"Last-Event-ID": event.id}) as again:
            late = next(event for event in stream(again) if event.name != "hb")
            assert (late.name, late.data) == ("late", "missed")
