"""What is published besides wheels, and what pip prints where the libraries are missing. `./dev wheel` runs this file by name.

It needs build, twine, cibuildwheel and the wheels in LIBBUS_WHEELS; the slow half needs LIBBUS_SLOW (./dev soak).
"""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hidden_root import in_hidden_root
from patience import WATCHDOG

ROOT = Path(__file__).resolve().parents[2]
WHEELS = Path(os.environ["LIBBUS_WHEELS"])
SYSTEMS = {
    "Debian, Ubuntu:  apt install": ["libmbedtls-dev", "libmsgpack-dev", "libjansson-dev"],
    "Fedora:          dnf install": ["mbedtls-devel", "msgpack-devel", "jansson-devel"],
    "Alpine:          apk add": ["mbedtls-dev", "msgpack-c-dev", "jansson-dev"],
    "Arch:            pacman -S": ["mbedtls", "msgpack-c", "jansson"],
}
slow = pytest.mark.skipif("LIBBUS_SLOW" not in os.environ, reason="minutes: ./dev soak runs it")


def run(*command, status=0, **options):
    done = subprocess.run(
        [*map(str, command)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=10 * WATCHDOG,
        **options,
    )
    assert (done.returncode == 0) == (status == 0), f"{command}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", out, ROOT)
    (sdist,) = out.glob("libbus-*.tar.gz")
    return sdist


def test_cibuildwheel_builds_each_python_for_two_c_libraries_and_three_machines():
    command = [sys.executable, "-m", "cibuildwheel", "--platform", "linux"]
    listed = run(*command, "--print-build-identifiers", ROOT, env=os.environ | {"CI": "true"})
    found = {line for line in listed.splitlines() if re.fullmatch(r"cp\d+-\w+linux_\w+", line)}
    assert found == {
        f"cp3{minor}-{libc}linux_{machine}"
        for minor in range(10, 14)
        for libc in ("many", "musl")
        for machine in ("x86_64", "aarch64", "armv7l")
    }


def test_an_index_takes_the_wheels_and_the_sdist(sdist):
    out = run(sys.executable, "-m", "twine", "check", "--strict", *WHEELS.glob("*.whl"), sdist)
    assert "PASSED" in out


def test_sdist_holds_what_a_build_and_its_tests_read(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run("git", "-C", ROOT, "ls-files", "-z").split("\0")[:-1]
    assert not [name for name in tracked if name not in names and (ROOT / name).exists()]
    assert "PKG-INFO" in names


def pip_install(source, target, keep=(), status=0):
    """What pip prints in a root without the libraries, with nothing from an index."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--no-index",
    ]
    command += ["--no-deps", "--no-build-isolation", "--target", target, source]
    return run(*in_hidden_root(*command, keep=("ld", *keep)), status=status)


@pytest.mark.parametrize("source", ["folder", "sdist"])
def test_pip_stops_with_the_packages_to_install(source, sdist, tmp_path):
    out = pip_install(ROOT if source == "folder" else sdist, tmp_path, status=1)
    print(out)
    wanted = (
        "not found: msgpack-c, jansson, mbedTLS (for passwords and tls links). Install the packages"
    )
    assert wanted in out
    last = out[out.index(wanted) :]
    for command, packages in SYSTEMS.items():
        (line,) = [line for line in last.splitlines() if command in line]
        assert set(packages) == set(line.split(command)[1].split())


@slow
def test_pip_builds_without_mbedtls(sdist, tmp_path):
    keep = ("msgpack", "jansson")
    print(pip_install(sdist, tmp_path, keep=keep))
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}

    def python(*arguments):
        return run(*in_hidden_root(sys.executable, *arguments, keep=keep), env=environ)

    facts = python("-m", "libbus")
    assert re.search(r"^links +inproc, ipc, tcp$", facts, re.MULTILINE), facts
    print(python(ROOT / "tests/project/use_without_mbedtls.py"))
