"""Greenlets: a waiting call lets the other greenlets of its hub run, and callbacks run in a greenlet.

The hub waits on descriptors, so no extra thread is needed. Only this file knows gevent and eventlet, and it imports neither: a
program with greenlets has imported its library already.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from libbus import _core
from libbus._request import received
from libbus._threads import SHORTEST_S, Threads, call, pauses

if TYPE_CHECKING:
    import select

    from libbus._bus import Bus
    from libbus._publisher import Sending
    from libbus._request import Reply
    from libbus._threads import Runner

    T = TypeVar("T")

GEVENT, EVENTLET = "gevent._hub_local", "eventlet.hubs"

STATE, NOT_SUPPORTED = (
    next(code for code, name, *_ in _core.ERRORS if name == wanted)
    for wanted in ("BUS_E_STATE", "BUS_E_NOTSUP")
)


def hub() -> Any:
    """Returns gevent's hub of this thread; None: it has none, and waits block the thread.

    The main thread of a program that gevent has patched gets a hub: the program's threads are greenlets.
    """
    known: Any = sys.modules.get(GEVENT)
    if known is None:
        return None
    here = known.get_hub_if_exists()
    return known.get_hub() if here is None and _is_patched() and _is_main_thread() else here


def _is_patched() -> bool:
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _is_eventlet() -> bool:
    """Returns whether this thread has a hub of eventlet, or gets one at its first wait."""
    hubs: Any = sys.modules.get(EVENTLET)
    if hubs is None:
        return False
    patcher: Any = sys.modules.get("eventlet.patcher")
    patched = patcher is not None and patcher.is_monkey_patched("thread")
    return hasattr(hubs._threadlocal, "hub") or (patched and _is_main_thread())


def _is_main_thread() -> bool:
    """Finds the main thread also in a patched program, where threading.main_thread() is another one."""
    return threading.get_native_id() == os.getpid()


def _error(code: int, text: str) -> Exception:
    error: Any = _core.error(code)
    named: Any = type(error)(text)
    named.code, named.name, named.topic, named.address = error.code, error.name, None, None
    raised: Exception = named
    return raised


def _is_current(greenlet: object) -> bool:
    gevent: Any = sys.modules["gevent"]
    return gevent.getcurrent() is greenlet


def _refuse_in_hub(of: object) -> None:
    if _is_current(of):
        raise _error(
            STATE, "waiting here would block the hub: wait in a greenlet, gevent.spawn(function)"
        )


# --- waiting for a descriptor ---------------------------------------------------------------------------------


class _Bell:
    """The greenlets of one hub that wait for one descriptor. Each time it is readable, the first of them runs.

    If more messages wait, the descriptor stays readable and wakes the next greenlet; likewise if the first one is killed.
    """

    __slots__ = ("waiters", "watcher")

    def __init__(self, hub: Any, fd: int) -> None:
        self.watcher = hub.loop.io(fd, 1)
        self.waiters: deque[Any] = deque()

    def ring(self) -> None:
        """Runs in the hub."""
        if self.waiters:
            self.waiters.popleft().switch(True)


# By hub; only the hub's thread uses its entries.
_bells: weakref.WeakKeyDictionary[Any, dict[int, _Bell]] = weakref.WeakKeyDictionary()


def wait(fd: int, seconds: float | None) -> bool:
    """Waits up to `seconds` until fd may be readable. False: this thread has no hub."""
    here = hub()
    if here is None:
        if _is_eventlet():
            EVENTLETS.refuse("waiting here", "")
        return False
    _refuse_in_hub(here)
    bells = _bells.get(here)
    if bells is None:
        bells = _bells[here] = {}
    bell = bells.get(fd)
    if bell is None:
        bell = bells[fd] = _Bell(here, fd)
        bell.watcher.start(bell.ring)
    waiter = sys.modules["gevent.hub"].Waiter(here)
    bell.waiters.append(waiter)
    timer = None
    try:
        if seconds is not None:
            timer = here.loop.timer(seconds)
            timer.start(waiter.switch, False)
        waiter.get()
    finally:
        if timer is not None:
            timer.close()
        if waiter in bell.waiters:  # timed out, or killed
            bell.waiters.remove(waiter)
        if not bell.waiters and bells.get(fd) is bell:
            del bells[fd]
            bell.watcher.close()
    return True


_core._wait_with((GEVENT, EVENTLET), wait)


def _sleep(seconds: float) -> None:
    gevent: Any = sys.modules["gevent"]
    gevent.sleep(seconds)


# --- the way ----------------------------------------------------------------------------------------------------


class Green(Threads):
    """A wait lets other greenlets of the hub run. gevent.Timeout and kill() end it without taking a message."""

    call = staticmethod(call)
    sends_here = None
    _ends = False  # the interpreter ends and starts no more threads

    def request(
        self,
        bus: Bus,
        topic: str,
        value: _core.Value,
        timeout: float | None,
        headers: dict[Any, Any] | None,
    ) -> Reply:
        question = bus._ask(topic, value, timeout=timeout, headers=headers)
        try:
            while (msg := question.take()) is None:
                wait(question.fileno(), None)
        finally:
            question.close()
        return received(msg)

    def patiently(
        self, attempt: Callable[[float | None], T], timeout: float | None, slice_s: float = 0.0
    ) -> T:
        deadline = None if timeout is None else time.monotonic() + timeout
        for pause in pauses():
            left = slice_s if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return attempt(min(left, slice_s))
            except _core.BusTimeoutError:
                if left == 0 and deadline is not None:
                    raise
            _refuse_in_hub(hub())
            _sleep(pause if deadline is None else min(pause, left))
        raise AssertionError

    def aside(self, function: Callable[..., T], *arguments: Any) -> T:
        here = hub()
        if self._ends or _is_current(here):
            return function(*arguments)
        result: T = here.threadpool.apply(function, arguments)
        return result

    def until(
        self, done: Callable[[], bool], deadline: float | None, news: threading.Condition
    ) -> bool:
        for pause in pauses():
            if done():
                return True
            left = pause if deadline is None else deadline - time.monotonic()
            if (left <= 0 and deadline is not None) or _is_current(hub()):
                return False
            _sleep(min(pause, left))
        raise AssertionError

    def flush(self, work: Any, due: int, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        return self.until(lambda: bool(work.flush(due, 0.0)), deadline, threading.Condition())

    def finish(self, sending: Sending) -> Any:
        _refuse_in_hub(hub())
        return sending.now(_sleep)

    def runner(
        self, function: Callable[..., None], arguments: tuple[Any, ...], name: str
    ) -> Runner:
        return Greenlet(function, arguments, name)

    def work(self, mailbox: _core.Mailbox, workers: int) -> Work:
        return Work(mailbox, workers)

    def join(self, runner: Runner, timeout: float) -> None:
        """Does not block on a thread, since that thread may be waiting for this hub."""
        deadline = time.monotonic() + timeout
        self.until(lambda: not runner.is_alive(), deadline, threading.Condition())

    def hush(self) -> None:
        super().hush()
        self._ends = True
        here = hub()
        here.NOT_ERROR = (*here.NOT_ERROR, _core.ClosedError)

    def epoll(self) -> select.epoll:
        monkey: Any = sys.modules.get("gevent.monkey")  # which removes epoll from the module select
        if monkey is None:
            return super().epoll()
        made: select.epoll = monkey.get_original("select", "epoll")()
        return made

    def poll(self, epoll: select.epoll) -> list[tuple[int, int]]:
        while not (found := epoll.poll(0)):
            wait(epoll.fileno(), None)
        return found


class Foreign(Threads):
    """A thread without a hub in a patched program, such as one of gevent's threadpool. Its waits block the thread. It cannot
    start threads: threading would make greenlets, which never run there."""

    def work(self, mailbox: _core.Mailbox, workers: int) -> Any:
        self.epoll()

    def epoll(self) -> Any:
        raise _error(
            STATE,
            "callbacks need a hub, and this thread has none: register them in a greenlet, or in the main thread",
        )


class Eventlets(Threads):
    """With eventlet no call may wait: it would stop all greenlets."""

    sends_here = None

    def refuse(self, call: str, instead: str) -> None:
        raise _error(
            NOT_SUPPORTED,
            f"{call} would block eventlet's hub, and with it all greenlets: use gevent, or a thread, as"
            " eventlet.tpool.execute(function) does; publish() and recv_nowait() do not wait",
        )

    def request(
        self,
        bus: Bus,
        topic: str,
        value: _core.Value,
        timeout: float | None,
        headers: dict[Any, Any] | None,
    ) -> Any:
        self.refuse("request()", "")

    def finish(self, sending: Sending) -> Any:
        return sending.now(lambda seconds: self.refuse("send() without room", ""))

    def work(self, mailbox: _core.Mailbox, workers: int) -> Any:
        self.refuse("a callback", "")

    def epoll(self) -> Any:
        self.refuse("a callback", "")


GREEN, FOREIGN, EVENTLETS = Green(), Foreign(), Eventlets()


def way() -> Threads | None:
    """Returns the way of waiting of this thread; None: no greenlets are involved."""
    if GEVENT not in sys.modules:
        return EVENTLETS if _is_eventlet() else None
    if hub() is not None:
        return GREEN
    if _is_patched():
        return FOREIGN
    _await_patch()
    return None


class Greenlet:
    """A Runner in the hub of the thread that makes it."""

    def __init__(
        self, function: Callable[..., None], arguments: tuple[Any, ...], name: str
    ) -> None:
        gevent: Any = sys.modules["gevent"]
        self._hub = hub()
        self._greenlet = gevent.Greenlet(function, *arguments)
        self._greenlet.name = name

    def start(self) -> None:
        if hub() is self._hub:
            self._greenlet.start()
        else:
            self._hub.loop.run_callback_threadsafe(self._greenlet.start)

    def is_alive(self) -> bool:
        return not self._greenlet.dead

    def is_current(self) -> bool:
        return _is_current(self._greenlet)

    def join(self, timeout: float | None = None) -> None:
        """Runs on a thread other than the hub's, or in a greenlet if time is patched."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_alive() and (deadline is None or time.monotonic() < deadline):
            time.sleep(SHORTEST_S)


