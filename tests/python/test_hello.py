"""hello.c as its first line says: compiled by hand against an installed libbus."""

import os
import subprocess

import pytest
from patience import WATCHDOG
from programs import BUILD, REPO

import libbus

pytestmark = pytest.mark.xdist_group("hello")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A destdir, and the environment in which pkg-config and the loader find it."""
    destdir = tmp_path_factory.mktemp("destdir")
    subprocess.run(
        [
            "meson",
            "install",
            "-C",
            BUILD,
            "--no-rebuild",
            "--tags",
            "runtime,devel",
            "--destdir",
            destdir,
        ],
        check=True,
        capture_output=True,
        timeout=WATCHDOG,
    )
    (pc,) = destdir.rglob("libbus.pc")
    return os.environ | {
        "PKG_CONFIG_SYSROOT_DIR": str(destdir),
        "PKG_CONFIG_PATH": str(pc.parent),
        "LD_LIBRARY_PATH": str(pc.parent.parent),
    }


@pytest.mark.parametrize("compiler", ["cc", "c++ -x c++"])
def test_hello_compiles_by_hand_and_runs(installed, tmp_path, compiler):
    hello = REPO / "examples" / "c" / "hello.c"
    command = (
        f"{compiler} -Wall -Werror {hello} -o hello $(pkg-config --cflags --libs libbus) && ./hello"
    )
    done = subprocess.run(
        command,
        shell=True,
        check=False,
        cwd=tmp_path,
        env=installed,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
    )
    assert done.stderr == ""
    assert done.stdout == "room/kitchen/temperature is 21.5\n"


def test_the_untagged_value_of_hello_is_a_number_in_python(tmp_path):
    address = f"ipc://{tmp_path}/hello.sock"
    hello = subprocess.Popen(
        [BUILD / "examples" / "hello", address], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        with libbus.Bus() as bus, bus.subscribe("room/#") as room:
            bus.dial(address)
            message = room.recv(timeout=WATCHDOG)
        assert (message.encoding, message.value) == ("untagged", 21.5)
    finally:
        hello.communicate(timeout=WATCHDOG)
    assert hello.returncode == 0
