"""Signals, fork, and how an interpreter ends, each in a process of its own."""

import signal
import subprocess
import sys
import time

import pytest
from patience import WATCHDOG


def test_ctrl_c_interrupts_recv_at_once():
    program = (
        "import libbus; s = libbus.Bus().subscribe('a'); print('waiting', flush=True); s.recv()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        while "poll" not in waits_in(process.pid):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=WATCHDOG)
    assert stderr.endswith("KeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT


def waits_in(pid):
    with open(f"/proc/{pid}/wchan") as file:
        return file.read()


def test_a_signal_handler_may_close_the_subscription_in_recv(python):
    assert (
        python("""
import libbus, signal
sub = libbus.Bus().subscribe("a")
signal.signal(signal.SIGALRM, lambda *_: sub.close())
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    sub.recv()
except libbus.ClosedError:
    print("closed")
""")
        == "closed\n"
    )


def test_a_handled_signal_does_not_end_the_wait(python):
    assert (
        python("""
import libbus, signal
bus = libbus.Bus()
sub = bus.subscribe("a")
signal.signal(signal.SIGALRM, lambda *_: bus.publish("a", "from the handler"))
signal.setitimer(signal.ITIMER_REAL, 0.05)
print(sub.recv().value)
""")
        == "from the handler\n"
    )


def test_a_forked_child_gets_fork_error_and_may_open_its_own(python):
    out = python("""
import libbus, os, sys
bus = libbus.Bus(on_fork="close")
sub, seen = bus.subscribe("a"), []
bus.on("a", seen.append)
link = bus.listen("tcp://127.0.0.1:0")
bus.publish("a", 1)
pid = os.fork()
if pid == 0:
    for call in (lambda: bus.publish("a", 2), bus.stats, bus.flush, sub.recv, sub.recv_nowait, link.stats,
                 lambda: bus.subscribe("a"), lambda: bus.on("a", print), lambda: next(sub)):
        try:
            call()
            print("no error")
        except libbus.ForkError as error:
            assert "open a new one in the child" in str(error)
    print(bus.closed, bus.close(), sub.close())
    with libbus.Bus() as own, own.subscribe("a") as heard:
        own.publish("a", "child")
        print(heard.recv().value)
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
bus.publish("a", 3)
bus.flush(5)
print([msg.value for msg in sub.iter(0)], [msg.value for msg in seen])
""")
    assert out == "True 0 None\nchild\n[1, 3] [1, 3]\n"


def test_a_child_forked_inside_the_block_leaves_it_quietly(python):
    assert (
        python("""
import libbus, os, sys
with libbus.Bus(on_fork="close") as bus:
    bus.on("a", print)
    pid = os.fork()
if pid == 0:
    sys.exit()
print(os.waitpid(pid, 0)[1])
""")
        == "0\n"
    )


def test_a_forked_child_releases_the_buses_of_its_parent_and_ends_none(python):
    out = python("""
import gc, libbus, os, weakref
from libbus._callbacks import with_callbacks
heard = []
bus = libbus.Bus(on_fork="close")
bus.on("a", heard.append)
find = weakref.ref(bus)
pid = os.fork()
if pid == 0:
    left = len(with_callbacks)
    del bus
    gc.collect()
    print(left, find(), flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
bus.publish("a", 1)
bus.flush(5)
print(len(with_callbacks), [msg.value for msg in heard])
""")
    assert out == "0 None\n1 [1]\n"


LIVE = """
import libbus, threading
bus = libbus.Bus()
peer = libbus.Bus()
peer.dial(bus.listen("{url}").url)
heard = threading.Event()
peer.on("a/#", lambda msg: heard.set())
bus.on("a/#", lambda msg: msg.value)
sub = bus.subscribe("a/#")
def publish():
    try:
        while True:
            bus.publish("a/b", [1, 2, 3])
            peer.publish("a/c", "x")
    except libbus.ClosedError:
        pass
def listen():
    for msg in sub:
        msg.value
for target in (publish, publish, listen):
    threading.Thread(target=target, daemon=True).start()
heard.wait()
{end}
"""


@pytest.mark.parametrize(
    "end",
    ["", "raise SystemExit", "bus.close()", "peer.close(0); sub.close()"],
)
@pytest.mark.parametrize("url", ["inproc://live", "tcp://127.0.0.1:0"])
def test_an_interpreter_with_live_traffic_ends_quietly(python, end, url):
    for _ in range(3):
        python(LIVE.format(end=end, url=url))


def test_callbacks_finish_before_the_interpreter_ends(python):
    assert (
        python("""
import libbus, time
bus = libbus.Bus()
bus.on("a", lambda msg: (time.sleep(0.05), print(msg.value)))
bus.publish("a", 1)
bus.publish("a", 2)
""")
        == "1\n2\n"
    )


def test_objects_may_outlive_their_bus_and_module_in_any_order(python):
    python("""
import gc, itertools, libbus
for order in itertools.permutations(range(4)):
    bus = libbus.Bus()
    sub = bus.subscribe("a")
    bus.publish("a", [1])
    things = [bus, sub, sub.recv(), bus.listen("tcp://127.0.0.1:0")]
    del bus, sub
    for at in order:
        things[at] = None
        gc.collect()
cycle = []
cycle.extend([cycle, libbus.Bus(), libbus])
""")


def test_reloading_the_module_does_not_leak(python):
    python("""
import gc, importlib, sys, libbus._core
for _ in range(5):
    core = sys.modules.pop("libbus._core")
    again = importlib.import_module("libbus._core")
    assert again.Bus is not core.Bus
    try:
        again.Mailbox(core.Bus())
    except TypeError:
        pass
    bus = again.Bus()
    again.Mailbox(bus).subscribe("a")
    del core, again, bus
    gc.collect()
""")