# --- a program that is patched while libbus's threads run ---------------------------------------------------------

# gunicorn patches each gevent worker after the fork, when the callbacks of a bus with on_fork="reopen" already have threads. These
# threads stay, but the program's functions expect to run in a greenlet.


# The thread that waits for each greenlet.
_waiting_threads: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


@functools.cache
def _await_patch() -> None:
    """Once."""
    importlib.import_module("gevent.events").subscribers.append(_hear)


def _hear(event: object) -> None:
    """gevent calls it at each switch."""
    did_patch = sys.modules["gevent.events"].GeventDidPatchAllEvent
    if isinstance(event, did_patch) and _is_patched() and _is_main_thread():
        Threads.call = staticmethod(functools.partial(_call_in, hub()))
        Threads.current = staticmethod(_current_thread)


def _current_thread() -> int:
    gevent: Any = sys.modules["gevent"]
    return _waiting_threads.get(gevent.getcurrent()) or threading.get_native_id()


def _call_in(home: Any, function: Callable[..., None], *arguments: Any) -> None:
    """Calls the function in a greenlet of that hub, and waits for the result on this thread."""
    gevent: Any = sys.modules["gevent"]
    thread = threading.get_native_id()
    done = sys.modules["gevent.monkey"].get_original("_thread", "allocate_lock")()
    done.acquire()
    raised: list[BaseException] = []

    def run() -> None:
        _waiting_threads[gevent.getcurrent()] = thread
        try:
            function(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)
        finally:
            done.release()

    home.loop.run_callback_threadsafe(lambda: gevent.spawn(run))
    done.acquire()
    if raised:
        raise raised.pop()


