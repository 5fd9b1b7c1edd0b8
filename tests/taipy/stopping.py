"""Runs a Gui in a thread and ends its updates: stopping.py ASYNC_MODE stop|close."""

import os
import sys
import threading
import time
import types

from session import Session
from taipy.gui import Gui

import libbus
from libbus.taipy import BusGui

mode, end = sys.argv[1:]
sys.stdin = types.SimpleNamespace(
    isatty=lambda: True
)  # else Flask-SocketIO refuses the server of Werkzeug
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
    )  # fmt: skip
    session = Session(gui._get_port())
    bus.publish("value", number)
    until(lambda: session.values.get("value") == number, "the value came")
    return session


session = run_and_see(1)
ticking = link._ticking
assert ticking is not None
{"stop": gui.stop, "close": link.close}[end]()
until(lambda: not link._framework.is_running() or link.closed, "it ended")
session.close()
if end == "stop":
    session = run_and_see(2)
    assert link._ticking != ticking
    session.close()
    gui.stop()
until(lambda: not any("_tick" in each.name for each in threading.enumerate()), "the ticker ended")
print("ended", flush=True)
os._exit(0)  # the server's thread would go on
