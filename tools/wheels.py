"""Builds a wheel for each CPython of 3.10 to 3.13 that is found here, with msgpack-c, jansson and mbedTLS inside.

`./dev wheel` runs it. pip builds each wheel as usual, then auditwheel copies the libraries into it and gives it its manylinux
tag. The interpreters share a build directory: only the extension is compiled for each.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
FACTS = """
import os, sys, sysconfig
try:
    import ensurepip, venv
except ImportError:
    sys.exit("has no venv")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    sys.exit("has no Python.h")
print("%d.%d" % sys.version_info[:2], sys.implementation.name)
"""


def candidates(version):
    """Yields the places of a Python of this version: PATH, pyenv's versions, /usr/bin."""
    for folder in os.environ.get("PATH", "").split(":"):
        yield Path(folder) / f"python{version}"
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False)
        folders = Path(root.stdout.strip()).glob(f"versions/{version}.*")
        # The newest first: 3.12.10 before 3.12.9.
        for folder in sorted(folders, key=lambda f: f.name.split(".")[-1].zfill(4), reverse=True):
            yield folder / "bin/python"
    yield Path(f"/usr/bin/python{version}")


def find(version):
    """Returns the interpreter, and the faults of those before it."""
    reasons = []
    for path in dict.fromkeys(candidates(version)):
        if not path.exists():
            continue
        done = subprocess.run([path, "-c", FACTS], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.split() == [version, "cpython"]:
            return path, []
        said = (done.stderr or done.stdout).strip().splitlines() or ["does not run"]
        reasons.append(f"{path}: {said[0]}")
    return None, reasons


def run(*command, log, **options):
    with log.open("a") as out:
        done = subprocess.run(command, stdout=out, stderr=out, check=False, **options)
    if done.returncode != 0:
        tail = "\n".join(log.read_text().splitlines()[-40:])
        raise SystemExit(f"{tail}\nwheels: {' '.join(map(str, command))} failed: see {log}")


def can_build(venv):
    command = [venv, "-c", "import mesonpy"]
    return (
        venv.exists() and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


def build(version, python, out):
    """The wheel of one interpreter, repaired. Returns its path."""
    here = out / version
    raw = here / "raw"
    log = here / "log"
    here.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    venv = here / "venv/bin/python"
    # This Python's pip, run by that one: faster than installing pip there.
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", venv)
    if not can_build(venv):
        run(python, "-m", "venv", "--clear", "--without-pip", here / "venv", log=log)
        run(*pip, "install", "meson>=1.0", "meson-python>=0.17", log=log)
    shutil.rmtree(raw, ignore_errors=True)
    for old in out.glob(f"libbus-*-cp{version.replace('.', '')}-*.whl"):
        old.unlink()
    path = f"{venv.parent}:{os.environ['PATH']}"
    run(
        *pip, "wheel", "--no-deps", "--no-build-isolation",
        "--config-settings=setup-args=-Dlinks=enabled", f"--config-settings=build-dir={out / 'build'}",
        "-w", raw, ROOT, log=log, env=os.environ | {"PATH": path},
    )  # fmt: skip
    (wheel,) = raw.glob("*.whl")
    run(sys.executable, "-m", "auditwheel", "repair", "-w", here / "repaired", wheel, log=log)
    (wheel,) = (here / "repaired").glob("*.whl")
    target = out / wheel.name
    shutil.move(wheel, target)
    return target


def main():
    parser = argparse.ArgumentParser(prog="dev wheel", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "versions",
        nargs="*",
        metavar="VERSION",
        help=f"{', '.join(VERSIONS)}; all of them unless given",
    )
    parser.add_argument(
        "--ends", action="store_true", help="for the oldest and the newest of those that are found"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build/wheels", help="build/wheels")
    options = parser.parse_args()
    for version in options.versions:
        if version not in VERSIONS:
            parser.error(f"{version}: libbus has wheels for {', '.join(VERSIONS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    pythons, wheels, missing = {}, {}, []
    for version in options.versions or VERSIONS:
        pythons[version], reasons = find(version)
        if pythons[version] is None:
            missing.append(version)
            print(f"Python {version}: not found", *reasons, sep="\n  ", flush=True)
    found = [version for version, python in pythons.items() if python]
    for version in dict.fromkeys((found[:1] + found[-1:]) if options.ends else found):
        python = pythons[version]
        wheel = build(version, python, options.out)
        wheels[wheel.name] = str(python)
        tag = re.sub(r".*-(\S+)\.whl", r"\1", wheel.name)
        print(
            f"Python {version}: {wheel.name}, {wheel.stat().st_size // 1024} KiB, for {tag}",
            flush=True,
        )
    (options.out / "pythons.json").write_text(json.dumps(wheels, indent=2) + "\n")
    if missing:
        print(f"not found, so without a wheel: {', '.join(missing)}")
    return not wheels or bool(missing and options.versions)


if __name__ == "__main__":
    sys.exit(main())
