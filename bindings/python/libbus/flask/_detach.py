"""Takes a connection from a web server, so that no thread of the server waits for a page.

The server's socket object keeps its descriptor number, which becomes one end of a socketpair. The server's further writes (its
copy of the headers, the end of a body) go there, a last read finds the end, and shutdown() and close() affect nothing else. So
the server finishes the request as any other: one line in its access log, no error, and no contract with libbus. Duplicating the
socket is not enough: gunicorn from 26 on shuts the connection down. Detaching it makes servers fail on descriptor -1.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any


class Taken:
    """The empty body that the server sends. close() closes the other end of the socketpair."""

    def __init__(self, sink: socket.socket, closed: Callable[[], object]) -> None:
        self._sink, self._closed = sink, closed

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        try:
            # Closing with unread bytes would reset the connection.
            while self._sink.recv(65536):
                pass
        except OSError:
            pass
        self._sink.close()
        self._closed()


def copy_of(sock: Any) -> int:
    """Returns a second descriptor of the connection."""
    return os.dup(sock.fileno())


def take(sock: Any, closed: Callable[[], object] = lambda: None) -> Taken:
    """Takes the connection, of which the caller has a copy, from the server. Calls closed() when the server has ended the request."""
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        ours.shutdown(socket.SHUT_WR)
        descriptor = sock.fileno()
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(theirs.fileno(), fcntl.F_SETFL, flags)
        os.dup2(theirs.fileno(), descriptor, inheritable=False)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Taken(ours, closed)


def fails_because() -> str:
    """Tests the method on a connection made for it. Returns the fault; "": it works."""
    try:
        server, browser = socket.socketpair()
        with server, browser:
            browser.settimeout(5)
            copy = copy_of(server)
            try:
                body = take(server)
                server.sendall(b"the server's headers")
                server.shutdown(socket.SHUT_WR)
                body.close()
                at_end = server.recv(1)
                server.close()
                os.write(copy, b"event")
                arrived = browser.recv(100)
            finally:
                os.close(copy)
    except OSError as error:
        return f"sockets cannot be taken from the server here ({error})"
    if (at_end, arrived) != (b"", b"event"):
        return f"a socket that was taken from the server gave {at_end!r} and {arrived!r}"
    return ""
