"""The wheel on a machine that has neither libnng nor msgpack-c nor jansson: it brings its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from patience import WATCHDOG

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LIBBUS_BUILD", ROOT / "build"))

# Runs "$@" in a mount namespace in which the system's copies of these libraries are empty files.
HIDE = """
set -e
for so in $(ldconfig -p | sed -n 's/.*=> //p' | grep -E '/lib(nng|msgpackc?|msgpack-c|jansson|mbed[a-z0-9]*)\\.so'); do
    mount --bind /dev/null "$so"
done
exec "$@"
"""

USE = textwrap.dedent(
    """
    import ctypes, sys
    for name in ("libnng.so.1", "libmsgpackc.so.2", "libjansson.so.4"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        sys.exit(f"{name} of the system is not hidden: this test would prove nothing")
    import libbus
    assert "site-packages" in libbus.__file__
    with libbus.Bus() as here, libbus.Bus() as there:
        address = here.listen("tcp://127.0.0.1:0").url
        there.dial(address)
        with there.subscribe("room/#") as room:
            here.publish("room/kitchen", {"celsius": 21.5}, retain=True)
            message = room.recv()
    assert message.value == {"celsius": 21.5}, message
    print("received", message.value)
    """
)


def run(*command, **options):
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=3 * WATCHDOG, **options
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def repaired(tmp_path_factory):
    (wheel,) = (BUILD / "wheelhouse").glob("libbus-*.whl")
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "auditwheel", "repair", "-w", out, wheel)
    (wheel,) = out.glob("*.whl")
    return wheel


def in_hidden_root(*command):
    outer = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        outer += ["--map-root-user"]
    return run(*outer, "sh", "-c", HIDE, "sh", *command)


def test_wheel_publishes_and_receives_where_no_library_of_its_is_installed(repaired, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    run(tmp_path / "venv/bin/python", "-m", "pip", "install", "--no-index", "--no-deps", repaired)
    assert "received" in in_hidden_root(tmp_path / "venv/bin/python", "-I", "-c", USE)
    assert "0.1.0" in in_hidden_root(tmp_path / "venv/bin/libbus", "--version")


def test_wheel_holds_no_headers_and_no_second_library(repaired):
    names = run(sys.executable, "-m", "zipfile", "-l", repaired).split()
    assert not [n for n in names if n.endswith((".h", "libbus.so"))]
    assert "libbus/py.typed" in names
    assert "libbus/static/libbus.js" in names
    assert "libbus/static/plot.js" in names
