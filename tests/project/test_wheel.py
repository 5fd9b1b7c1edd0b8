"""A wheel on a machine that has neither msgpack-c nor jansson nor mbedTLS and no network: it brings its own.

`./dev test` looks at the one for its own Python; `./dev wheel` at all that tools/wheels.py built (LIBBUS_WHEELS is their folder).
"""

import configparser
import email
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hidden_root import in_hidden_root
from patience import WATCHDOG

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LIBBUS_BUILD", ROOT / "build"))
WHEELS = os.environ.get("LIBBUS_WHEELS")

pytestmark = pytest.mark.xdist_group("wheel")

# Of a library that a wheel has to bring: its text in the wheel's licences.
LICENCES = {
    "msgpackc": "msgpack-c.txt",
    "jansson": "jansson.txt",
    "mbed": "mbedtls.txt",
}


def run(*command, **options):
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=3 * WATCHDOG, **options
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def pythons():
    """The wheels to test and the interpreter of each; None: the one that ./dev test has built, for this one."""
    if WHEELS is None:
        return [None]
    return sorted(json.loads((Path(WHEELS) / "pythons.json").read_text()).items())


@pytest.fixture(scope="module", params=pythons(), ids=lambda it: it[0] if it else "own")
def wheel(request, tmp_path_factory):
    """The wheel as it would be published, and an interpreter that it is for."""
    if request.param is not None:
        name, python = request.param
        return Path(WHEELS) / name, python
    (wheel,) = (BUILD / "wheelhouse").glob("libbus-*.whl")
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "auditwheel", "repair", "-w", out, wheel)
    (wheel,) = out.glob("*.whl")
    return wheel, sys.executable


@pytest.fixture(scope="module")
def names(wheel):
    return zipfile.ZipFile(wheel[0]).namelist()


@pytest.fixture(scope="module")
def metadata(wheel, names):
    (name,) = [n for n in names if n.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(zipfile.ZipFile(wheel[0]).read(name))


def test_wheel_works_where_no_library_of_its_is_installed(wheel, tmp_path):
    path, python = wheel
    venv = tmp_path / "venv"
    run(python, "-m", "venv", "--without-pip", venv)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin/python"]
    run(*in_hidden_root(*pip, "install", "--no-index", path))
    out = run(*in_hidden_root(venv / "bin/python", "-I", ROOT / "tests/project/use_wheel.py"))
    assert re.search(r"^extension: _core\S*\.so", out, re.MULTILINE), out
    version = path.name.split("-")[1]
    assert run(*in_hidden_root(venv / "bin/libbus", "--version")) == f"libbus {version}\n"
    print(out)


def test_nothing_of_the_system_would_do_in_its_place():
    look = "import ctypes, sys\ntry: ctypes.CDLL(sys.argv[1])\nexcept OSError: print('hidden')"
    for name in ("libmsgpackc.so.2", "libjansson.so.4", "libmbedtls.so.14"):
        assert run(*in_hidden_root(sys.executable, "-c", look, name)) == "hidden\n", name


def test_wheel_holds_no_headers_and_no_second_library(names):
    assert not [n for n in names if n.endswith((".h", "libbus.so"))]
    assert "libbus/py.typed" in names
    assert "libbus/static/libbus.js" in names
    assert "libbus/static/libbus.mjs" in names
    assert "libbus/static/libbus.d.ts" in names
    assert "libbus/static/plot.js" in names


def test_wheel_holds_the_licence_of_each_library_that_it_brings(names):
    brought = {n.split("/")[-1] for n in names if ".libs/lib" in n}
    unknown = [n for n in brought if not re.match(f"lib({'|'.join(LICENCES)})", n)]
    assert not unknown, f"no licence is known for {unknown}: add it to bindings/python/licenses"
    licences = {n.split("/")[-1] for n in names if ".dist-info/licenses/" in n}
    assert licences >= {"LICENSE", *LICENCES.values()}


def test_wheel_names_the_oldest_system_that_it_runs_on(wheel):
    assert re.search(r"-(manylinux|musllinux)_\d+_\d+_\w+\.whl$", wheel[0].name), wheel[0].name


def test_metadata_tells_what_an_index_shows(metadata, names, wheel):
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# libbus\n")
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"
    assert "publish-subscribe" in metadata["Keywords"]
    versions = {f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)}
    assert versions <= set(metadata.get_all("Classifier"))
    assert {"flask", "msgspec", "numpy"} <= set(metadata.get_all("Provides-Extra"))
    (entry,) = [n for n in names if n.endswith("entry_points.txt")]
    scripts = configparser.ConfigParser()
    scripts.read_string(zipfile.ZipFile(wheel[0]).read(entry).decode())
    assert scripts["console_scripts"]["libbus"] == "libbus._command:main"
