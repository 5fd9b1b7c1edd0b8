"""The state of one app's bus in this process."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import threading
import weakref
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Flask, Response, copy_current_request_context, jsonify

import libbus
from libbus import _core
from libbus._answers import Answers
from libbus._guard import Guard
from libbus._pages import Page, add
from libbus.flask import _detach, _servers
from libbus.flask._handlers import Background, Call, Handler, handlers_of
from libbus.flask._worker import run_in_background, wait_no_longer

if TYPE_CHECKING:
    from libbus._answers import Authorizer
    from libbus.flask._extension import Bus

LOGGED = (
    8  # a process logs at most this many reasons of one kind: invented filters cannot fill the log
)
COLLECT_EVERY = 16  # number of apps that opened a bus: an app is a reference cycle, which the collector may leave alone for long
RETRY_S = 2
GOODBYE_S = 1.0  # seconds to end all pages, at the end of the process


class Settings(NamedTuple):
    """The arguments of init_app()."""

    name: str | None = None
    allow: tuple[str, ...] = ()
    allow_publish: tuple[str, ...] = ()
    guard: Guard = Guard((), (), "init_app")
    listen: tuple[str, ...] = ()
    dial: tuple[str, ...] = ()
    max_pages: int | None = None
    heartbeat: float = 15.0
    history: int = 0
    bus: Mapping[str, Any] = MappingProxyType({})  # further options of libbus.Bus


class Way(NamedTuple):
    """The way in which pages get their events here, and the limit of pages."""

    detaches: bool
    places: _servers.Places


class State:
    def __init__(self, ext: Bus, app: Flask, settings: Settings) -> None:
        self.ext, self.app, self.settings = ext, app, settings
        self.name, self.heartbeat = settings.name, settings.heartbeat
        self.own = handlers_of(app)
        # Outlives the app and closes the bus at its end: each test makes and drops an app.
        self.opened: list[libbus.Bus | _core.Push] = []
        weakref.finalize(self, _end, self.opened).atexit = False
        self.forget()
        states.add(self)

    def forget(self) -> None:
        """Resets the state in a forked child: the parent's bus does not work here, and its lock may be held."""
        self.lock = threading.RLock()
        self.bus: libbus.Bus | None = None
        self.push: _core.Push | None = None
        self.answers: Answers | None = None
        self.registered: set[Handler | Background] = set()  # on this bus
        self.retry_at = 0.0
        self.opened.clear()
        self.carried = 0  # pages that hold a thread
        self.said: dict[str, set[str]] = {}
        self.way_said = False
        self.detaches = False
        self.fails_because: str | None = (
            None  # _detach's result for this system; None: not yet known
        )

    def handlers(self) -> list[Handler]:
        return self.ext._handlers + [each for each in self.own if each.ext is self.ext]

    def idle(self) -> bool:
        """Whether handlers or background functions wait for the bus to open."""
        with self.lock:
            return any(
                each not in self.registered for each in (*self.handlers(), *self.ext._backgrounds)
            )

    def start(self) -> None:
        """Calls work() outside a request. If it fails, the first request tries again."""
        try:
            self.work()
        except (libbus.BusError, MemoryError) as error:
            self.say(
                "NO_BUS",
                f"the bus cannot be opened, so no handler is called: {error or 'out of memory'}",
            )

    def work(self) -> None:
        """Opens the bus, which from then on calls handlers, and starts the background functions."""
        bus = self.open()
        find = weakref.ref(self.app)

        def context() -> Any:
            app = find()
            return None if app is None else app.app_context()

        for background in self.ext._backgrounds:
            with self.lock:
                if background in self.registered or self.bus is not bus:
                    continue
                self.registered.add(background)
            run_in_background(bus, background, context)

    # --- the bus ------------------------------------------------------------------------------------------

    def open(self) -> libbus.Bus:
        """Returns the bus. A finalizer or a signal handler that runs inside gets it before all handlers and links are added."""
        with self.lock:
            if self.bus is not None:
                return self.bus
            if next(_opens) % COLLECT_EVERY == 0:
                gc.collect()
            # A forked worker opens a new bus at its first use.
            bus = libbus.Bus(self.name, **{"on_fork": "close", **self.settings.bus})
            if self.bus is not None:  # a finalizer or signal handler has opened it
                bus.close(0)
                return self.bus
            self.bus = bus
            self.opened.append(bus)
            try:
                for handler in self.handlers():
                    self.register(handler)
                for url in self.settings.listen:
                    bus.listen(url)
                for url in self.settings.dial:
                    bus.dial(url)
                if self._remembers():
                    self.pages()  # pages keep the history from now on
            except BaseException:
                self.let_go()
                bus.close(0)  # outside the lock: a handler may wait for it
                raise
            return bus

    def register(self, handler: Handler) -> None:
        """Registers a handler once on each bus, whether open() or on() finds it first."""
        with self.lock:
            if self.bus is not None and handler not in self.registered:
                self.registered.add(handler)
                try:
                    self.bus.on(handler.asked, Call(self, handler), **handler.options)
                except BaseException:
                    self.registered.discard(handler)
                    raise

    def let_go(self) -> tuple[libbus.Bus | None, _core.Push | None]:
        with self.lock:
            bus, self.bus = self.bus, None
            push, self.push = self.push, None
            self.answers = None
            self.registered.clear()
            self.opened.clear()
        return bus, push

    def close(self) -> None:
        wait_no_longer(self)
        bus, push = self.let_go()
        if push is not None:
            push.close(GOODBYE_S)
        if bus is not None:
            bus.close()

    # --- pages --------------------------------------------------------------------------------------------

    def pages(self) -> _core.Push:
        """The pages of the bus."""
        with self.lock:
            bus = self.open()
            if self.push is None:
                # Pages that hold a thread are counted here: their place is free before the library has seen them leave.
                places = _servers.detached_places(self.settings.max_pages)
                self.push = _core.Push(
                    bus,
                    heartbeat=self.heartbeat,
                    retry=RETRY_S,
                    max_pages=max(1, places.most) if self.detaches else 0,
                    history=self.settings.history,
                    remember=self.settings.allow if self._remembers() else (),
                )
                self.answers = Answers(self.push)
                self.opened.insert(0, self.push)  # it ends before its bus
            return self.push

    def _remembers(self) -> bool:
        """Whether pages of a private bus may start with events that no page got: this costs time for each message of allow=."""
        return self.settings.history > 0 and not self.name

    def way(self, environ: dict[str, Any]) -> Way:
        because = _servers.kept_because(environ)
        if not because:
            if self.fails_because is None:
                self.fails_because = _detach.fails_because()
            because = self.fails_because
        self.detaches = not because
        self._say_way(because)
        most = self.settings.max_pages
        if because:
            return Way(False, _servers.thread_places(environ, most))
        return Way(True, _servers.detached_places(most))

    def has_place(self, way: Way) -> bool:
        open_now = self.pages().stats()["pages"] if way.detaches else self.carried
        return open_now < way.places.most

    def add(self, fd: int, page: Page, head: bytes, authorizer: Authorizer | None) -> int:
        """Adds a page on a socket, in its request."""
        push = self.pages()

        answers = self.answers
        if authorizer is None:
            return add(push, fd, page, head=head)
        if answers is None:
            raise libbus.ClosedError("the bus of this app was just closed: connect again")
        # authorize sees the session and the request of the page.
        may = copy_current_request_context(authorizer)
        return answers.add(may, lambda: add(push, fd, page, head=head, ask=True))

    def remove(self, page: int) -> None:
        self.pages().remove(page)

    def end_pages(self) -> None:
        """Ends all pages, which reconnect to another worker: this one ends."""
        with self.lock:
            push = self.push
        if push is not None:
            push.close(GOODBYE_S)

    def enter(self, environ: dict[str, Any]) -> bool:
        places = self.way(environ).places
        with self.lock:
            if self.carried >= places.most:
                return False
            self.carried += 1
            return True

    def leave(self) -> None:
        with self.lock:
            self.carried -= 1

    # --- log records ----------------------------------------------------------------------------------------

    def refuse(self, status: int, code: str, message: str, **more: str) -> Response:
        self.say(code, message)
        response = jsonify(error={"code": code, "message": message, **more})
        response.status_code = status
        if status == 503:
            response.headers["Retry-After"] = str(RETRY_S)
        return response

    def say(self, code: str, message: str) -> None:
        """Logs the reason why a page is not live: each reason once in a process, and at most LOGGED of a kind."""
        with self.lock:
            said = self.said.setdefault(code, set())
            if message in said or len(said) == LOGGED:
                return
            said.add(message)
            last = " (further reasons of this kind are not logged)" if len(said) == LOGGED else ""
        self.app.logger.warning("libbus: %s%s", message, last)

    def _say_way(self, because: str) -> None:
        with self.lock:
            if self.way_said:
                return
            self.way_said = True
        if because:
            self.app.logger.warning(
                "libbus: each live page needs a thread of this server: %s", because
            )
        else:
            self.app.logger.info(
                "libbus: live pages hold no thread: their sockets leave the server"
            )


def _end(opened: list[libbus.Bus | _core.Push]) -> None:
    for each in opened:
        each.close(0)  # may run on any thread, in a garbage collection: must not wait


states: weakref.WeakSet[State] = weakref.WeakSet()
_opens = itertools.count(1)


def _forget_all() -> None:
    for state in states:
        state.forget()


os.register_at_fork(after_in_child=_forget_all)


@atexit.register
def _end_all_pages() -> None:
    """Runs before the buses end: tells pages to reconnect, to another worker or to the next process."""
    for state in list(states):
        state.end_pages()
