"""Subscriptions of one program lock no other program out of the bus, however many there are."""

import subprocess
import sys

from patience import WATCHDOG

import libbus

SUBSCRIPTIONS = 600

SUBSCRIBE = """
import libbus, sys
with libbus.Bus("report-readers", directory=sys.argv[1]) as bus, bus.subscribe("door/#") as door:
    print(bus.log_stats()["readers"])
    bus.publish("room/599", "hello")
    bus.publish("door/1", "open")
    print(next(door.iter(timeout=float(sys.argv[2]))).value)
"""


def test_six_hundred_subscriptions_of_a_process_are_one_reader(tmp_path):
    with libbus.Bus("report-readers", directory=str(tmp_path)) as bus:
        rooms = [bus.subscribe(f"room/{i}") for i in range(SUBSCRIPTIONS)]
        assert bus.log_stats()["readers"] == 1
        other = subprocess.run(
            [sys.executable, "-c", SUBSCRIBE, tmp_path, str(WATCHDOG)],
            capture_output=True,
            text=True,
            timeout=2 * WATCHDOG,
            check=False,
        )
        assert (other.stdout.split(), other.stderr) == (["2", "open"], "")
        assert next(rooms[599].iter(timeout=WATCHDOG)).value == "hello"
        for room in rooms:
            room.close()
        assert bus.log_stats()["readers"] == 0
