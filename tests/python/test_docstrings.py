"""The docstrings of the extension equal those of its stub, which editors and the documentation site read."""

import ast
import inspect
import pathlib

import pytest

import libbus
import libbus.flask
from libbus import _core

STUB = ast.parse((pathlib.Path(libbus.__file__).parent / "_core.pyi").read_text())
ONLY_TYPES = {"Stats", "LostBy", "LogStats", "Member", "LinkStats", "LinkEnds"}


def documented(body, prefix=""):
    """Every definition of the stub that has a docstring, by its name, with that."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            name = prefix + node.name
            if (text := ast.get_docstring(node)) is not None and name not in ONLY_TYPES:
                yield name, text
            if isinstance(node, ast.ClassDef):
                yield from documented(node.body, f"{name}.")


def attribute(name):
    value = _core
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


@pytest.mark.parametrize(
    ("name", "text"), list(documented(STUB.body)), ids=lambda value: value[:40]
)
def test_stub_has_the_docstring_of_the_extension(name, text):
    if name == "_Struct":
        pytest.skip("is in the stub only")
    assert inspect.getdoc(attribute(name)) == text


def public(owner, prefix):
    for name, value in vars(owner).items():
        if not name.startswith("_") and callable(getattr(value, "fget", value)):
            yield f"{prefix}{name}", value


PUBLIC = [
    *((f"libbus.{name}", getattr(libbus, name)) for name in libbus.__all__ if name[0] != "_"),
    *(
        member
        for name in libbus.__all__
        if isinstance(owner := getattr(libbus, name), type) and owner.__module__ != "builtins"
        for member in public(owner, f"{name}.")
    ),
    *public(libbus.flask.Bus, "libbus.flask.Bus."),
]


@pytest.mark.parametrize(("name", "value"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_public_name_has_a_docstring(name, value):
    assert value.__doc__, name


@pytest.mark.parametrize("owner", [libbus.Bus, libbus.Subscription, libbus.Publisher])
def test_calls_say_which_threads_may_call_and_what_they_wait_for(owner):
    for name in dir(owner):
        call = getattr(owner, name)
        if not name.startswith("_") and inspect.isroutine(call) and owner is not call:
            doc = inspect.getdoc(call)
            assert "Threads: " in doc and "Blocks: " in doc, name
