"""Compares the interface of libbus.so with tests/build/libbus.abi, or records it there.

Run: ./dev abi [--remake]. The library must have debug information. Needs abidw and abidiff (abigail-tools).
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

RECORD = Path(__file__).resolve().parents[1] / "tests/build/libbus.abi"
# The record holds what programs see: no private types, no lines or paths of a machine.
OPTIONS = (
    "--drop-private-types --exported-interfaces-only --no-show-locs --no-corpus-path --no-comp-dir-path --no-elf-needed"
    " --no-write-default-sizes --no-parameter-names --type-id-style hash"
)
INCOMPATIBLE = 8  # a bit of abidiff's status
FAILED = 3  # these bits: abidiff itself failed


def record(prefix, out):
    done = subprocess.run(
        [
            "abidw",
            "--headers-dir",
            prefix / "include/libbus",
            *OPTIONS.split(),
            "--out-file",
            out,
            prefix / "lib/libbus.so",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"abidw could not read {prefix}/lib/libbus.so:\n{done.stdout}{done.stderr}")
    # Paths of sources begin at the build directory; here they begin at the root of the project.
    text = out.read_text()
    out.write_text(re.sub(r"path='[^']*?(libbus/\w+/\w+\.c)'", r"path='\1'", text))


def compare(before, now):
    """The report of abidiff, and False where it found a removed symbol. None: nothing changed."""
    done = subprocess.run(["abidiff", before, now], check=False, capture_output=True, text=True)
    if done.returncode & FAILED:
        sys.exit(f"abidiff failed:\n{done.stdout}{done.stderr}")
    if done.returncode == 0:
        return None
    return done.stdout, not done.returncode & INCOMPATIBLE


def main():
    parser = argparse.ArgumentParser(description="The interface of libbus.so and its record.")
    parser.add_argument("prefix", type=Path, help="the folder that libbus is installed in")
    parser.add_argument("--remake", action="store_true", help="record the interface as it is")
    parser.add_argument("--record", type=Path, default=RECORD, help="another file than %(default)s")
    options = parser.parse_args()
    if options.remake:
        record(options.prefix, options.record)
        print(f"recorded in {options.record}")
        return
    with tempfile.TemporaryDirectory() as folder:
        now = Path(folder) / "now.abi"
        record(options.prefix, now)
        changed = compare(options.record, now)
    if changed is None:
        print("the interface is the recorded one")
        return
    text, compatible = changed
    print(text)
    print(
        "The interface differs from its record, tests/build/libbus.abi. "
        + (
            "Compiled programs still work if functions were only added, and fields only at the end of a struct with a size."
            if compatible
            else "Compiled programs that call what was removed break: the new version needs another soname."
        )
        + "\nIf you mean this change, record it with ./dev abi --remake and commit the file with the change."
    )
    sys.exit(1)


if __name__ == "__main__":
    main()
