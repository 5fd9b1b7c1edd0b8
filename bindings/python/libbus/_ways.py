"""The ways in which a call waits: on its thread, in a greenlet, or not at all in an event loop."""

from __future__ import annotations

from libbus import _green
from libbus._loop import Loop, running_loop
from libbus._threads import Threads

THREADS, LOOP = Threads(), Loop()


def way() -> Threads:
    """Returns the way of the caller."""
    return LOOP if running_loop() is not None else _green.way() or THREADS
