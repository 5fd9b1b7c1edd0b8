"""A page whose server keeps the socket: a thread of it, or a greenlet, carries the events from libbus to the server."""

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

STAY_S = 0.25  # a page that holds up its browser; EventSource comes again, and goes on where it was
LOOK_S = 0.5  # how soon a page whose browser is gone, or whose worker ends, lets its thread go
BUFFER = 16 * 1024  # more would wait here, unseen by the queue of the page and its policy


class Body:
    """The body of one event stream. An object, not a generator: close() counts even before the first next().

    Args:
        environ: Of the request.
        heartbeat: Seconds; a browser that acknowledges nothing for two of them is given up.
        left: Called once, when the page has ended in whatever way.
        ending: Called when gunicorn tells the worker to end: it ends all pages, with their last event.
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
        # Once, and never for a parent's page in a forked child.
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
        pass  # behind a proxy on a Unix socket: there the proxy watches


def _hung_up(descriptor: int | None) -> bool:
    # Ask the socket: writing to find out would only succeed, the first time.
    if descriptor is None:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))
