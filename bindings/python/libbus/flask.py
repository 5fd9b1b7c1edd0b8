"""libbus for Flask: publish from a view, see it on the page.

    from flask import Flask
    from libbus.flask import Bus

    app = Flask(__name__)
    bus = Bus(app, name="home", allow=["sensors/#"])    # what pages may listen to; nothing unless you say so

In a template {{ bus.script() }}, then in the page

    const bus = libbus();
    bus.on("sensors/+/temp", (value, msg) => console.log(msg.topic, value));

An open page holds one thread of the server for as long as it is open. So that it never takes them all,
pages have a limit, max_pages; unless you set it: three quarters of gunicorn's threads (none in a worker
without: sync, and gevent, whose one thread a waiting page would stop), 64 under Flask's own server, which
starts a thread for each request, 3 under a server we know nothing of. The page over the limit gets 503 and tries again by itself.

A refused page gets the reason as JSON, {"error": {"code": ..., "message": ...}}, and the client shows it in the page's
state and in the browser's console. The app's logger has the same sentence as a warning, once in each process.

With a name all worker processes are on one bus, and so is every other program of this user that opens the
name: libbus.Bus("home"), bus_open("home"), libbus sub home. Without one every worker has a bus of its own;
to join those, let each dial one program that listens. Either is opened at its first use.

What ends when: the bus of an app ends with close(), or when the app is collected, with its thread, its descriptors and the
handlers that are the app's. In an app factory

    bus = Bus()                                         # outside: one for all apps

    def create_app():
        app = Flask(__name__)
        bus.init_app(app, name="home")

        @bus.on("sensors/#", app=app)                   # this app's: it ends with the app
        def heard(msg): ...

Without app= a function that refers to one app of the bus by its closure is that app's as well. Any other is called in every
app of the bus, and lives as long as the bus object does, with all that it refers to.

A bus that cannot be opened leaves views that do not use it alone: the log has the reason once, handlers are not called, and a
request tries again after two seconds. Views that use it raise the bus's exception.
"""

from __future__ import annotations

import base64
import gc
import itertools
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import types
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    has_app_context,
    jsonify,
    request,
    url_for,
)
from markupsafe import Markup
from werkzeug.test import run_wsgi_app

import libbus
from libbus import _core

__all__ = ["Bus"]

LOOK_S = 0.5  # how soon a page whose browser is gone, or whose worker ends, lets its thread go
LOGGED = 8  # reasons of one kind in the log of a process: invented filters cannot fill it
COLLECT_EVERY = (
    16  # apps that opened a bus: an app is a cycle, which the collector may leave for long
)
BATCH = 64  # messages in one write: few system calls under load, and no page hogs its thread
RETRY_S = 2
CHEAP_PAGES = 64
UNKNOWN_PAGES = 3  # waitress, for one, has four threads

Handler = Callable[[libbus.Message], Any]

BUS_FAILURES = (libbus.BusError, MemoryError)

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",  # nginx holds events back otherwise
}


