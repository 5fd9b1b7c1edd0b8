"""The ways in which a call waits: on its thread, in a greenlet, or, in an event loop, not at all."""

from __future__ import annotations

from libbus import _green
from libbus._loop import Loop, running_loop
from libbus._threads import Threads

THREADS, LOOP = Threads(), Loop()


def way() -> Threads:
    """That of the caller."""
    return LOOP if running_loop() is not None else _green.way() or THREADS
