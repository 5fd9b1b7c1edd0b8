"""Runs the built C programs as a user would: as processes, over real sockets."""

import contextlib
import os
import pathlib
import subprocess
import tempfile
import threading

import pytest
from patience import WATCHDOG

REPO = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("LIBBUS_BUILD", REPO / "build"))
LIBBUS = BUILD / "tools" / "libbus"
HELLO = BUILD / "examples" / "hello"
HOST_SENSORS = BUILD / "examples" / "host_sensors"


def run(program, *args, stdin=b""):
    return subprocess.run(
        [program, *args], input=stdin, capture_output=True, timeout=WATCHDOG, check=False
    )


@contextlib.contextmanager
def started(program, *args, **streams):
    """A running program, with text pipes; killed when the block ends or the watchdog bites."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | streams
    with subprocess.Popen([program, *args], text=True, **pipes) as process:
        watchdog = threading.Timer(WATCHDOG, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


@pytest.fixture(name="ipc")
def ipc_address():
    """An address in a new short directory: pytest's paths are too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="libbus-") as folder:
        yield f"ipc://{folder}/bus.sock"