class Bus:
    """A bus for a Flask app; the app factory's init_app() fits too. Opens nothing until it is used.

    Args:
        app: The app; None: init_app() gives it later.
        options: Those of init_app().
    """

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._apps: list[weakref.ref[_State]] = []  # an app holds its state, and may go
        self._handlers: list[_Handler] = []  # of all apps
        if app is not None:
            self.init_app(app, **options)
        elif options:
            raise TypeError("give the options to init_app(app, ...), where the app is")

    def init_app(
        self,
        app: Flask,
        *,
        name: str | None = None,
        allow: str | Iterable[str] = (),
        listen: str | Iterable[str] = (),
        dial: str | Iterable[str] = (),
        max_pages: int | None = None,
        heartbeat: float = 15.0,
        url_prefix: str = "/bus",
    ) -> None:
        """Adds the bus to an app.

        Args:
            app: The app.
            name: Of the bus, which all processes that open it share. None: each worker has a bus of its own.
            allow: Filters that pages may listen to at the ready-made endpoint; none unless you say so.
            listen: Addresses of links to listen on, of a bus without a name.
            dial: Addresses of links to dial, of a bus without a name.
            max_pages: How many pages may be open in a process. None: three quarters of its threads, as far as they are known.
            heartbeat: Seconds between signs of life to a page.
            url_prefix: Where the endpoint and the client are served.

        Raises:
            RuntimeError: The app has a bus already.
            FilterError: A filter of allow is malformed.
        """
        if "libbus" in app.extensions:
            raise RuntimeError("this app has a libbus already: use app.extensions['libbus'].ext")
        allow, listen, dial = (_strings(given) for given in (allow, listen, dial))
        for asked in allow:
            libbus.filter_check(asked)
        if heartbeat <= 0:
            raise ValueError("heartbeat: seconds, more than 0")

        state = _State(self, app, name, allow, listen, dial, max_pages, heartbeat)
        app.extensions["libbus"] = state
        self._apps = [known for known in self._apps if known() is not None] + [weakref.ref(state)]

        blueprint = Blueprint("libbus", __name__, url_prefix=url_prefix, static_folder="static")
        blueprint.add_url_rule("/events", "events", self._events)
        app.register_blueprint(blueprint)
        app.context_processor(lambda: {"bus": self})
        app.before_request(self._open_for_handlers)

    @property
    def bus(self) -> libbus.Bus:
        """The libbus.Bus of this process, opened at the first use."""
        return self._state().open()

    def publish(
        self,
        topic: str,
        value: Any,
        *,
        retain: bool = False,
        ttl: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> None:
        """As libbus.Bus.publish(), on the bus of this process."""
        self.bus.publish(topic, value, retain=retain, ttl=ttl, headers=headers)

    def publish_raw(self, topic: str, data: str | bytes, **options: Any) -> None:
        """As libbus.Bus.publish_raw(), on the bus of this process."""
        self.bus.publish_raw(topic, data, **options)

    def subscribe(
        self,
        *filters: str,
        group: str | None = None,
        full: _core.Policy = "drop_oldest",
        max_bytes: int = 0,
        start: libbus.Start | None = None,
        type: Any = None,  # noqa: A002 - as in libbus.Bus.subscribe()
    ) -> libbus.Subscription[Any]:
        """As libbus.Bus.subscribe(). A callback is a function of on()."""
        return self.bus.subscribe(
            *filters, group=group, full=full, max_bytes=max_bytes, start=start, type=type
        )

    def on(
        self,
        topic_filter: str,
        /,
        *,
        app: Flask | None = None,
        full: _core.Policy = "drop_oldest",
        max_bytes: int = 0,
        start: libbus.Start | None = None,
        type: Any = None,  # noqa: A002
        workers: int | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorator: calls the function in every process that serves the app, from its first request on.

        Args:
            topic_filter: As in libbus.Bus.subscribe().
            app: Whose handler it is: it hears the bus of that app alone, and ends with it. None: the one app of
                this bus that the function refers to by its closure; if there is none, the function is called in all apps,
                and lives as long as this object.
            full: As in libbus.Bus.subscribe().
            max_bytes: As in libbus.Bus.subscribe().
            start: As in libbus.Bus.subscribe(); each of these processes begins there.
            type: As in libbus.Bus.subscribe().
            workers: As in libbus.Bus.subscribe().
        """
        if callable(topic_filter):
            raise TypeError(
                "on() has no filter: write @bus.on('sensors/#') above the function, with parentheses"
            )
        libbus.filter_check(topic_filter)
        options = {
            "full": full,
            "max_bytes": max_bytes,
            "start": start,
            "type": type,
            "workers": workers,
        }

        def register(fn: Handler) -> Handler:
            states = self._states()
            handler = _Handler(self, topic_filter, fn, options)
            owner = app or _app_of(fn, [state.app for state in states])
            if owner is None:
                self._warn_of_another(handler)
                self._handlers.append(handler)
            else:
                _handlers_of(owner).append(handler)
                states = [state for state in states if state.app is owner]
            for state in states:
                state.register(handler)
            return fn

        return register

    def _warn_of_another(self, handler: _Handler) -> None:
        code = getattr(handler.fn, "__code__", None)
        if code is not None and any(
            known.asked == handler.asked and getattr(known.fn, "__code__", None) is code
            for known in self._handlers
        ):
            warnings.warn(
                f"on({handler.asked!r}): {handler.fn.__qualname__} is registered again, and each of them is called in all"
                " apps of this bus: in an app factory write on(..., app=app)",
                RuntimeWarning,
                stacklevel=3,
            )

    def close(self) -> None:
        """Ends the bus of this process; open pages end, and reconnect elsewhere or here."""
        for state in self._states():
            state.close()

    def script(self, nonce: str | None = None) -> Markup:
        """The `<script>` element of the page's client, for a template.

        Args:
            nonce: Of a Content-Security-Policy.
        """
        src = url_for("libbus.static", filename="libbus.js")
        return Markup(
            '<script src="{}" nonce="{}"></script>' if nonce else '<script src="{}"></script>'
        ).format(src, nonce)

    def sse(self, *filters: str, start: libbus.Start | None = None) -> Response:
        """The answer of a view: everything that matches, for as long as the page is open.

        Who may hear what is your view's choice; allow= speaks only of the ready-made endpoint. With too many open pages
        the answer has status 503.

        Args:
            filters: As in libbus.Bus.subscribe().
            start: Where in the past of a bus with a name each page begins, and begins again when it reconnects.
        """
        state = self._state()
        places, taken = state.places(request.environ)
        if state.pages >= places:
            return state.refuse(503, "TOO_MANY_PAGES", taken)
        try:
            subscription = state.open().subscribe(*filters, start=start)
        except libbus.FilterError:
            raise  # the view's mistake
        except BUS_FAILURES as error:
            return state.refuse(503, "NO_BUS", _no_bus(error))
        # A browser hides the refusal of an EventSource. libbus.js asks for it first, and takes no place.
        if request.method == "HEAD" or "libbus-ask" in request.args:
            subscription.close()
            return Response(headers=HEADERS)
        if not state.enter(places):  # another page took the last place since
            subscription.close()
            return state.refuse(503, "TOO_MANY_PAGES", taken)
        page = _Page(state, subscription, _descriptor(request.environ))
        # direct_passthrough: nobody may join or measure a body that has no end
        return Response(page, headers=HEADERS, direct_passthrough=True)

    def __repr__(self) -> str:
        apps = [
            f"{state.app.name} on {state.name}" if state.name else state.app.name
            for state in self._states()
        ]
        return f"<libbus.flask.Bus {'of ' + ', '.join(apps) if apps else 'without an app'}>"

    def _events(self) -> Response:
        state = self._state()
        filters = request.args.getlist("filter")
        if not filters:
            return state.refuse(
                400, "NO_FILTER", "name at least one filter: events?filter=sensors/%23"
            )
        for asked in filters:
            try:
                libbus.filter_check(asked)
            except libbus.FilterError as error:
                return state.refuse(400, "FILTER", str(error), filter=asked)
        for asked in filters:
            if not any(libbus.filter_covers(allowed, asked) for allowed in state.allow):
                return state.refuse(
                    403,
                    "NOT_ALLOWED",
                    f"pages may not listen to {asked!r}: add it to init_app(allow=[...])",
                    filter=asked,
                )
        return self.sse(*filters)

    def _open_for_handlers(self) -> None:
        state = self._state()
        if state.bus is not None or not state.handlers() or time.monotonic() < state.retry_at:
            return
        try:
            state.open()
        except BUS_FAILURES as error:
            # Most views do without the bus; those that use it, and pages, get the exception or the reason themselves.
            state.retry_at = time.monotonic() + RETRY_S
            if request.blueprint != "libbus":
                state.say("NO_BUS", f"no bus, so no handler is called: {_reason(error)}")

    def _states(self) -> list[_State]:
        return [state for known in self._apps if (state := known()) is not None]

    def _state(self) -> _State:
        if has_app_context():
            state: _State | None = current_app.extensions.get("libbus")
            if state is not None and state.ext is self:
                return state
            raise RuntimeError("this app does not know this bus: call bus.init_app(app)")
        states = self._states()
        if len(states) == 1:
            return states[0]
        if not states:
            raise RuntimeError("the bus has no app yet: call bus.init_app(app)")
        raise RuntimeError("the bus serves several apps: say which one with app.app_context()")


class _State:
    """What one app has of the bus, in this process."""

    def __init__(
        self,
        ext: Bus,
        app: Flask,
        name: str | None,
        allow: tuple[str, ...],
        listen: tuple[str, ...],
        dial: tuple[str, ...],
        max_pages: int | None,
        heartbeat: float,
    ) -> None:
        self.ext, self.app = ext, app
        self.name, self.allow, self.listen, self.dial = name, allow, listen, dial
        self.max_pages, self.heartbeat = max_pages, heartbeat
        self.own = _handlers_of(app)
        # Outlives the app, so that its end closes the bus: tests make and drop an app each.
        self.opened: list[libbus.Bus] = []
        weakref.finalize(self, _end, self.opened).atexit = False
        self.forget()
        _states.add(self)

    def forget(self) -> None:
        """A forked child starts afresh: the parent's bus does not work here, and its lock may be held."""
        self.lock = threading.RLock()
        self.bus: libbus.Bus | None = None
        self.registered: set[_Handler] = set()  # on this bus
        self.retry_at = 0.0
        self.opened.clear()
        self.pages = 0
        self.said: dict[str, set[str]] = {}

    def handlers(self) -> list[_Handler]:
        return self.ext._handlers + [each for each in self.own if each.ext is self.ext]

    def open(self) -> libbus.Bus:
        """The bus. A finalizer or a signal handler that runs inside gets it while handlers and links are still added."""
        with self.lock:
            if self.bus is not None:
                return self.bus
            if next(_opens) % COLLECT_EVERY == 0:
                gc.collect()
            # A forked worker opens its own at its first use.
            bus = libbus.Bus(self.name, on_fork="close")
            if self.bus is not None:  # such a one has opened it
                bus.close(0)
                return self.bus
            self.bus = bus
            self.opened.append(bus)
            try:
                for handler in self.handlers():
                    self.register(handler)
                for url in self.listen:
                    bus.listen(url)
                for url in self.dial:
                    bus.dial(url)
            except BaseException:
                self.let_go()
                bus.close(0)  # a handler may wait for our lock
                raise
            return bus

    def register(self, handler: _Handler) -> None:
        """Once for each bus, whether open() or on() finds the handler first."""
        with self.lock:
            if self.bus is not None and handler not in self.registered:
                self.registered.add(handler)
                try:
                    self.bus.on(handler.asked, _Call(self, handler), **handler.options)
                except BaseException:
                    self.registered.discard(handler)
                    raise

    def let_go(self) -> libbus.Bus | None:
        with self.lock:
            bus, self.bus = self.bus, None
            self.registered.clear()
            self.opened.clear()
        return bus

    def close(self) -> None:
        bus = self.let_go()
        if bus is not None:
            bus.close()

    def places(self, environ: dict[str, Any]) -> tuple[int, str]:
        """How many pages may be open at once, so that the site keeps threads for everything else, and the
        sentence for the page beyond."""
        if self.max_pages is not None:
            limit = f"max_pages={self.max_pages}"
            if self.max_pages <= 0:
                return 0, f"{limit} allows no live page: raise it, or leave it out"
            return self.max_pages, _taken(limit, "raise max_pages")
        worker = _gunicorn_worker()
        if worker is not None:
            return _gunicorn_places(worker)
        # WSGI asks of no server that it says its name; uWSGI for one does not.
        server = environ.get("SERVER_SOFTWARE")
        if not server and _in_test_client():
            return CHEAP_PAGES, _taken(f"{CHEAP_PAGES} under Flask's own server", "set max_pages")
        server = server or "one that does not say its name"
        if not environ["wsgi.multithread"]:
            return 0, (
                f"this server ({server}) handles one request at a time and cannot hold a live page: "
                "start it with threads, like gunicorn --threads 8"
            )
        if server.startswith("Werkzeug"):
            return CHEAP_PAGES, _taken(f"{CHEAP_PAGES} under Flask's own server", "set max_pages")
        return UNKNOWN_PAGES, _taken(
            f"{UNKNOWN_PAGES} under {server}, whose number of threads is unknown",
            "set max_pages, to less than these threads",
        )

    def enter(self, places: int) -> bool:
        with self.lock:
            if self.pages >= places:
                return False
            self.pages += 1
            return True

    def leave(self) -> None:
        with self.lock:
            self.pages -= 1

    def refuse(self, status: int, code: str, message: str, **more: str) -> Response:
        self.say(code, message)
        response = jsonify(error={"code": code, "message": message, **more})
        response.status_code = status
        if status == 503:
            response.headers["Retry-After"] = str(RETRY_S)
        return response

    def say(self, code: str, message: str) -> None:
        """Logs why pages are not live: each reason once in a process, and LOGGED of a kind at most."""
        with self.lock:
            said = self.said.setdefault(code, set())
            if message in said or len(said) == LOGGED:
                return
            said.add(message)
            last = " (the log takes no further reason of this kind)" if len(said) == LOGGED else ""
        self.app.logger.warning("libbus: %s%s", message, last)


class _Handler:
    """A function of on(). The extension has those of all apps, an app has its own."""

    def __init__(self, ext: Bus, asked: str, fn: Handler, options: dict[str, Any]) -> None:
        self.ext, self.asked, self.fn, self.options = ext, asked, fn, options


def _handlers_of(app: Flask) -> list[_Handler]:
    """Kept by the app itself, so that both go together; also before init_app()."""
    own: list[_Handler] = app.extensions.setdefault("libbus.handlers", [])
    return own


def _app_of(fn: Handler, apps: list[Flask]) -> Flask | None:
    """The one of these apps that a function refers to by its closure, also through functions that it wraps."""
    found: list[Flask] = []
    seen: list[object] = [fn]
    for function in seen:
        for cell in getattr(function, "__closure__", None) or ():
            try:
                inside = cell.cell_contents
            except ValueError:  # not yet set
                continue
            if isinstance(inside, types.FunctionType):
                if inside not in seen:
                    seen.append(inside)
            elif any(inside is app for app in apps):
                found.append(inside)
    return found[0] if found and all(app is found[0] for app in found) else None


class _Call:
    """Calls a handler of an app while there is the app: a bus with callbacks lives until it is closed, and must not
    keep an app that its handlers refer to."""

    def __init__(self, state: _State, handler: _Handler) -> None:
        self._state, self._handler = weakref.ref(state), weakref.ref(handler)

    def __call__(self, msg: libbus.Message) -> None:
        state, handler = self._state(), self._handler()
        if state is not None and handler is not None:
            handler.fn(msg)

    def __repr__(self) -> str:
        handler = self._handler()
        return "a handler of an app that ended" if handler is None else repr(handler.fn)


def _end(opened: list[libbus.Bus]) -> None:
    for bus in opened:
        bus.close(0)  # this may be any thread, in a collection: wait for nothing


_states: weakref.WeakSet[_State] = weakref.WeakSet()
_opens = itertools.count(1)


def _forget_all() -> None:
    for state in _states:
        state.forget()


os.register_at_fork(after_in_child=_forget_all)


class _Page:
    """The body of one event stream. An object, not a generator: close() counts even before the first next()."""

    def __init__(
        self, state: _State, subscription: libbus.Subscription, descriptor: int | None
    ) -> None:
        self.state, self.subscription, self.descriptor = state, subscription, descriptor
        self.pid = os.getpid()
        self.closing = threading.Lock()
        self.beat_due = 0.0
        # The client learns the heartbeat from its data, and so how much silence is too much.
        self.beat = f"event: hb\ndata: {state.heartbeat:g}\n\n"
        self.first: str | None = f"retry: {RETRY_S * 1000}\n{self.beat}"
        if descriptor is not None:
            _give_up_after(descriptor, 2 * state.heartbeat)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if first := self.first:
            self.first = None
            return self._beating(first)
        while not self._over():
            try:
                text = _event(self.subscription.recv(timeout=min(LOOK_S, self.state.heartbeat)))
            except libbus.BusTimeoutError:
                if time.monotonic() >= self.beat_due:
                    return self._beating(self.beat)
                continue
            except libbus.ClosedError:
                break
            except BUS_FAILURES as error:
                self.state.say("NO_BUS", _no_bus(error))
                break
            return self._beating(text + self._more())
        self.close()
        raise StopIteration

    def _more(self) -> str:
        texts: list[str] = []
        try:
            while len(texts) < BATCH - 1:
                texts.append(_event(self.subscription.recv(timeout=0)))
        except BUS_FAILURES:
            pass  # no more for now; what is worse than that, the next call meets again
        return "".join(texts)

    def _beating(self, text: str) -> bytes:
        self.beat_due = time.monotonic() + self.state.heartbeat
        return text.encode()

    def _over(self) -> bool:
        worker = _gunicorn_worker()
        return (worker is not None and not worker.alive) or _hung_up(self.descriptor)

    def close(self) -> None:
        # Once, and never for a parent's page in a forked child.
        if self.closing.acquire(blocking=False) and self.pid == os.getpid():
            self.subscription.close()
            self.state.leave()

    __del__ = close


def _strings(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _event(msg: libbus.Message) -> str:
    topic, value, kept = json.dumps(msg.topic), _value(msg), json.dumps(msg.kept)
    return f'data: {{"topic":{topic},"value":{value},"kept":{kept},"lost":{msg.lost}}}\n\n'


def _value(msg: libbus.Message) -> str:
    # C's JSON as it stands: decoding and encoding it again here would cost more than all the rest.
    try:
        return msg.json()
    except libbus.DecodeError:  # not what its type says: a page gets the bytes, and goes on
        return json.dumps({"$bytes": base64.b64encode(msg.data).decode()})


def _no_bus(error: Exception) -> str:
    return f"no bus for this page: {_reason(error)}"


def _reason(error: Exception) -> str:
    return str(error) or "out of memory"


def _taken(limit: str, remedy: str) -> str:
    return (
        f"every place for a live page in this process is taken ({limit}): close a page, or {remedy}"
    )


def _in_test_client() -> bool:
    """Whether Flask's test client runs this request: it calls the app on this thread. What it sends any browser could send
    through a server that does not say its name."""
    frame = sys._getframe()
    while frame is not None and frame.f_code is not run_wsgi_app.__code__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def _gunicorn_places(worker: Any) -> tuple[int, str]:
    kind, threads = worker.cfg.worker_class_str, int(worker.cfg.threads)
    if kind.rpartition(".")[2] in ("gthread", "ThreadWorker"):
        if threads > 1:
            return threads * 3 // 4, _taken(
                f"{threads * 3 // 4}, with gunicorn's --threads {threads}",
                "start gunicorn with more --threads, of which three in four hold pages",
            )
    elif kind.rpartition(".")[2] not in ("sync", "SyncWorker"):
        return 0, (
            f'this worker (gunicorn\'s "{kind}") serves all on one thread, which a live page would stop: '
            "start gunicorn with --worker-class gthread --threads 8, of which 6 hold pages"
        )
    return 0, (
        f'this worker (gunicorn\'s "{kind}") has one thread and cannot hold a live page: '
        "start gunicorn with --threads 8, of which 6 hold pages"
    )


def _gunicorn_worker() -> Any:
    # Its SIGTERM handler is a method of the worker: the one door to its thread count, and to the news
    # that it is ending, that all worker classes share and an app can reach without a gunicorn hook.
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return worker if hasattr(worker, "alive") and hasattr(worker, "cfg") else None


def _descriptor(environ: dict[str, Any]) -> int | None:
    sock = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    return sock.fileno() if sock is not None else None


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
