"""The response of bus.sse(): Flask finishes it as any other, then the response hands the socket over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Response
from werkzeug.http import http_date

import libbus
from libbus.flask import _detach
from libbus.flask._fallback import Body
from libbus.flask._servers import socket_of

if TYPE_CHECKING:
    from libbus._answers import Authorizer
    from libbus._pages import Page
    from libbus.flask._state import State

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",  # otherwise nginx buffers events
}


class EventStream(Response):
    """The events of a page, as long as it is open.

    It starts when the server calls it, after after_request functions and the session: their cookies and headers are sent.
    """

    def __init__(self, state: State, page: Page, authorizer: Authorizer | None) -> None:
        # direct_passthrough: a body without end must not be joined or measured
        super().__init__(iter(()), headers=HEADERS, direct_passthrough=True)
        self._state, self._page, self._authorizer = state, page, authorizer

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        state = self._state
        way = state.way(environ)
        begin = self._detached if way.detaches else self._carried
        try:
            return begin(environ, start_response)
        except libbus.LimitError:  # another page has taken the last place since
            refused = state.refuse(503, "TOO_MANY_PAGES", way.places.taken)
        except (libbus.BusError, MemoryError, OSError) as error:
            refused = state.refuse(
                503, "NO_BUS", f"the bus of this page cannot be opened: {error or 'out of memory'}"
            )
        self.close()
        return refused(environ, start_response)

    def _detached(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        sock = socket_of(environ)
        copy = _detach.copy_of(sock)
        try:
            number = self._state.add(copy, self._page, self._head(environ), self._authorizer)
        except BaseException:
            os.close(copy)
            raise
        try:
            body = _detach.take(sock, self.close)
        except BaseException:
            # Without a free descriptor the server keeps the connection and ends it.
            self._state.remove(number)
            raise
        start_response(self.status, self.get_wsgi_headers(environ).to_wsgi_list())
        return body

    def _carried(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        state = self._state
        if not state.enter(environ):
            raise libbus.LimitError
        try:
            body = Body(environ, state.heartbeat, self._left, state.end_pages)
        except BaseException:
            state.leave()
            raise
        try:
            state.add(body.theirs.fileno(), self._page, b"", self._authorizer)
        except BaseException:
            body.close()
            body.theirs.close()
            raise
        body.theirs.detach()
        start_response(self.status, self.get_wsgi_headers(environ).to_wsgi_list())
        return body

    def _left(self) -> None:
        self._state.leave()
        self.close()

    def _head(self, environ: dict[str, Any]) -> bytes:
        """Returns the response up to its body, as the server would write it."""
        headers = self.get_wsgi_headers(environ)
        headers.setdefault("Date", http_date())
        headers["Connection"] = "close"  # the body has no length and ends with the connection
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
