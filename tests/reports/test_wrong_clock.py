"""A clock that was an hour ahead when the first value was published, and has been corrected since."""

import os
import subprocess
import time

from patience import WATCHDOG
from programs import LIBBUS

import libbus

# Shifts CLOCK_REALTIME of a process by WALL_OFFSET seconds.
SHIM = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ts) {
	int r = (int)syscall(SYS_clock_gettime, id, ts);
	const char *by = getenv("WALL_OFFSET");
	if (r == 0 && by && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) ts->tv_sec += atol(by);
	return r;
}
"""


def eventually(condition):
    deadline = time.monotonic() + WATCHDOG
    while not condition():
        assert time.monotonic() < deadline, "never became true"
        time.sleep(0.001)


def kept(bus):
    with bus.subscribe("room/#") as values:
        return [msg.value for msg in values.iter(timeout=0) if msg.kept]


def test_the_last_value_wins_whatever_the_clock_of_its_publisher_says(tmp_path):
    shim, url = tmp_path / "shim.so", f"ipc://{tmp_path}/socket"
    (tmp_path / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "shim.c", "-o", shim], check=True)

    def publish(offset, value):
        subprocess.run(
            [LIBBUS, "pub", "--dial", url, "--retain", "room/lamp", value],
            env={**os.environ, "LD_PRELOAD": str(shim), "WALL_OFFSET": str(offset)},
            check=True,
            timeout=WATCHDOG,
        )

    with libbus.Bus() as bus, bus.subscribe("room/#"):
        bus.listen(url)
        publish(3600, "before the clock was set back")
        eventually(lambda: kept(bus) == ["before the clock was set back"])
        bus.publish("room/lamp", "here")
        bus.publish("room/lamp", "on", retain=True)
        assert kept(bus) == ["on"]
        bus.publish_raw("room/lamp", b"", retain=True)
        assert kept(bus) == []
        with libbus.Bus() as late:
            late.publish("room/lamp", "old", retain=True)
            late.subscribe("room/#")
            late.dial(url)
            eventually(lambda: kept(late) == [])
        assert kept(bus) == []
