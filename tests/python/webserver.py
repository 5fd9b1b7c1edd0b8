"""A real gunicorn around an app, and a browser's view of its event streams."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile

import sse
from patience import WATCHDOG


class Server:
    """gunicorn on a socket of this process, so that a restarted one has the same address."""

    def __init__(
        self, folder, *options, app="app:app", stdout=None, stderr=None, level="warning", **environ
    ):
        self.stdout, self.stderr = stdout, stderr
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [
            sys.executable,
            "-m",
            "gunicorn",
            app,
            "--chdir",
            folder,
            "--log-level",
            level,
        ]
        self.command += ["--bind", f"fd://{self.listener.fileno()}", *options]
        # gunicorn's control socket is there; parallel servers need different ones. Its path must be short.
        self.runtime = tempfile.TemporaryDirectory(prefix="web-")
        self.environ = os.environ | {"XDG_RUNTIME_DIR": self.runtime.name} | environ

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=self.environ,
            stdout=self.stdout,
            stderr=self.stderr,
            pass_fds=[self.listener.fileno()],
            start_new_session=True,
        )

    def kill(self):
        """Arbiter and workers, with no time to say goodbye."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(WATCHDOG)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()
        self.listener.close()
        self.runtime.cleanup()

    def get(self, path, **headers):
        """The answer to one request; its body is read by the caller, and close() hangs up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WATCHDOG)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.connection = connection
        return answer

    @contextlib.contextmanager
    def page(self, path, **headers):
        answer = self.get(path, **headers)
        try:
            yield answer
        finally:
            answer.close()
            answer.connection.close()


def stream(lines):
    """The events of an answer, or of the chunks of one."""
    return sse.read(lines)


def events(lines):
    """(name, data) of every event."""
    return ((event.name, event.data) for event in stream(lines))


def messages(lines):
    return (json.loads(data) for name, data in events(lines) if name == "message")
