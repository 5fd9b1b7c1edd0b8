"""An app with live pages, for tests that ask it without a server."""

import contextlib
import time

import flask
from patience import WATCHDOG

from libbus.flask import Bus


def until(condition):
    deadline = time.monotonic() + WATCHDOG
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def site(**options):
    app = flask.Flask(__name__)
    app.secret_key = "for sessions"
    bus = Bus(app, **{"heartbeat": 0.2, "allow": ["#"], **options})
    return app, bus


@contextlib.contextmanager
def opened(app, path, client=None, **options):
    answer = (client or app.test_client()).get(path, **options)
    try:
        yield answer
    finally:
        answer.close()
