"""A real gunicorn around an app, and a browser's view of its event streams."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys

from patience import WATCHDOG


class Server:
    """gunicorn on a socket that stays ours, so that a restarted one is found at the same address."""

    def __init__(self, folder, *options, app="app:app", stderr=None, **environ):
        self.stderr = stderr
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
            "warning",
        ]
        self.command += ["--bind", f"fd://{self.listener.fileno()}", *options]
        self.environ = os.environ | environ

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=self.environ,
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

    def get(self, path):
        """The answer to one request; its body is read by the caller, and close() hangs up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WATCHDOG)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.connection = connection
        return answer

    @contextlib.contextmanager
    def page(self, path):
        answer = self.get(path)
        try:
            yield answer
        finally:
            answer.close()
            answer.connection.close()


def events(lines):
    """(name, data) of every event; name is "message" where the server gave none."""
    name, data = "message", None
    for line in lines:
        key, _, value = line.decode().rstrip("\n").partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            data = value
        elif key == "" and data is not None:
            yield name, data
            name, data = "message", None


def messages(lines):
    return (json.loads(data) for name, data in events(lines) if name == "message")
