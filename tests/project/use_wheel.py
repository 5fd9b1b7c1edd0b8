"""Uses the installed libbus with nothing but the standard library: README's hello.py, a bus with a name between two processes, a tcp
and a tls link, the command. Then looks at what is loaded: no library of the system's but the C library.

Run by test_wheel.py where the libraries are hidden, and by cibuildwheel (pyproject.toml)."""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import libbus

README = Path(__file__).resolve().parents[2] / "README.md"
WAIT_S = 60
OURS = re.compile(r"lib(msgpack|jansson|mbed)")


def loaded(pid="self"):
    """The files that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if "/" in line}


def check_loaded(files):
    """msgpack-c, jansson and mbedTLS lie in the wheel, or inside the extension itself."""
    site = str(Path(libbus.__file__).parent.parent)
    strangers = [name for name in files if OURS.search(name) and not name.startswith(site)]
    assert not strangers, f"loaded from outside the wheel: {strangers}"
    return sorted(Path(name).name for name in files if name.startswith(site) and ".so" in name)


def hello():
    (code,) = re.findall(r"```python\n(import libbus\n.*?)```", README.read_text(), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "hello.py", "exec"), {"__name__": "__main__"})  # noqa: S102
    assert printed.getvalue() == "room/kitchen/temperature 21.5\n{'on': True}\n", printed.getvalue()


def name_between_processes(name):
    asks = f"import libbus\nwith libbus.Bus({name!r}) as bus:\n    print(bus.request('double', 21, timeout={WAIT_S}).value)"
    with libbus.Bus(name) as bus:
        bus.serve("double", lambda msg: 2 * msg.value)
        answer = subprocess.check_output([sys.executable, "-c", asks], text=True, timeout=WAIT_S)
    assert answer == "42\n", answer


def link(url):
    with libbus.Bus() as here, libbus.Bus() as there:
        there.dial(here.listen(url).url)
        with there.subscribe("room/#") as room:
            here.publish("room/kitchen", {"celsius": 21.5}, retain=True)
            assert room.recv(timeout=WAIT_S).value == {"celsius": 21.5}


def command(name):
    """Returns what the command has loaded."""
    ours = [sys.executable, "-m", "libbus"]
    with libbus.Bus(name) as bus:
        subprocess.run([*ours, "pub", "--retain", name, "room/door", "shut"], check=True)
        sub = [*ours, "sub", name, "room/#", "--count", "2", "--timeout", str(WAIT_S)]
        with subprocess.Popen(sub, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "room/door shut\n"
            files = loaded(process.pid)
            bus.publish("room/door", "open")
            assert process.communicate(timeout=WAIT_S)[0] == "room/door open\n"
    return files


def main():
    name = f"wheel-{os.getpid()}"
    hello()
    name_between_processes(name)
    link("tcp://127.0.0.1:0")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = folder
        subprocess.run([sys.executable, "-m", "libbus", "cert", "127.0.0.1"], check=True)
        link("tls://127.0.0.1:0")
    print("extension:", *check_loaded(loaded()))
    print("command:", *check_loaded(command(name)))
    print(f"libbus {libbus.__version__} works on Python {sys.version.split()[0]}")


main()
