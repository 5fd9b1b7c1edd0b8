"""The measured processes: starting and awaiting them, ending them in every case, and their processor time and memory."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PATIENCE_S = 60
GOODBYE_S = 10
CLOCK_OF_PROCESS = 2  # of the bits below a process id, in Linux's clock numbers


class BenchError(Exception):
    """Names the command and the failure, with its last output."""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def children(pid):
    with contextlib.suppress(OSError):
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return []


def family(pid):
    """The process and its descendants."""
    found = [pid]
    for parent in found:
        found += children(parent)
    return found


def cpu_s(pids):
    """Their processor time so far, to the nanosecond: the ticks of /proc/PID/stat are too coarse for a minute's work of a page."""
    return sum(time.clock_gettime(~pid << 3 | CLOCK_OF_PROCESS) for pid in pids)


def resident_kib(pids):
    """Of the largest."""
    return max(
        int(line.split()[1])
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )


class Started:
    """A process with a group of its own, so none of its children outlives the block. Its output is kept for errors."""

    def __init__(self, command, env=None, cwd=None, **pipes):
        self.command = command
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self.process = subprocess.Popen(
            command,
            env=os.environ | (env or {}),
            cwd=cwd,
            start_new_session=True,
            **{"stdout": self.output, "stderr": self.output, **pipes},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended
                self.process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GOODBYE_S)
        self.output.close()

    def error(self, what):
        self.output.seek(0)
        last = b"".join(self.output.readlines()[-20:]).decode(errors="replace")
        return BenchError(f"{' '.join(map(str, self.command))}\n{what}\n{last}".rstrip())

    def await_port(self, port):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise self.error(f"ended with {self.process.returncode}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
        raise self.error(f"did not listen on port {port} within {PATIENCE_S} s")

    def pids(self):
        return family(self.process.pid)


def redis_server(port, folder):
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    return Started([*command, "--appendonly", "no", "--dir", str(folder)])
