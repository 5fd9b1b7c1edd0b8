"""A subscription that has had no message costs what its state costs, not the room for messages that may come."""

import subprocess
import sys
from pathlib import Path

from patience import WATCHDOG

PROGRAM = Path(__file__).resolve().parents[2] / "bench/idle.py"
MOST_KIB = 8


def test_an_idle_subscription_is_a_few_kib():
    done = subprocess.run(
        [sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        timeout=2 * WATCHDOG,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    sizes = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert len(sizes) == 4
    for what, size in sizes.items():
        assert float(size.removesuffix(" KiB")) < MOST_KIB, what
