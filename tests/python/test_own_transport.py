"""The example of a transport that a program brings: two processes, joined by FIFOs."""

import re
import subprocess
import tempfile

import pytest
from patience import WATCHDOG
from programs import BUILD

PROGRAM = BUILD / "examples" / "over_fifos"


def run(*arguments):
    return subprocess.run(
        [PROGRAM, *arguments], check=False, capture_output=True, text=True, timeout=WATCHDOG
    )


@pytest.fixture
def address():
    """A folder with a short path: errors cut long paths, and pytest's are long."""
    with tempfile.TemporaryDirectory(prefix="libbus-") as folder:
        yield f"fifo://{folder}/bus"


def test_a_bus_reaches_another_process_over_fifos(address):
    listening = subprocess.Popen(
        [PROGRAM, "listen", address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in range(2):
            dialled = run("dial", address)
            assert (dialled.returncode, dialled.stderr) == (0, "")
            assert dialled.stdout == "room/kitchen/temperature is 21.5\n"
        taken = run("listen", address)
        assert taken.returncode == 1
        assert f"{address}: address in use" in taken.stderr
    finally:
        listening.communicate("\n", timeout=WATCHDOG)
    assert listening.returncode == 0


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    done = run("dial", "smoke://hill")
    assert done.returncode == 1
    # tls is among them in a build that has mbedTLS.
    assert re.search(
        "unknown scheme: this process has inproc, ipc, tcp,(?: tls,)? fifo", done.stderr
    )
