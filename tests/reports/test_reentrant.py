"""Closing, registering and publishing are fine wherever Python runs a signal handler or a finalizer."""

import pytest
from interpreter import run
from patience import WATCHDOG

# Interrupts an operation before each of its lines within libbus, as a signal handler or a finalizer would, by a trace
# function. A lock that the interrupted frame holds is met by one of the rounds, whatever the schedule.
INTERRUPT = """
import contextlib, faulthandler, sys, threading
import libbus

faulthandler.dump_traceback_later(LIMIT, exit=True)
FILES = ("libbus/_callbacks.py", "libbus/_bus.py", "libbus/_subscription.py", "libbus/_role.py")


def ignore(msg):
    pass


class Fixture:
    def __init__(self):
        self.bus = libbus.Bus("test", dir=FOLDER)
        self.other = self.bus.subscribe("other/#", callback=ignore, full="latest")
        self.past = self.bus.subscribe("past/#", callback=ignore, last=1)
        self.sub = self.bus.subscribe("sub")
        self.role = self.bus.role("role")


OPERATIONS = {
    "register": lambda f: f.bus.subscribe("room/#", callback=ignore).close(),
    "register in the past": lambda f: f.bus.subscribe("room/#", callback=ignore, last=1).close(),
    "first of a bus": lambda f: f.bus.subscribe("a", callback=ignore, bytes=1 << 16),
    "flush": lambda f: (f.bus.publish("other/a", 1), f.bus.flush(timeout=LIMIT)),
    "close the bus": lambda f: f.bus.close(LIMIT),
    "hold a role": lambda f: f.bus.role("another").close(),
    "leave": lambda f: (f.past.close(), f.other.close(), f.sub.close(), f.role.close()),
}
ACTS = {
    "close a callback": lambda f: (f.other.close(), f.past.close()),
    "register": lambda f: f.bus.subscribe("sig/#", callback=ignore).close(),
    "register for good": lambda f: f.bus.on("sig/#", ignore),
    "close a subscription": lambda f: (f.sub.close(), f.role.close()),
    "publish": lambda f: f.bus.publish("other/b", 2),
    "flush": lambda f: f.bus.flush(timeout=LIMIT),
    "close the bus": lambda f: f.bus.close(None),
}


def interrupted(operation, act, n):
    '''Runs the operation with act before its n-th line; whether there is such a line.'''
    f = Fixture()
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        if event == "line":
            lines += 1
            if lines == n:
                with contextlib.suppress(libbus.Closed):
                    act(f)
        return trace

    sys.settrace(trace)
    try:
        with contextlib.suppress(libbus.Closed):
            operation(f)
    finally:
        sys.settrace(None)
    if not f.bus.closed:
        heard = []
        f.bus.on("after", heard.append)
        f.bus.publish("after", n)
        f.bus.flush(timeout=LIMIT)
        assert [msg.value for msg in heard] == [n]
        assert [t.name for t in threading.enumerate()].count("libbus-callbacks") == 1
    f.bus.close()
    f.role.close()
    return lines >= n


operation = OPERATIONS[OPERATION]
for name, act in ACTS.items():
    n = 1
    while interrupted(operation, act, n):
        n += 1
    print(name, "before each of", n - 1, "lines")
"""


@pytest.mark.parametrize(
    "operation",
    [
        "register",
        "register in the past",
        "first of a bus",
        "flush",
        "close the bus",
        "hold a role",
        "leave",
    ],
)
def test_an_operation_may_be_interrupted_before_each_of_its_lines(operation, tmp_path):
    assert "close a callback before each of" in run(
        INTERRUPT, LIMIT=WATCHDOG, OPERATION=operation, FOLDER=str(tmp_path)
    )


# The same, where the callbacks' thread is interrupted: only a finalizer runs there.
IN_THE_THREAD = """
import faulthandler, threading
import libbus

faulthandler.dump_traceback_later(LIMIT, exit=True)


class Finalized:
    def __del__(self):
        self.act()


def round(act, n):
    lines = 0
    bus = libbus.Bus()
    done = threading.Event()

    def trace(frame, event, arg):
        nonlocal lines
        if not frame.f_code.co_filename.endswith("libbus/_callbacks.py"):
            return None
        if event == "line" and threading.current_thread().name == "libbus-callbacks":
            lines += 1
            if lines == n:
                garbage = Finalized()
                garbage.act = lambda: act(bus, other)
                del garbage
        return trace

    other = bus.subscribe("other", callback=lambda msg: None)
    threading.settrace(trace)
    late = libbus.Bus()  # its thread is the one that is traced
    late.on("a", lambda msg: done.set())
    threading.settrace(None)
    late.publish("a", 1)
    assert done.wait(LIMIT)
    late.flush(timeout=LIMIT)
    late.close()
    bus.close()
    return lines >= n


for act in (
    lambda bus, other: other.close(),
    lambda bus, other: bus.close(),
    lambda bus, other: bus.publish("other", 1),
    lambda bus, other: bus.subscribe("more", callback=print),
):
    n = 1
    while round(act, n):
        n += 1
    assert n > 10
print("fine")
"""


def test_a_finalizer_may_do_the_same_on_the_thread_of_callbacks():
    assert run(IN_THE_THREAD, LIMIT=WATCHDOG) == "fine\n"


SIGNALS = """
import faulthandler, signal
import libbus

faulthandler.dump_traceback_later(LIMIT, exit=True)
bus = libbus.Bus()
handled = 0


def handler(*_):
    global handled
    bus.subscribe("sig/#", callback=print).close()
    bus.publish("sig/a", 1, headers={"h": 1})
    handled += 1
    signal.setitimer(signal.ITIMER_REAL, 0.0005)


signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005)
while handled < 1000:
    bus.subscribe("room/#", callback=print).close()
signal.setitimer(signal.ITIMER_REAL, 0)
print("fine")
"""


def test_a_signal_handler_may_register_and_close_a_callback():
    assert run(SIGNALS, LIMIT=WATCHDOG) == "fine\n"
