"""An app that a factory made ends with its last reference: its bus, its thread and its descriptors."""

import os

import pytest
from interpreter import run
from patience import WATCHDOG

PROGRAM = """
import gc, os, resource, threading, time
import flask
import libbus, libbus.flask

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
shared = libbus.flask.Bus()
heard_by = []


def create_app():
    app = flask.Flask("app")
    bus = libbus.flask.Bus() if KIND == "own" else shared
    bus.init_app(app, name=NAME)
    if KIND != "all":

        @bus.on("a")
        def heard(msg):
            with app.app_context():
                if app is flask.current_app._get_current_object():
                    heard_by.append(id(app))

    @app.get("/")
    def page():
        bus.publish("a", 1)
        return "fine"

    return app


if KIND == "all":
    shared.on("a")(lambda msg: None)
for n in range(ROUNDS):
    app = create_app()
    assert app.test_client().get("/").data == b"fine"
    if n == ROUNDS - 1:
        with app.app_context():
            bus = app.extensions["libbus"].ext
            bus.bus.flush(timeout=LIMIT)
            # Apps before it may still hear what they were sent.
            before = heard_by.count(id(app))
            bus.publish("a", 2)
            bus.bus.flush(timeout=LIMIT)
            after = heard_by.count(id(app))
            assert KIND == "all" or after == before + 1, (before, after)
        del bus
del app
deadline = time.monotonic() + LIMIT
while threading.active_count() > 1 and time.monotonic() < deadline:
    gc.collect()
    time.sleep(0.001)
print(threading.active_count(), "thread,", "fewer" if len(os.listdir("/proc/self/fd")) < 20 else "many")
"""


@pytest.mark.parametrize(
    "kind",
    ["own", "all", "each"],
    ids=["a bus for each app", "one bus, one handler", "one bus, a handler of each app"],
)
@pytest.mark.parametrize("name", [None, "factory"], ids=["private", "named"])
def test_apps_that_a_test_drops_leave_no_thread_and_no_descriptor(kind, name):
    own = name and f"{name}-{os.getpid()}"  # another run of the tests may be under way
    answer = run(PROGRAM, KIND=kind, NAME=own, ROUNDS=120, LIMIT=WATCHDOG)
    assert answer == "1 thread, fewer\n"


ALIVE = """
import gc
import flask
import libbus, libbus.flask

app = flask.Flask("app")
bus = libbus.flask.Bus(app)
heard = []
bus.on("a")(lambda msg: heard.append(msg.value))
opened = bus.bus
bus.on("b")(lambda msg: heard.append(msg.value))
gc.collect()
bus.publish("a", 1)
bus.publish("b", 2)
opened.flush(timeout=LIMIT)
print(sorted(heard), opened.closed)
bus.close()
print(opened.closed)
"""


def test_handlers_of_an_app_that_lives_are_called_until_close():
    assert run(ALIVE, LIMIT=WATCHDOG) == "[1, 2] False\nTrue\n"
