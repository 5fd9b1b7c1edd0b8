"""python -m libbus prints the version and features of this libbus; with arguments it runs the command `libbus`."""

import pathlib
import platform
import sys
import sysconfig

import libbus
from libbus import _core
from libbus._command import PROGRAM
from libbus._command import main as command


def main() -> None:
    if len(sys.argv) > 1:
        command()
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    facts = {
        "libbus": libbus.__version__,
        "python": f"{platform.python_version()} ({'with' if gil else 'without'} GIL), {sysconfig.get_platform()}",
        "installed": pathlib.Path(_core.__file__).parent,
        "links": _core.TRANSPORTS,
        "command": PROGRAM if PROGRAM.exists() else "missing",
    }
    for name, fact in facts.items():
        print(f"{name:10} {fact}")


if __name__ == "__main__":
    main()
