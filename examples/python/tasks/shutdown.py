"""A program that listens until Ctrl-C and closes its bus."""

import contextlib
import os
import signal
import tempfile
import threading
import time

import libbus

signal.signal(signal.SIGINT, signal.default_int_handler)
directory = tempfile.TemporaryDirectory()
got = []


def interrupt():
    with libbus.Bus("home", directory=directory.name) as other:
        while not got:
            other.publish("door", "open")
            time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


threading.Thread(target=interrupt).start()

# task
with contextlib.suppress(KeyboardInterrupt), libbus.Bus("home", directory=directory.name) as bus:
    for msg in bus.subscribe("#"):
        got.append(msg.value)
# end

assert bus.closed
directory.cleanup()
