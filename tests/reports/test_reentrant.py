"""Closing, registering and publishing are fine wherever Python runs a signal handler or a finalizer."""

import pytest
from interpreter import run
from patience import WATCHDOG

# Interrupts an operation before each of its lines within libbus, as a signal handler or a finalizer would, by a trace
# function. A lock that the interrupted frame holds is met by one of the rounds, whatever the schedule.
INTERRUPT = """
import contextlib, faulthandler, gc, os, sys, threading, time
import libbus
from libbus._bus import _with_links
from libbus._callbacks import with_callbacks

FILES = ("libbus/_callbacks.py", "libbus/_bus.py", "libbus/_subscription.py", "libbus/_role.py", "libbus/_publisher.py", "libbus/_loop.py", "libbus/_closing.py")


def ignore(msg):
    pass


class Nothing:
    def close(self):
        pass


# The log stays while this is open: making one of several MiB anew would take most of each round's time.
keeper = libbus.Bus("test", directory=FOLDER, log_bytes=4 << 20)


class Fixture:
    def __init__(self, bare):
        self.bus = libbus.Bus("test", directory=FOLDER)
        # On a bare bus the operation registers the first callback.
        self.other = self.past = Nothing()
        if not bare:
            self.other = self.bus.subscribe("other/#", callback=ignore, full="latest")
            self.past = self.bus.subscribe("past/#", callback=ignore, start=libbus.last(1))
        self.sub = self.bus.subscribe("sub")
        self.role = self.bus.role("role")


def servers():
    return [t.name for t in threading.enumerate()].count("libbus-callbacks")


def workers():
    return sum(t.name.startswith("libbus-worker") for t in threading.enumerate())


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def becomes(condition):
    deadline = time.monotonic() + LIMIT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


OPERATIONS = {
    "register": lambda f: f.bus.subscribe("room/#", callback=ignore).close(),
    "register in the past": lambda f: f.bus.subscribe("room/#", callback=ignore, start=libbus.last(1)).close(),
    "register with workers": lambda f: f.bus.subscribe("room/#", callback=ignore, workers=2).close(),
    "first of a bus, with workers": lambda f: f.bus.subscribe("other/b", callback=ignore, workers=2),
    "publish to workers": lambda f: (
        f.bus.subscribe("other/a", callback=ignore, workers=2), f.bus.publisher("other/a").send(1), f.bus.flush(timeout=LIMIT)
    ),
    "first of a policy": lambda f: f.bus.subscribe("a", callback=ignore, max_bytes=1 << 16),
    "first of a bus": lambda f: f.bus.subscribe("a", callback=ignore),
    "first of a bus, in the past": lambda f: f.bus.subscribe("a", callback=ignore, start=libbus.last(1)),
    "flush": lambda f: (f.bus.publish("other/a", 1), f.bus.flush(timeout=LIMIT)),
    "close the bus": lambda f: f.bus.close(LIMIT),
    "hold a role": lambda f: f.bus.role("another").close(),
    "open a link": lambda f: f.bus.listen("inproc://reentrant").close(),
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
    # Again for each case, so that a hang is one of this case and its traceback says where.
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    before = descriptors()
    f = Fixture(OPERATION.startswith("first of a bus"))
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        if event == "line":
            lines += 1
            if lines == n:
                with contextlib.suppress(libbus.ClosedError):
                    act(f)
        return trace

    sys.settrace(trace)
    try:
        with contextlib.suppress(libbus.ClosedError):
            operation(f)
    finally:
        sys.settrace(None)
    if not f.bus.closed:
        heard = []
        f.bus.on("after", heard.append)
        f.bus.publish("after", n)
        f.bus.flush(timeout=LIMIT)
        assert [msg.value for msg in heard] == [n]
        assert servers() == 1, servers()
        f.bus.close()
    f.role.close()
    assert f.bus not in with_callbacks | _with_links
    del f
    assert becomes(lambda: servers() + workers() == 0), f"{act} before line {n}: {servers()}, {workers()} threads are left"
    if descriptors() != before:
        gc.collect()
    # A thread that has ended lets go of its mailbox only then.
    assert becomes(lambda: descriptors() == before), f"{act} before line {n}: {descriptors() - before} descriptors are left"
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
        "register with workers",
        "first of a bus, with workers",
        "publish to workers",
        "first of a policy",
        "first of a bus",
        "first of a bus, in the past",
        "flush",
        "close the bus",
        "hold a role",
        "open a link",
        "leave",
    ],
)
def test_an_operation_may_be_interrupted_before_each_of_its_lines(operation, tmp_path):
    assert "close a callback before each of" in run(
        INTERRUPT, LIMIT=WATCHDOG, OPERATION=operation, FOLDER=str(tmp_path)
    )


# The same, where the callbacks' thread is interrupted: only a finalizer runs there.
IN_THE_THREAD = """
import contextlib, faulthandler, threading
import libbus


