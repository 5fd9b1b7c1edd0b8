"""The command `libbus` of a wheel: a C program beside this file."""

import os
import pathlib
import sys

PROGRAM = pathlib.Path(__file__).with_name("bin") / "libbus"


def main() -> None:
    if not PROGRAM.exists():
        sys.exit(f"libbus: {PROGRAM} is missing: build libbus with its command (-Dtools=true)")
    os.execv(PROGRAM, ["libbus", *sys.argv[1:]])
