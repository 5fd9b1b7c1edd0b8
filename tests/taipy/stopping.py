"""Runs a Gui in a thread, ends it by argv[2], and says which threads of the link are left: stopping.py ASYNC_MODE stop|close."""

import sys
import threading
import time

from session import Session
from taipy.gui import Gui

import libbus
from libbus.taipy import BusGui

mode, end = sys.argv[1:]
value = None
bus = libbus.Bus()
gui = Gui("<|{value}|text|>")
link = BusGui(bus, gui, hz=50)
link.bind("value", "value")


def until(condition, what):
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def run_and_see(number):
    gui.run(
        run_in_thread=True, port="auto", async_mode=mode, run_browser=False, use_reloader=False,
        allow_unsafe_werkzeug=True,
    )  # fmt: skip
    session = Session(gui._get_port())
    bus.publish("value", number)
    until(lambda: session.values.get("value") == number, "the value came")
    return session


before = threading.active_count()
session = run_and_see(1)
ticking = link._ticking
assert ticking is not None
{"stop": gui.stop, "close": link.close, "bus": bus.close}[end]()
until(lambda: not link._framework.is_running() or link.closed, "it ended")
session.close()
if end == "stop":
    session = run_and_see(2)
    assert link._ticking != ticking
    session.close()
    gui.stop()
names = [each.name for each in threading.enumerate()]
if mode == "threading":
    until(lambda: not any("run" in each.name for each in threading.enumerate()), names)
print("ended", flush=True)
