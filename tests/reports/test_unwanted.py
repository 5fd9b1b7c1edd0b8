"""Sleeping subscriptions do not wake for messages that they do not want: one thread of the process looks at them for all."""

import subprocess
import sys
import threading
from pathlib import Path

from patience import WATCHDOG

import libbus

SUBSCRIPTIONS = 200
MESSAGES = 1000

PUBLISH = """
import libbus, sys, time
with libbus.Bus("report-unwanted", directory=sys.argv[1]) as bus:
    for _ in range(int(sys.argv[2])):
        bus.publish("other/x", {"t": 1})
        time.sleep(0.0005)
"""


def switches():
    """How often threads of this process went to sleep so far."""
    count = 0
    for status in Path("/proc/self/task").glob("*/status"):
        try:
            lines = status.read_text().splitlines()
        except OSError:
            continue  # it has ended
        count += sum(int(x.split()[1]) for x in lines if x.startswith("voluntary_ctxt_switches"))
    return count


def test_unwanted_messages_wake_one_thread_however_many_sleep(tmp_path):
    got = threading.Semaphore(0)

    def listen(messages):
        next(messages.iter(timeout=WATCHDOG))
        got.release()

    with libbus.Bus("report-unwanted", directory=str(tmp_path)) as bus:
        subscriptions = [bus.subscribe("room/#") for _ in range(SUBSCRIPTIONS)]
        threads = [threading.Thread(target=listen, args=(s,)) for s in subscriptions]
        for thread in threads:
            thread.start()
        before = switches()
        subprocess.run(
            [sys.executable, "-c", PUBLISH, tmp_path, str(MESSAGES)],
            check=True,
            timeout=2 * WATCHDOG,
        )
        woken = switches() - before
        bus.publish("room/end", None)
        for _ in threads:
            assert got.acquire(timeout=WATCHDOG)
        for thread in threads:
            thread.join(WATCHDOG)
    # One thread for each message; each goes to rest once, and some may wait for the interpreter's lock before that.
    assert woken < 3 * MESSAGES + 10 * SUBSCRIPTIONS
