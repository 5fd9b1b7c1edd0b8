"""libbus for ASGI: live pages from Starlette, FastAPI and any other ASGI app.

    from starlette.applications import Starlette
    from starlette.routing import Mount
    from libbus.asgi import Pages

    bus = libbus.Bus("home")
    app = Starlette(routes=[Mount("/bus", Pages(bus, allow=["sensors/#"]))])

A page uses libbus.js from /bus/static/libbus.js, or EventSource("/bus/events?filter=sensors/%23"). A view checks the user's
rights, then returns pages.sse("room/1/#"):

    @app.get("/room/{number}/events")                   # FastAPI
    async def room(number: int, user: User = Depends(login)):
        return pages.sse(f"room/{number}/#")

Pages cannot publish here. Write a view that checks the user's rights and publishes.

One thread of the process writes events for all pages, as under libbus.flask; the event loop carries them to the server. When
uvicorn stops, its pages end and connect again.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import libbus
from libbus import _core
from libbus._answers import Answers, Authorizer, granted
from libbus._guard import Asked, Guard
from libbus._loop import is_async
from libbus._pages import (
    Page,
    Query,
    Refused,
    add,
    last_id_of,
    page_of,
    page_of_view,
    strings,
)

if TYPE_CHECKING:
    _Response = object
else:
    try:  # FastAPI takes only Starlette's responses from a view
        from starlette.responses import Response as _Response
    except ImportError:
        _Response = object

__all__ = ["EventStream", "Pages"]

Scope = MutableMapping[str, Any]
Authorize = Callable[[Scope, str, str], Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOOK_S = 0.25  # delay until the pages of a stopping server end
GOODBYE_S = 1.0
BUFFER = 16 * 1024  # more would wait here, outside the page's queue and its policy

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]
FILES = {"libbus.js": b"text/javascript; charset=utf-8"}


class EventStream(_Response):
    """The result of Pages.sse(): an ASGI app that answers one request with events. If Starlette is installed, it is a Starlette
    response too, as FastAPI needs."""

    background: Any = None
    status_code: int = 200

    def __init__(self, pages: Pages, page: Page) -> None:
        self.raw_headers: list[tuple[bytes, bytes]] = list(
            HEADERS
        )  # Starlette's set_cookie() and headers add to them
        self._pages, self._page = pages, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends events until the page leaves or the server stops."""
        await self._serve(scope, receive, self._pages._answering(scope, send))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = Query(scope["query_string"])
        try:
            self._pages._check_site(scope)
            page = self._page._replace(last_id=last_id_of(query, _header(scope, b"last-event-id")))
            for asked in page.filters:
                if not await self._pages._may(scope, "subscribe", asked):
                    message = f"this page may not listen to {asked!r}"
                    raise Refused(403, "NOT_AUTHORIZED", message, filter=asked)
            if scope["method"] == "HEAD" or "libbus-ask" in query:
                await _say(send, 200, HEADERS)
                return
            ours = self._open(scope, page)
        except Refused as refused:
            await _refuse(send, refused)
            return
        with ours:
            self._pages._watch_server()
            await self._carry(ours, receive, send)

    def _open(self, scope: Scope, page: Page) -> socket.socket:
        """Returns the socket with the events of a new page. Raises Refused."""
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    ours.setblocking(False)
                    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
                    self._pages._add(scope, theirs.fileno(), page)
                except BaseException:
                    ours.close()
                    raise
                theirs.detach()
        except (libbus.BusError, MemoryError, OSError) as error:
            code = "TOO_MANY_PAGES" if isinstance(error, libbus.LimitError) else "NO_BUS"
            raise Refused(
                503, code, f"this page cannot be live: {error or 'out of memory'}"
            ) from None
        return ours

    async def _carry(self, ours: socket.socket, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        events = asyncio.ensure_future(_events(ours, send))
        leaving = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait((events, leaving), return_when=asyncio.FIRST_COMPLETED)
            if events.done():
                events.result()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            events.cancel()
            leaving.cancel()
            await asyncio.gather(events, leaving, return_exceptions=True)


class Pages:
    """Live pages of a bus: an ASGI app with /events and /static/libbus.js, to mount under a path.

    Args:
        bus: A libbus.Bus. You close it.
        allow: Filters that pages may listen to at /events; by default none. A page without a filter gets all of them.
        authorize: may(scope, action, what) returns whether a page may do something, as with libbus.flask.Bus.authorize():
            "subscribe" a filter, then "receive" each topic before its first event. scope is the request's:
            starlette.requests.Request(scope) has its session and user. An async function runs in the event loop, any other
            function on a thread.
        hosts: As in libbus.flask.Bus.init_app().
        origins: As in libbus.flask.Bus.init_app().
        max_pages: Limit of open pages in a process. 0: 10,000.
        heartbeat: Seconds between heartbeats to a page, at least 0.1.
        history: On a private bus, the number of events of allow= that it keeps, from the first page on, for pages that start or
            resume. 0: the last 1,000 events that pages got.

    Raises:
        FilterError: A filter of allow is malformed.
        ValueError: An origin is malformed.

    Threads: any, but pages belong to the event loop that serves them. Blocks: never.
    """

    def __init__(
        self,
        bus: libbus.Bus,
        *,
        allow: str | Iterable[str] = (),
        authorize: Authorize | None = None,
        hosts: str | Iterable[str] = (),
        origins: str | Iterable[str] = (),
        max_pages: int = 0,
        heartbeat: float = 15.0,
        history: int = 0,
    ) -> None:
        self.bus: libbus.Bus = bus
        self.allow: tuple[str, ...] = strings(allow)
        for asked in self.allow:
            libbus.filter_check(asked)
        self._guard = Guard(hosts, origins, "Pages")
        self._options: dict[str, Any] = {
            "heartbeat": heartbeat,
            "max_pages": max_pages,
            "history": history,
            "remember": self.allow if history and not bus.name else (),
        }
        self._authorize = authorize
        self._opened: _core.Push | None = None
        self._answers: Answers | None = None
        self._watch: asyncio.Task[None] | None = None

    def sse(
        self,
        *filters: str,
        raw: bool = False,
        event: str | None = None,
        start: libbus.Start | None = None,
        full: _core.PagePolicy = "drop_oldest",
        max_bytes: int = 0,
        max_hz: float | None = None,
    ) -> EventStream:
        """Returns the response of a view that has checked the user's rights.

        Args:
            filters: As in libbus.Bus.subscribe(); up to 256.
            raw: As in libbus.flask.Bus.sse().
            event: As in libbus.flask.Bus.sse().
            start: As in libbus.flask.Bus.sse().
            full: As in libbus.flask.Bus.sse().
            max_bytes: As in libbus.flask.Bus.sse().
            max_hz: As in libbus.flask.Bus.sse().

        Raises:
            FilterError: A filter is malformed.
            ValueError: There is no filter, or max_hz is not above 0.

        Threads: any. Blocks: never.
        """
        page = page_of_view(filters, raw, event, start, full, max_bytes, max_hz)
        return EventStream(self, page)

    def close(self) -> None:
        """Ends the open pages and tells them to connect again. The bus stays open.

        Threads: any. Blocks: up to a second, to send waiting events.
        """
        if self._opened is not None:
            self._opened.close(GOODBYE_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app."""
        if scope["type"] != "http":
            raise RuntimeError(f"libbus.asgi.Pages serves http, not {scope['type']}")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        send = self._answering(scope, send)
        if scope["method"] == "OPTIONS":
            await _say(send, 204, [(b"allow", b"GET, HEAD, OPTIONS")])
        elif scope["method"] not in ("GET", "HEAD"):
            await _refuse(send, Refused(405, "METHOD", "send GET or HEAD"))
        elif path == "/events":
            await self._events(scope, receive, send)
        elif path.removeprefix("/static/") in FILES:
            await _file(send, path.removeprefix("/static/"))
        else:
            message = "not found: use /events or /static/libbus.js"
            await _refuse(send, Refused(404, "NOT_FOUND", message))

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = Query(scope["query_string"])
        try:
            self._check_site(scope)
            page = page_of(query, None, self.allow, "Pages(bus, allow=[...])")
        except Refused as refused:
            await _refuse(send, refused)
            return
        await EventStream(self, page)._serve(scope, receive, send)

    def _check_site(self, scope: Scope) -> None:
        """Raises Refused."""
        host = _header(scope, b"host") or ""
        self._guard.check(Asked(host, _header(scope, b"origin"), _header(scope, b"sec-fetch-site")))

    def _answering(self, scope: Scope, send: Send) -> Send:
        """send(), with the headers that let pages of allowed sites read the answer."""
        headers = [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in self._guard.headers(scope["method"], _header(scope, b"origin"))
        ]

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        return answer

    def _push(self) -> _core.Push:
        if self._opened is None or (self._opened.closed and not _stops()):
            self._opened = _core.Push(self.bus, **self._options)
            self._answers = Answers(self._opened)
        return self._opened

    def _add(self, scope: Scope, fd: int, page: Page) -> None:
        push = self._push()
        if self._authorize is None:
            add(push, fd, page)
        else:
            assert self._answers is not None
            may = _receiving(self._authorize, scope)
            self._answers.add(may, lambda: add(push, fd, page, ask=True))

    async def _may(self, scope: Scope, action: str, what: str) -> bool:
        fn = self._authorize
        if fn is None:
            return True
        if is_async(fn):
            return granted(await fn(scope, action, what))
        return granted(await asyncio.to_thread(fn, scope, action, what))

    def _watch_server(self) -> None:
        """One task for all pages."""
        if self._watch is None or self._watch.done():
            self._watch = asyncio.ensure_future(self._end_with_server())

    async def _end_with_server(self) -> None:
        push = self._push()
        while not push.closed and push.stats()["pages"] > 0:
            if _stops():
                # The loop continues: it carries the last events.
                await asyncio.to_thread(push.close, GOODBYE_S)
                return
            await asyncio.sleep(LOOK_S)


def _stops() -> bool:
    """Returns whether uvicorn is stopping. It then waits for open responses without telling them."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


def _receiving(fn: Authorize, scope: Scope) -> Authorizer:
    """may(action, what) for another thread, in the context of this request."""
    context = contextvars.copy_context()
    if not is_async(fn):
        return lambda action, what: context.run(fn, scope, action, what)
    loop = asyncio.get_running_loop()

    def may(action: str, what: str) -> Any:
        asked = fn(scope, action, what)
        return context.run(asyncio.run_coroutine_threadsafe, asked, loop).result()

    return may


async def _events(ours: socket.socket, send: Send) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(ours, 65536):
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _header(scope: Scope, name: bytes) -> str | None:
    for each, value in scope["headers"]:
        if each == name:
            text: str = value.decode("latin-1")
            return text
    return None


async def _say(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b""
) -> None:
    if status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _file(send: Send, name: str) -> None:
    body = (resources.files("libbus") / "static" / name).read_bytes()
    await _say(send, 200, [(b"content-type", FILES[name])], body)


async def _refuse(send: Send, refused: Refused) -> None:
    error = {"code": refused.code, "message": refused.message, **refused.about}
    headers = [(b"content-type", b"application/json")]
    if refused.status == 503:
        headers.append((b"retry-after", b"2"))
    await _say(send, refused.status, headers, json.dumps({"error": error}).encode())
