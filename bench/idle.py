"""The resident memory of an idle Subscription in Python: the growth of a process with 200 of them.

    ./dev bench idle

Small blocks first use up what malloc has had before and is resident already; and one ring has come and gone, as in any
program that has run for a while. Each row is a process of its own.
"""

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import libbus

MANY = 200
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident():
    """Memory of the process alone: all processes share the pages of a log, and each maps all of them over time."""
    gc.collect()
    whole, shared = Path("/proc/self/statm").read_text().split()[1:3]
    return (int(whole) - int(shared)) * PAGE


def measure(bus, full):
    """Bytes for each."""
    bus.subscribe("gone", full=full).close()
    blocks = [bytes(size) for size in range(16, 4096, 16) for _ in range(100)]
    before = resident()
    held = [bus.subscribe(f"site/{n}/temp", full=full) for n in range(MANY)]
    grown = resident() - before
    del held, blocks
    return grown // MANY


def main():
    if len(sys.argv) == 3:
        kind, full = sys.argv[1:]
        with tempfile.TemporaryDirectory() as folder:
            named = {"name": "idle", "directory": folder} if kind == "named" else {}
            with libbus.Bus(**named) as bus:
                print(f"idle Subscription, {kind} bus, {full}: {measure(bus, full) / 1024:.1f} KiB")
        return
    for kind in ("private", "named"):
        for full in ("drop_oldest", "latest"):
            subprocess.run([sys.executable, __file__, kind, full], check=True)


if __name__ == "__main__":
    main()
