"""A shell on a terminal of its own, into which text is pasted as a person would."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time

END = r"@@end (\d+)\r?\n"
NEVER = r"(?!)"
IDLE_S, IDLE_LOOK_S = 1.0, 0.1


class Failure(Exception):
    """A step did not lead to what README promises."""


class Terminal:
    def __init__(self, command, log, limit_s):
        self.log, self.limit_s = log, limit_s
        self.master, self.slave = os.openpty()
        # The shell inside makes this its controlling terminal (setsid --ctty), so that Ctrl-C reaches its programs.
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True
        )
        self.output = ""
        self.seen = 0  # where the next look begins
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self._write("stty -echo; PS1= PS2= PROMPT_COMMAND=; echo re''ady\n")
        self._wait(r"ready\r?\n", lambda: False)
        self.shell = os.tcgetpgrp(self.master)  # its process group, as it is numbered out here

    def _read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            if not data:
                return
            with self.news:
                text = data.decode(errors="replace")
                self.output += text
                self.news.notify_all()
            self.log.write(text)
            self.log.flush()

    def _write(self, text):
        os.write(self.master, text.encode())

    def paste(self, text):
        """Types all of the text at once."""
        self.log.write("".join(f"\n$ {line}" for line in text.rstrip("\n").split("\n")) + "\n")
        self._write(text.rstrip("\n") + "\n")

    def expect(self, pattern):
        """Waits until the output behind what was expected before matches; fails if the shell is through without it."""
        match = self._wait(pattern, self._is_idle)
        if match is None:
            # What is typed now runs behind the command, if that only seemed to be through.
            self._write("printf '\\n@@end %s\\n' $?\n")
            match = self._wait(f"{pattern}|{END}", lambda: False)
            if match[0].startswith("@@end"):
                raise self._failure(f"ended without {pattern!r}")
        return match

    def finish(self):
        """Waits until all is run; returns the status of the last command and what was printed since."""
        begin = self.seen
        # Only now: apt-get throws away what is typed while it runs.
        self._wait(NEVER, self._is_idle)
        self._write("printf '\\n@@end %s\\n' $?\n")
        match = self._wait(END, lambda: False)
        return int(match[1]), self.output[begin : match.start()].replace("\r", "")

    def _is_idle(self):
        """Whether the shell itself has the terminal and has read all of it, for a while."""
        quiet = time.monotonic() + IDLE_S
        while time.monotonic() < quiet:
            unread = int.from_bytes(
                fcntl.ioctl(self.slave, termios.FIONREAD, bytes(4)), sys.byteorder
            )
            if unread or os.tcgetpgrp(self.master) != self.shell:
                return False
            self.news.wait(IDLE_LOOK_S)
        return True

    def _wait(self, pattern, is_over):
        deadline = time.monotonic() + self.limit_s
        with self.news:
            while not (match := re.compile(pattern).search(self.output, self.seen)):
                if self.process.poll() is not None:
                    raise self._failure(f"the shell ended before {pattern!r}")
                if time.monotonic() > deadline:
                    raise self._failure(f"waited {self.limit_s:.0f} s for {pattern!r}")
                if is_over():
                    match = re.compile(pattern).search(self.output, self.seen)
                    break
                self.news.wait(IDLE_LOOK_S)
            self.seen = match.end() if match else self.seen
        return match

    def _failure(self, what):
        lines = self.output[self.seen :].replace("\r", "\n").splitlines()
        return Failure(f"{what}; the last lines:\n" + "\n".join(lines[-15:]))

    def run(self, text):
        self.paste(text)
        return self.finish()

    def succeed(self, text):
        status, output = self.run(text)
        if status != 0:
            raise Failure(f"status {status} of\n{text}\n" + "\n".join(output.splitlines()[-25:]))
        return output

    def interrupt(self):
        self._write("\x03")

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.slave)  # the last one that holds it: the reader ends