class Finalized:
    def __del__(self):
        self.act()


def round(name, act, n):
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    lines = 0
    bus = libbus.Bus()
    own = None  # for those of the first lines, which run before there is one
    done = threading.Event()

    def interrupt():
        with contextlib.suppress(libbus.ClosedError):  # the last lines run when it has ended
            act(late, own, bus, other)

    def trace(frame, event, arg):
        nonlocal lines
        if not frame.f_code.co_filename.endswith("libbus/_callbacks.py"):
            return None
        if event == "line" and threading.current_thread().name == "libbus-callbacks":
            lines += 1
            if lines == n:
                garbage = Finalized()
                garbage.act = interrupt
                del garbage
        return trace

    other = bus.subscribe("other", callback=lambda msg: None)
    threading.settrace(trace)
    late = libbus.Bus()  # its thread is the one that is traced
    try:
        late.on("a", lambda msg: done.set())
        threading.settrace(None)
        own = late.subscribe("own", callback=lambda msg: None)
        late.publish("a", 1)
        while not done.wait(0.01) and not late.closed:
            pass
        late.flush(timeout=LIMIT)
    except libbus.ClosedError:
        assert name == "close its bus"
    threading.settrace(None)
    late.close()
    bus.close()
    for thread in threading.enumerate():
        if thread.name == "libbus-callbacks":
            thread.join(LIMIT)
    assert threading.active_count() == 1, f"{name} before line {n}: {threading.enumerate()}"
    return lines >= n


# On the bus whose thread it is, and on another.
ACTS = {
    "close a callback of it": lambda late, own, bus, other: own and own.close(),
    "close its bus": lambda late, own, bus, other: late.close(LIMIT),
    "publish on it": lambda late, own, bus, other: late.publish("own", 1),
    "register on it": lambda late, own, bus, other: late.subscribe("more", callback=print),
    "register and close on it": lambda late, own, bus, other: late.subscribe("more", callback=print).close(),
    "register in another mailbox of it": lambda late, own, bus, other: late.on("more", print, full="latest"),
    "close a callback of another": lambda late, own, bus, other: other.close(),
    "close another": lambda late, own, bus, other: bus.close(),
    "publish on another": lambda late, own, bus, other: bus.publish("other", 1),
    "register on another": lambda late, own, bus, other: bus.subscribe("more", callback=print),
}
for name, act in ACTS.items():
    n = 1
    while round(name, act, n):
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


# A registration of one thread and the close of another between the lines of remove(), at each pair of them.
TWICE = """
import contextlib, faulthandler, sys
import libbus
from libbus._callbacks import with_callbacks


def interrupted(first, second):
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    bus = libbus.Bus()
    callback = bus.subscribe("a", callback=print)
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        if event == "call" and frame.f_code.co_name not in ("remove", "_keep"):
            return None
        if event == "line":
            lines += 1
            with contextlib.suppress(libbus.ClosedError):
                if lines == first:
                    bus.on("b", print)
                if lines == second:
                    bus.close()
        return trace

    sys.settrace(trace)
    callback.close()
    sys.settrace(None)
    if not bus.closed:  # a second close() would let it go
        bus.close()
    assert bus not in with_callbacks, f"registered before line {first}, closed before line {second}"
    return lines


lines = interrupted(0, 0)
for first in range(1, lines + 2):
    for second in range(first, lines + 2):
        interrupted(first, second)
print("fine" if lines > 2 else lines)
"""


def test_a_bus_that_closes_while_callbacks_come_and_go_is_let_go():
    assert run(TWICE, LIMIT=WATCHDOG) == "fine\n"
