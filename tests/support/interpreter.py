"""Runs a program in an interpreter of its own."""

import subprocess
import sys

from patience import WATCHDOG


def run(program, **names):
    """What the program printed; names: constants that it may use. It ends with status 0 and no word on stderr."""
    program = "".join(f"{name} = {value!r}\n" for name, value in names.items()) + program
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=2 * WATCHDOG,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout
