"""A call that waits for another writer of a named bus leaves the interpreter to other threads, and a damaged log is an error."""

import mmap
import struct
import subprocess
import sys
import threading
import time

import pytest
from patience import WATCHDOG

import libbus

TAIL = 128  # docs/internals/log-format.md
TRIES = 5

# A second member, which lives for as long as its standard input is open.
MEMBER = """
import libbus, sys
with libbus.Bus("report-gil", directory=sys.argv[1]):
    print("here", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def log(tmp_path):
    """The bus, with a second member, and its log."""
    with libbus.Bus("report-gil", directory=str(tmp_path)) as bus:
        other = subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert other.stdout.readline() == b"here\n"
        with (
            open(tmp_path / "report-gil.bus", "r+b") as file,
            mmap.mmap(file.fileno(), 4096) as head,
        ):
            yield bus, head
        other.communicate()


@pytest.fixture
def ticks():
    """Counts while it gets the interpreter, which no thread has to give up unless it waits."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    counted, over = [0], threading.Event()

    def count():
        while not over.is_set():
            counted[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    yield counted
    over.set()
    thread.join()
    sys.setswitchinterval(before)


def own_tail(head, slot):
    """As if that member had begun to append and was stopped."""
    (word,) = struct.unpack_from("=Q", head, TAIL)
    struct.pack_into("=Q", head, TAIL, word & ~(1023 << 2) | (slot + 1) << 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda bus: bus.publish("t", 1),
        lambda bus: bus.publish("t", 1, retain=True),
        lambda bus: bus.publish_raw("t", b"1"),
    ],
    ids=["publish", "retain", "publish_raw"],
)
def test_other_threads_run_while_a_publish_waits_for_a_stopped_writer(log, ticks, call):
    bus, head = log
    for _ in range(TRIES):
        own_tail(head, 1)
        before = ticks[0]
        call(bus)
        if ticks[0] > before:
            return
    pytest.fail("the interpreter was not left to the other thread")


def test_damage_is_raised_where_a_program_publishes_and_where_it_waits(log):
    bus, head = log
    seen = []
    bus.on("t", seen.append)
    with bus.subscribe("t") as sub:
        struct.pack_into("=Q", head, TAIL, 777777777 << 12 | 1000 << 2)
        with pytest.raises(libbus.TransportError, match=r"report-gil\.bus is damaged"):
            sub.recv(timeout=WATCHDOG)
        with pytest.raises(libbus.TransportError, match="open it again"):
            bus.publish("t", 1)
        assert not seen
