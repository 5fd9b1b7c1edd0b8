"""A shell on a terminal of its own, into which text is pasted as a person would."""

import os
import re
import signal
import subprocess
import threading
import time

END = re.compile(r"@@end (\d+)\r?\n")


class Failure(Exception):
    """A step did not lead to what README promises."""


class Terminal:
    def __init__(self, command, log, limit_s):
        self.log, self.limit_s = log, limit_s
        master, slave = os.openpty()
        self.master = master
        # The shell inside makes this its controlling terminal (setsid --ctty), so that Ctrl-C reaches its programs.
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.output = ""
        self.seen = 0  # how much of it earlier calls of expect() have passed
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self._write("stty -echo; PS1= PS2= PROMPT_COMMAND=; bind 'set enable-bracketed-paste off' 2>/dev/null\n")
        self.run(":")

    def _read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            with self.news:
                text = data.decode(errors="replace")
                self.output += text
                self.news.notify_all()
            self.log.write(text)
            self.log.flush()
            if not data:
                return

    def _write(self, text):
        os.write(self.master, text.encode())

    def paste(self, text):
        """Types text; its last line begins to run."""
        self.log.write("".join(f"\n$ {line}" for line in text.rstrip("\n").split("\n")) + "\n")
        self._write(text if text.endswith("\n") else text + "\n")

    def expect(self, pattern, limit_s=None):
        """Waits until the output behind what was expected before matches; returns the match."""
        pattern = re.compile(pattern) if isinstance(pattern, str) else pattern
        deadline = time.monotonic() + (limit_s or self.limit_s)
        with self.news:
            while not (match := pattern.search(self.output, self.seen)):
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    tail = "\n".join(self.output[self.seen :].splitlines()[-15:])
                    raise Failure(f"waited for {pattern.pattern!r}, saw:\n{tail}")
                self.news.wait(min(left, 1))
            self.seen = match.end()
        return match

    def finish(self):
        """Waits until the shell has run what was pasted; returns the status of the last command and what was printed."""
        begin = self.seen
        self._write("printf '\\n@@end %s\\n' $?\n")
        match = self.expect(END)
        return int(match[1]), self.output[begin : match.start()].replace("\r", "")

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
