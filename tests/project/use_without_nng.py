"""Uses a libbus that was built without NNG: private and named buses work, dialling and listening name the package. Run by packages.py."""

import os
import subprocess
import sys

import libbus

MISSING = "this libbus was built without NNG: install libnng-dev"


def refuses(call, address):
    try:
        call(address)
    except libbus.NotSupportedError as error:
        print(f"{type(error).__name__}: {error}")
        assert MISSING in str(error)
    else:
        raise AssertionError(f"{call} takes {address}")


def main():
    name = f"without-nng-{os.getpid()}"
    for bus in (libbus.Bus(), libbus.Bus(name)):
        with bus, bus.subscribe("room/#") as room:
            bus.publish("room/door", "open")
            assert room.recv(timeout=60).value == "open"
            for address in ("tcp://127.0.0.1:0", "ipc:///tmp/x.sock"):
                refuses(bus.dial, address)
                refuses(bus.listen, address)
    done = subprocess.run(
        [sys.executable, "-m", "libbus", "sub", "--dial", "tcp://127.0.0.1:1", "room/#"],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stderr, end="")
    assert done.returncode != 0
    assert MISSING in done.stderr


main()