# --- workers ----------------------------------------------------------------------------------------------------

# Messages taken in advance.
AHEAD = 64


class Work:
    """Like _core.Work: the messages of a mailbox for several greenlets of one hub, in order per topic."""

    def __init__(self, mailbox: _core.Mailbox, workers: int) -> None:
        if not 1 <= workers <= 256:
            raise ValueError(f"workers={workers}: give a number from 1 to 256")
        self._mailbox = mailbox
        self._queue: deque[tuple[int, _core.Message]] = deque()
        # For each worker with a message: how far the mailbox was read before it, and its topic.
        self._busy: dict[int, tuple[int, str]] = {}
        self._fetches = False
        self._ended = False
        self._error: Exception | None = None
        self._sleepers: deque[Any] = deque()

    def next(self, worker: int, /) -> _core.Message | None:
        if self._busy.pop(worker, None) is not None:
            self._wake()
        while not self._ended:
            topics = {topic for _, topic in self._busy.values()}
            for at, (before, msg) in enumerate(self._queue):
                if msg.topic not in topics:
                    del self._queue[at]
                    self._busy[worker] = before, msg.topic
                    return msg
            if self._fetches or len(self._queue) >= AHEAD:
                self._rest()
            else:
                self._fetch()
        self._wake()
        if self._error is not None:
            raise self._error
        return None

    def _rest(self) -> None:
        event = sys.modules["gevent.event"].Event()
        self._sleepers.append(event)
        try:
            event.wait()
        finally:
            if event in self._sleepers:
                self._sleepers.remove(event)

    def _wake(self) -> None:
        """Wakes all workers: they are few, and each finds a different message."""
        while self._sleepers:
            self._sleepers.popleft().set()

    def _fetch(self) -> None:
        self._fetches = True
        try:
            before = self._mailbox._reached()[0]
            taken = self._mailbox._take()
            if self._ended:
                return
            self._queue.extend((before, msg) for msg in taken)
            if not taken:
                wait(self._mailbox.fileno(), None)
        except _core.ClosedError:
            self._ended = True
        except _core.TransportError as error:  # the log is damaged
            self._ended, self._error = True, error
        finally:
            self._fetches = False
            self._wake()

    def flush(self, due: int, timeout: float | None, /) -> bool:
        """Runs on a thread without the hub, or with timeout 0."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_handled(due):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(SHORTEST_S)
        return True

    def _is_handled(self, due: int) -> bool:
        if self._ended:
            return True
        try:
            reached, nothing_waits = self._mailbox._reached()
        except _core.ClosedError:
            return True
        before = [each for each, _ in list(self._queue)]
        before += [each for each, _ in list(self._busy.values())]
        if before:
            return min(before) >= due
        return reached >= due or nothing_waits

    def close(self) -> int:
        """Runs on any thread. Close the mailbox next: that wakes the greenlet that fetches."""
        self._ended = True
        left = len(self._queue)
        self._queue.clear()
        return left
