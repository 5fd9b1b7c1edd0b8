#!/usr/bin/env python3
"""Everyday tasks in Python: the lines of each with libbus, and with the peer that needs the fewest.

python3 tools/task_lines.py            print the table
python3 tools/task_lines.py --run      run all programs first; lists those of peers whose package is missing
"""

import argparse
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

TASKS = Path(__file__).resolve().parents[1] / "examples/python/tasks"

ORDER = [
    "loop_with_timeout",
    "async_for",
    "last_value",
    "wait_for_one",
    "history",
    "typed_payload",
    "request_and_reply",
    "shutdown",
    "test_with_pytest",
    "logging_handler",
    "unsubscribe",
    "parallel_callbacks",
    "share_work",
    "publish_many",
    "async_callback",
]

REMARKS = {
    "share_work": "not between processes with libbus yet: group= raises NotSupportedError there",
    "history": "libbus: on a named bus",
}

RULE = """A line counts if it is between "# task" and "# end", not blank and not a comment. Both sides are formatted by ruff at 100
columns. Outside, on both sides: imports, opening the bus or the connection, and the input of the example."""

# Needs of a peer: a module, and a server with the arguments that make it listen on a port.
PEERS = {
    "blinker": ("blinker", None),
    "fakeredis": ("fakeredis", None),
    "nats-py": ("nats", "nats"),
    "paho-mqtt": ("paho", "mqtt"),
    "pyzmq": ("zmq", None),
    "redis": ("redis", "redis"),
}
SERVERS = {
    "nats": (
        "nats-server",
        lambda port, folder: ["-a", "127.0.0.1", "-p", port, "-js", "-sd", folder],
    ),
    "mqtt": ("mosquitto", lambda port, folder: ["-p", port]),
    "redis": (
        "redis-server",
        lambda port, folder: ["--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder],
    ),
}
LIMIT_S = 60


def lines_of(path):
    """Counts the lines of the task."""
    inside, count = False, 0
    for line in path.read_text(encoding="utf-8").splitlines():
        word = line.strip()
        if word == "# task":
            inside = True
        elif word == "# end":
            inside = False
        elif inside and word and not word.startswith("#"):
            count += 1
    if inside or count == 0:
        raise SystemExit(f"{path}: '# task' and '# end' enclose the lines that count")
    return count


def peers_of(task):
    """The peers' programs for a task: name and path."""
    return {path.stem[len(task) + 1 :]: path for path in sorted(TASKS.glob(f"peers/{task}_*.py"))}


def table():
    """A row for each task: title, our lines, the peer's lines and its name, remark."""
    rows = []
    for task in ORDER:
        ours = TASKS / f"{task}.py"
        title = re.match(r'"""(.*?)\.?"""', ours.read_text(encoding="utf-8"), re.DOTALL)[1]
        theirs = {name: lines_of(path) for name, path in peers_of(task).items()}
        best = min(theirs, key=theirs.get)
        rows.append((title, lines_of(ours), theirs[best], best, REMARKS.get(task, "")))
    return rows


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def start_server(kind, running):
    """The port of a server, which ends with `running`; None: it is not installed."""
    program, arguments = SERVERS[kind]
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin")
    if found is None:
        return None
    port = free_port()
    folder = running.enter_context(tempfile.TemporaryDirectory())
    process = subprocess.Popen(
        [found, *arguments(port, folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    running.callback(process.wait)
    running.callback(process.terminate)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", int(port))) == 0:
                return port
        time.sleep(0.05)
    raise SystemExit(f"{program} does not listen on port {port}")


def run(path, env):
    command = [sys.executable, path]
    if path.name.startswith("test_"):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{path.relative_to(TASKS)} failed:\n{done.stdout}{done.stderr}")


def run_all():
    missing, ran = {}, 0
    with ExitStack() as running:
        ports = {kind: start_server(kind, running) for kind in SERVERS}
        env = os.environ | {f"{kind.upper()}_PORT": port for kind, port in ports.items() if port}
        for task in ORDER:
            run(TASKS / f"{task}.py", env)
            ran += 1
            for name, path in peers_of(task).items():
                module, server = PEERS[name]
                if importlib.util.find_spec(module) is None:
                    missing[name] = f"no module {module}"
                elif server and ports[server] is None:
                    missing[name] = f"no program {SERVERS[server][0]}"
                else:
                    run(path, env)
                    ran += 1
    print(f"{ran} programs ran as they should.")
    for name, reason in missing.items():
        print(f"Not run: those of {name}: {reason}")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", action="store_true", help="run all programs first")
    if parser.parse_args().run:
        run_all()
    rows = table()
    width = max(len(title) for title, *_ in rows)
    print(f"{'task':{width}}  libbus  best peer")
    for title, ours, theirs, peer, remark in rows:
        verdict = f"longer by {ours - theirs}" if ours > theirs else ""
        notes = "; ".join(filter(None, [verdict, remark]))
        print(
            f"{title:{width}}  {ours:6}  {theirs:2} {peer:10}{'  ' + notes if notes else ''}".rstrip()
        )
    print(f"\n{RULE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
