"""The stubs list exactly the names of the extension; the package and its users type-check."""

import ast
import inspect
import os
import pathlib
import subprocess
import sys

from conftest import REPO
from patience import WATCHDOG

import libbus
from libbus import _core

PACKAGE = pathlib.Path(libbus.__file__).parent

TYPING = REPO / "tests" / "typing"


def test_the_package_and_programs_pass_mypy_strict(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", "."),
            *("-p", "libbus", "-m", "program", "-m", "wrong"),
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(TYPING)},
        capture_output=True,
        text=True,
        timeout=2 * WATCHDOG,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_program_that_type_checkers_read_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, TYPING / "program.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_program_uses_each_public_name():
    """So that type checkers see each of them from the outside."""
    nodes = list(ast.walk(ast.parse((TYPING / "program.py").read_text())))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {
        node.func.attr
        for node in nodes
        if isinstance(node, ast.Call) and hasattr(node.func, "attr")
    }
    for name in libbus.__all__:
        assert name in used, f"libbus.{name}"
        kind = getattr(libbus, name)
        if isinstance(kind, type) and not issubclass(kind, (Exception, tuple, dict)):
            members = {each for each in dir(kind) if not each.startswith("_")}
            assert members <= used, f"libbus.{name}: {members - used}"


def test_the_stub_names_exactly_what_the_extension_has():
    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    for name, node in classes.items():
        actual = getattr(_core, name, None)
        if actual is None:
            assert {getattr(base, "id", None) for base in node.bases} & {"TypedDict", "Protocol"}
            continue
        if issubclass(actual, (Exception, tuple)):
            continue
        promised = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        given = {
            name
            for name, member in vars(actual).items()
            if inspect.isroutine(member) or inspect.isdatadescriptor(member)
        }
        hidden = {
            "__repr__",
            "__new__",
            "__getattribute__",
            "__buffer__",
            "__release_buffer__",
        }  # the last two: from 3.12 on
        assert promised - hidden == given - hidden, name
    public = {name for name in vars(_core) if not name.startswith("_")}
    named = set(classes) | {
        "VERSION",
        "PAGE_FILTERS_MAX",
        "TRANSPORTS",
        "ERRORS",
        "error",
        "filter_check",
        "filter_covers",
        "packb",
        "unpackb",
    }
    assert public <= named


def test_python_m_libbus_prints_version_and_features(python):
    out = python("import runpy; runpy.run_module('libbus', run_name='__main__')")
    assert f"libbus     {libbus.__version__}\n" in out
    assert "inproc, ipc, tcp" in out
    assert str(PACKAGE) in out


def test_the_wheel_carries_the_command():
    program = pathlib.Path(sys.executable).with_name("libbus")
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=WATCHDOG, check=True
    )
    assert libbus.__version__ in done.stdout


def test_a_missing_command_is_explained(monkeypatch, tmp_path):
    from libbus import _command

    monkeypatch.setattr(_command, "PROGRAM", tmp_path / "libbus")
    try:
        _command.main()
    except SystemExit as end:
        assert "is missing" in str(end)
    else:
        raise AssertionError("it started something")


def test_the_tested_package_is_the_installed_one():
    assert not PACKAGE.is_relative_to(REPO / "bindings")
