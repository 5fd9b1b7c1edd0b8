"""A bus with callbacks lives until close() or the end of the interpreter, whether or not a variable refers to it."""

import gc
import weakref

import pytest
from interpreter import run
from patience import WATCHDOG

import libbus


@pytest.fixture(autouse=True)
def nothing_stays():
    before = list(libbus._bus._open)
    yield
    for bus in set(libbus._bus._open) - set(before):
        bus.close()


def on(bus, heard):
    @bus.on("room/#")
    def show(msg):
        heard(msg.value)


def callback(bus, heard):
    bus.subscribe("room/#", callback=lambda msg: heard(msg.value))


def serve(bus, heard):
    @bus.serve("room/#")
    def answer(msg):
        heard(msg.value)


@pytest.mark.parametrize("register", [on, callback, serve])
def test_callbacks_of_a_bus_without_references_are_called(tmp_path, register):
    heard = []
    bus = libbus.Bus("test", directory=tmp_path)
    register(bus, heard.append)
    gone = weakref.ref(bus)
    del bus
    gc.collect()
    with libbus.Bus("test", directory=tmp_path) as other:
        assert gone() is not None
        if register is serve:
            other.request("room/lamp", "on", timeout=WATCHDOG)
        else:
            other.publish("room/lamp", "on")
            gone().flush(timeout=WATCHDOG)
    assert heard == ["on"]
    gone().close()
    gc.collect()
    assert gone() is None


def test_a_bus_without_callbacks_and_references_is_collected():
    bus = libbus.Bus()
    registered = [bus.subscribe("a", callback=print) for _ in range(2)]
    gone = weakref.ref(bus)
    del bus
    registered.pop().close()
    gc.collect()
    assert not gone().closed
    registered.pop().close()
    gc.collect()
    assert gone() is None


def test_a_registration_that_fails_keeps_no_bus():
    bus = libbus.Bus()
    with pytest.raises(libbus.FilterError):
        bus.on("a/#/b", print)
    gone = weakref.ref(bus)
    del bus
    gc.collect()
    assert gone() is None


EXIT = """
import libbus

def setup():
    bus = libbus.Bus()
    bus.on("a", lambda msg: print("heard", msg.value, flush=True))
    bus.publish("a", 1)

setup()
"""


def test_callbacks_of_a_bus_without_references_finish_before_the_interpreter_ends():
    assert run(EXIT) == "heard 1\n"
