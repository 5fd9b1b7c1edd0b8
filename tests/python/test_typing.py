"""The stubs say what the extension has, no more and no less; the package and its users type-check."""

import ast
import inspect
import pathlib
import subprocess
import sys

from conftest import REPO
from patience import WATCHDOG

import libbus
from libbus import _core

PACKAGE = pathlib.Path(libbus.__file__).parent

USER = """
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypedDict

import libbus
import libbus.logging
import libbus.testing
from typing_extensions import assert_type

bus = libbus.Bus()
with bus.subscribe("a", "b", max_bytes=4096) as sub:
    bus.publish("a", {"n": [1, 2.5, None]}, retain=True)
    for msg in sub:
        assert_type(msg, libbus.Message)
        assert_type(msg.topic, str)
    assert_type(sub.stats()["lost_by"]["full"], int)
    assert_type(sub.stats()["lost_by"]["lapped"], int)

@bus.on("a", "b")
def heard(msg: libbus.Message) -> int:
    return msg.lost

assert_type(heard(sub.recv()), int)
handle = bus.subscribe("a", callback=heard)
assert_type(handle, libbus.Callback)
assert_type(bus.subscribe("a", callback=heard, start=libbus.last(2)), libbus.Callback)

@bus.on("a", start=libbus.since(datetime.now(timezone.utc)))
def heard_since(msg: libbus.Message) -> None: ...

assert_type(libbus.after(1, bus.epoch), libbus.Start)
bus.subscribe("a", start=3)  # type: ignore[call-overload]

for item in bus.progress("job", [1, 2]):
    assert_type(item, int)
with bus.progress("job", total=3) as job:
    job.advance()
assert_type(bus.progress("job", 3.5).value()["eta"], float | None)
bus.publisher("a", retain=True, ttl=1.5, headers={"n": 1})
assert_type(libbus.testing.record(bus, "a").wait(2), libbus.testing.Messages)
libbus.logging.Handler(bus, topic="logs", level="INFO")

bus.subscribe("a", full="drop_oldset")  # type: ignore[call-overload]
bus.publish_raw("a", b"", encoding="xml")  # type: ignore[arg-type]

@bus.on  # type: ignore[call-overload]
def unheard(msg: libbus.Message) -> None: ...

@bus.serve("a", start=libbus.oldest())
def answered(msg: libbus.Message) -> int:
    return msg.lost

assert_type(answered(sub.recv()), int)
assert_type(sub.filters, tuple[str, ...])
sub.unsubscribe("a")
assert_type(libbus.packb({"a": 1}), bytes)
libbus.unpackb(bytearray(1))
assert_type(libbus.filter_covers("a/#", "a"), bool)

assert_type(bus.get("a"), libbus.Message | None)
assert_type(bus.get("a", default=1), libbus.Message | int)
assert_type(bus.wait("a/#", 1, kept=False), libbus.Message)

@dataclass
class Reading:
    celsius: float

class Limits(TypedDict):
    low: float

bus.publish("a", Reading(1.5))
readings = bus.subscribe("a", type=Reading)
assert_type(readings, libbus.Subscription[Reading])
assert_type(readings.recv().value, Reading)
for reading in readings:
    assert_type(reading, libbus.Message[Reading])
assert_type(bus.subscribe("a", type=Limits).recv().value["low"], float)
assert_type(bus.subscribe("a", type=list[int]).recv().value, list[int])
assert_type(sub.recv().value, Any)
assert_type(bus.wait("a", type=Reading).value, Reading)
if (kept := bus.get("a", type=Reading)) is not None:
    assert_type(kept.value.celsius, float)

@bus.on("a", type=Reading)
def read(msg: libbus.Message[Reading]) -> float:
    return msg.value.celsius

bus.subscribe("a", callback=read, type=Reading)
assert_type(bus.subscribe("a", callback=heard, workers=2), libbus.Callback)
assert_type(bus.subscribe("a", group="b", type=Reading), libbus.Subscription[Reading])
bus.subscribe("a", workers=2)  # type: ignore[call-overload]
bus.subscribe("a", callback=read, type=Limits)  # type: ignore[arg-type]

with bus.publisher("a", wait=None) as publisher:
    assert_type(publisher, libbus.Publisher)
    sent: int = publisher.send_many(n for n in range(3))

libbus.Bus("a", will=libbus.Will("b", 1, retain=True)).close()
assert_type(bus.listen("inproc://a").state == "up", bool)
assert_type(bus.log_stats()["messages_left"], int)
assert_type(bus.log_stats()["members"][0]["alive"], bool)
with bus.role("a", timeout=1) as role:
    assert_type(role, libbus.Role)

assert_type(bus.request("a", 1), libbus.Reply)
assert_type(bus.request("a", 1).lost, int)
asked: libbus.Message = bus.request("a", 1)

async def listen() -> None:
    await publisher.send(1)
    assert_type(await publisher.send_many([1]), int)
    async with bus, sub, publisher, handle:
        assert_type(sub, libbus.Subscription)
    assert_type(await bus.request("a", 1), libbus.Reply)
    assert_type((await bus.request("a", 1)).topic, str)
    async for msg in sub:
        assert_type(msg.lost, int)
"""


def mypy(*args, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=2 * WATCHDOG,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_and_a_program_pass_mypy_strict(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    mypy("--strict", "--cache-dir", tmp_path, "-p", "libbus", cwd=tmp_path)
    mypy("--strict", "--cache-dir", tmp_path, "user.py", cwd=tmp_path)


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
        "ERRORS",
        "error",
        "filter_check",
        "filter_covers",
        "packb",
        "unpackb",
    }
    assert public <= named


def test_python_m_libbus_says_what_it_is(python):
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


def test_what_is_tested_is_installed():
    assert not PACKAGE.is_relative_to(REPO / "bindings")
