"""Pages of a server that keeps the socket: one of its threads or greenlets carries the events from libbus to the server."""

from __future__ import annotations

import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from libbus.flask._servers import answers_one_by_one, is_ending, socket_of

STAY_S = 0.25  # for a page that blocks its browser; EventSource reconnects and resumes
LOOK_S = 0.5  # delay until a page frees its thread after its browser left or its worker ends
BUFFER = 16 * 1024  # more would wait here, outside the page's queue and its policy


class Body:
    """The body of one event stream. An object, not a generator: close() counts even before the first next().

    Args:
        environ: The WSGI environ of the request.
        heartbeat: Seconds. A page ends if its browser acknowledges nothing for two heartbeats.
        left: Called once, when the page has ended for any reason.
        ending: Called when gunicorn tells the worker to end: it ends all pages, with a last event.
    """

    def __init__(
        self,
        environ: dict[str, Any],
        heartbeat: float,
        left: Callable[[], object],
        ending: Callable[[], object],
    ) -> None:
        self._ours, self.theirs = socket.socketpair()
        stay = STAY_S if answers_one_by_one(environ) else math.inf
        self._ours.settimeout(min(stay, LOOK_S))
        self._until = time.monotonic() + stay
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._left, self._ending = left, ending
        self._pid = os.getpid()
        self._closing = threading.Lock()
        sock = socket_of(environ)
        self._descriptor: int | None = None if sock is None else sock.fileno()
        if self._descriptor is not None:
            _give_up_after(self._descriptor, 2 * heartbeat)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while time.monotonic() < self._until and not _hung_up(self._descriptor):
            if is_ending():
                self._ending()
            try:
                if data := self._ours.recv(65536):
                    return data
                break
            except TimeoutError:
                continue
            except OSError:
                break
        self.close()
        raise StopIteration

    def close(self) -> None:
        # Once, and never in a forked child for a page of the parent.
        if self._closing.acquire(blocking=False) and self._pid == os.getpid():
            self._ours.close()
            self._left()

    __del__ = close


def _give_up_after(descriptor: int, seconds: float) -> None:
    # A browser that left without a word (a closed lid, a lost network), or never reads, would hold its
    # thread for a quarter of an hour otherwise.
    try:
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
    except OSError:
        pass  # behind a proxy on a Unix socket: the proxy watches the browser


def _hung_up(descriptor: int | None) -> bool:
    # Ask the socket: a first write to a closed connection still succeeds.
    if descriptor is None:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))
