"""What ./dev and the build say on a machine that lacks things."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import readme

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300


@pytest.fixture
def bare(tmp_path):
    """Runs ./dev as a user without root, sudo and Python, on a Debian on which no package is installed."""
    for name in ("sh", "dirname", "date", "sed", "cat", "mkdir", "grep", "awk"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name, script in {"dpkg-query": "exit 1", "id": "echo 1000", "apt-get": "exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    def dev(*arguments):
        return subprocess.run(
            ["/bin/sh", ROOT / "dev", *arguments],
            env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    return dev


@pytest.mark.parametrize(
    ("command", "some"),
    [
        ("demo", ["gcc", "python3-venv", "python3-dev", "libmbedtls-dev"]),
        ("test", ["gcc", "python3-dev", "check", "nodejs", "libmsgpack-dev"]),
        ("install", ["gcc", "ninja-build", "python3-venv"]),
        ("bench", ["gcc", "valgrind", "libzmq3-dev"]),
        ("fuzz", ["gcc", "clang-14", "python3-venv"]),
        ("small", ["qemu-user", "ninja-build"]),
        ("bench-page", ["python3-venv"]),
    ],
)
def test_a_user_without_root_gets_one_line_with_all_packages(bare, command, some):
    done = bare(command)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "apt-get install" in line]
    packages = line.split("apt-get install")[1].split()
    assert set(some) <= set(packages)
    assert len(packages) == len(set(packages))
    assert "npm" not in line.split()


def test_check_says_at_once_that_it_needs_root(bare):
    assert "./dev check needs root or sudo" in bare("check").stderr


def test_an_unknown_command_is_named(bare):
    for arguments in (["foo"], ["foo", "--help"]):
        done = bare(*arguments)
        assert done.returncode != 0
        assert "'foo'" in done.stderr


def test_installing_the_c_library_asks_for_no_headers_of_python(bare):
    assert "python3-dev" not in bare("install").stderr


def test_help_needs_no_python(bare):
    for command in ("demo", "test", "install"):
        done = bare(command, "--help")
        assert done.returncode == 0, done.stderr
        assert f"  {command} " in done.stdout
        assert "not found" not in done.stderr


def test_readme_and_changes_name_the_version_of_meson_build():
    (version,) = re.findall(
        r"^  version: '(.+)',$", (ROOT / "meson.build").read_text(), re.MULTILINE
    )
    assert set(re.findall(r"Version (\d[\d.]*\d)", (ROOT / "README.md").read_text())) <= {version}
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version


def test_install_page_names_the_packages_that_dev_installs():
    line = readme.packages((ROOT / "docs/install.md").read_text())
    (for_c,) = [
        line for line in (ROOT / "dev").read_text().splitlines() if line.startswith("for_c=")
    ]
    named = set(line.split(" -y ")[1].split())
    assert named == {*for_c.split('"')[1].split(), "python3-dev", "python3-venv"}


def test_a_build_names_all_missing_packages_at_once(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cc", "gcc", "as", "ld", "ar", "ninja"):  # no pkg-config, no cmake
        (tools / name).symlink_to(shutil.which(name))
    meson = Path(sys.executable).parent / "meson"
    done = subprocess.run(
        [meson, "setup", tmp_path / "build", ROOT, "-Dpython=disabled"],
        env={"PATH": str(tools), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode != 0
    assert "not found: pkg-config, msgpack-c, jansson, Check" in done.stdout
    assert "apt install pkg-config libmsgpack-dev libjansson-dev check" in done.stdout
    assert "dnf install pkgconf-pkg-config msgpack-devel jansson-devel check-devel" in done.stdout
    assert "apk add pkgconf msgpack-c-dev jansson-dev check-dev" in done.stdout
    assert "pacman -S pkgconf msgpack-c jansson check" in done.stdout


def test_every_file_of_tests_is_run(request):
    # pytest passes over folders of some names without a word; `./dev test` gives it tests/ alone.
    if request.config.args == ["tests"] and request.config.invocation_params.dir == ROOT:
        run = {str(path.relative_to(ROOT)) for path in request.session.files_with_tests}
    else:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "--collect-only",
                "-q",
                "-m",
                "check or not check",
                "tests",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        run = {line.split("::")[0] for line in done.stdout.splitlines() if "::" in line}
    # Those of tests/taipy run in an environment of their own, by ./dev taipy.
    there = {str(p.relative_to(ROOT)) for p in (ROOT / "tests").rglob("test_*.py")}
    assert {name for name in there if not name.startswith("tests/taipy/")} == run


@pytest.mark.parametrize(
    ("programs", "python", "status", "says"),
    [
        ("OK OK", (7, 0, 1), 0, "C: 12 cases in 2 programs; Python: 6 tests, 1 skipped"),
        ("OK FAIL", (7, 0, 0), 1, "C: 12 cases in 2 programs, failed: p1; Python: 7 tests"),
        ("OK", (7, 2, 0), 1, "C: 6 cases in 1 program; Python: 7 tests, 2 failed"),
        ("OK", None, 1, "C: 6 cases in 1 program; Python: did not run"),
        ("", (7, 0, 0), 1, "C: 0 cases in 0 programs; Python: 7 tests"),
    ],
)
def test_one_line_sums_up_all_tests(tmp_path, programs, python, status, says):
    lines = [
        {
            "name": f"unit - libbus:p{n}",
            "result": result,
            "stdout": "100%: Checks: 6, Failures: 0, Errors: 0",
        }
        for n, result in enumerate(programs.split())
    ]
    (tmp_path / "c").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if python:
        tests, failures, skipped = python
        (tmp_path / "py").write_text(
            f'<testsuites><testsuite tests="{tests}" failures="{failures}" errors="0" skipped="{skipped}"/></testsuites>'
        )
    done = subprocess.run(
        [sys.executable, ROOT / "tools/test_sum.py", tmp_path / "c", tmp_path / "py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (status, says)
