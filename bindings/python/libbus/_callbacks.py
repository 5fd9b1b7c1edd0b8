"""Callbacks: one Python thread pulls batches and calls the functions. A callback with workers= has separate threads (work.c).
In a program with greenlets these threads are greenlets (_green.py).

The thread holds no reference to a function or to the bus while it waits. A bus with callbacks lives until close() or the end
of the interpreter, even if the program holds no reference to it.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import functools
import itertools
import logging
import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from libbus import _core
from libbus._closing import Closing
from libbus._loop import is_async, loop_for
from libbus._reader import reader
from libbus._ways import way

if TYPE_CHECKING:
    from libbus._bus import Bus
    from libbus._reader import Reader
    from libbus._start import Start
    from libbus._tasks import Tasks
    from libbus._threads import Runner, Threads, Work

    Function = Callable[[_core.Message], Any]

log = logging.getLogger("libbus")

FAILED = "callback %r failed on %s"

CLOSED = next(code for code, name, *_ in _core.ERRORS if name == "BUS_E_CLOSED")


# Every bus with callbacks: they keep the bus alive, as a reference does.
with_callbacks: set[Bus] = set()


def _keep(bus: Bus) -> None:
    """Adds the bus first, then checks closed. close() marks the bus closed before it discards it, so one of the two removes it."""
    with_callbacks.add(bus)
    if bus.closed:
        with_callbacks.discard(bus)


class Callback(Closing):
    """A registered callback, called for each message until close(). Made by bus.subscribe(..., callback=function)."""

    filters: tuple[str, ...]
    """The filters of the callback."""

    def __init__(
        self, bus: Bus, filters: tuple[str, ...], mailbox: _core.Mailbox, key: int
    ) -> None:
        self._bus = bus
        self.filters = filters
        self._mailbox = mailbox
        self._key = key
        self._last: _core.Stats | None = None  # the stats of a closed mailbox

    @property
    def closed(self) -> bool:
        """True after close() of the callback or the bus, and in a forked child."""
        return self._bus.closed or self._key not in self._bus._callbacks._functions

    def close(self) -> None:
        """Ends the calls. When close() returns on another thread, a last call may still run.

        Threads: any; also the callback itself, signal handlers and finalizers. Blocks: never.
        """
        callbacks = self._bus._callbacks
        mailbox = self._current()
        if self._key in callbacks._workers or self._key in callbacks._tasks:
            with contextlib.suppress(_core.BusError):
                self._last = mailbox.stats()
        callbacks.remove(self._bus, mailbox, self._key)
        callbacks.forget(mailbox)

    def _current(self) -> _core.Mailbox:
        """The mailbox. A forked child may have a different one than its parent."""
        asked = self._bus._callbacks._asked.get(self._key)
        return self._mailbox if asked is None else asked.mailbox

    def stats(self) -> _core.Stats:
        """Returns the counters of the mailbox. Callbacks with the same full and max_bytes share one, unless they have start
        or workers.

        Threads: any. Blocks: never.
        """
        return self._last if self._last is not None else self._current().stats()

    def _about(self) -> str:
        function = self._bus._callbacks._functions.get(self._key)
        name = f"{getattr(function, '__qualname__', repr(function))} on " if function else ""
        return f"{name}{' '.join(self.filters)}"


class Asked(NamedTuple):
    """The arguments of add(), with which a forked child registers the callback again."""

    filters: tuple[str, ...]
    function: Function
    full: _core.Policy
    max_bytes: int
    kind: Any
    workers: int | None
    mailbox: _core.Mailbox


class Failures:
    """Called with an exception of a callback, SystemExit too: the other callbacks still get their messages."""

    def __init__(self) -> None:
        self.tell: Callable[[str, Function, BaseException], None] | None = None  # libbus.testing

    def __call__(self, function: Function, msg: _core.Message, error: BaseException) -> None:
        log.error(FAILED, function, msg.topic, exc_info=error)
        if self.tell is not None:
            self.tell(msg.topic, function, error)


class Workers(NamedTuple):
    """The threads or greenlets of one callback."""

    work: Work
    mailbox: _core.Mailbox
    runners: list[Runner]


class Callbacks:
    """All callbacks of one bus.

    A signal handler or a finalizer may add and remove while the interrupted thread does: neither takes a lock. Each step is
    one operation of a dict, a set or the kernel; a step that may run twice uses setdefault.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._functions: dict[int, Function] = {}
        self._asked: dict[int, Asked] = {}
        self._readers: dict[int, Reader] = {}  # for callbacks with a type
        self._workers: dict[int, Workers] = {}  # of callbacks with workers
        self._tasks: dict[int, Tasks] = {}  # of async functions
        self._flushing = 0  # threads that wait for handled messages of a task
        self._keys = itertools.count(1)
        self._by_policy: dict[tuple[_core.Policy, int], _core.Mailbox] = {}
        # By descriptor; shared with the thread. One for each policy, and one for each callback with start.
        self._mailboxes: dict[int, _core.Mailbox] = {}
        # How far each mailbox is handled. Only mailboxes with a filter are flushed.
        self._done: dict[_core.Mailbox, int] = {}
        self._servers: dict[
            None, tuple[select.epoll, Runner]
        ] = {}  # the thread; empty: not started yet
        self._started = threading.Lock()  # stays locked: the thread starts once
        # _thread's lock blocks threads even in a program that gevent has patched; no greenlet waits inside.
        self._handled = threading.Condition(_thread.RLock())
        self.failures = Failures()
        self._calls = _core.Calls(self._functions, self._readers, self.failures)
        self._stopped = False
        # The mailbox whose messages the thread takes and handles. Set before the taking: a reader that reads the progress
        # first and this second misses no message in between.
        self._busy_with: _core.Mailbox | None = None

    def add(
        self,
        bus: Bus,
        filters: tuple[str, ...],
        function: Function,
        full: _core.Policy,
        max_bytes: int,
        start: Start | None,
        kind: Any,
        workers: int | None,
        again: int | None = None,
    ) -> Callback:
        """again: the callback's key in the parent of this process."""
        if not filters:
            raise TypeError("give at least one filter, like 'sensors/#'")
        if not callable(function):
            raise TypeError(f"a callback must be a function, not {type(function).__name__}")
        if is_async(function):
            return self._add_async(bus, filters, function, full, max_bytes, start, kind, workers)
        read = reader(kind)
        work = None
        if workers is not None:
            mailbox = _core.Mailbox(bus, full=full, max_bytes=max_bytes, start=start)
            work = way().work(mailbox, workers)
        else:
            # Even if this callback gets a separate mailbox: the shared one stays, and wakes the thread when the
            # bus ends.
            mailbox = self._shared(bus, full, max_bytes)
            if start is not None:
                mailbox = _core.Mailbox(bus, full=full, max_bytes=max_bytes, start=start)
        key = next(self._keys) if again is None else again
        if read is not None:
            self._readers[key] = read
        self._functions[key] = function  # first: kept values are delivered at once
        self._asked[key] = Asked(filters, function, full, max_bytes, kind, workers, mailbox)
        _keep(bus)
        try:
            for asked in filters:
                mailbox._attach(asked, key)
            if work is not None:
                self._start_workers(work, mailbox, key, workers or 0)
            elif start is not None:
                # Only now: a later filter does not get messages taken before.
                self._watch(mailbox)
        except BaseException:
            self.remove(bus, mailbox, key)
            self.forget(mailbox)
            raise
        if work is None:
            self._done.setdefault(mailbox, 0)
        return Callback(bus, filters, mailbox, key)

    def _add_async(
        self,
        bus: Bus,
        filters: tuple[str, ...],
        function: Function,
        full: _core.Policy,
        max_bytes: int,
        start: Start | None,
        kind: Any,
        workers: int | None,
    ) -> Callback:
        from libbus._tasks import Tasks  # imported here: only programs with asyncio need it

        loop = loop_for(function)
        tasks = Tasks(bus, filters, function, full, max_bytes, start, kind, workers, loop)
        key = next(self._keys)
        mailbox = tasks.subscription
        self._functions[key] = function
        self._asked[key] = Asked(filters, function, full, max_bytes, kind, workers, mailbox)
        self._tasks[key] = tasks
        _keep(bus)
        tasks.start(functools.partial(self.remove, bus, mailbox, key), self._tell)
        if self._stopped:  # close() may have missed them
            tasks.close()
        return Callback(bus, filters, mailbox, key)

    def _tell(self) -> None:
        if self._flushing:
            with self._handled:
                self._handled.notify_all()

    def _start_workers(self, work: Work, mailbox: _core.Mailbox, key: int, count: int) -> None:
        waiting = way()
        runners = [
            waiting.runner(_serve, (waiting, self, work, n, key), f"libbus-worker-{n}")
            for n in range(count)
        ]
        self._workers[key] = Workers(work, mailbox, runners)
        for runner in runners:
            runner.start()
        if self._stopped:  # close() may have missed them
            work.close()
            mailbox.close()

    def forked(self) -> bool:
        """Whether this process is a forked child: everything here belongs to the parent, which shares the descriptors."""
        return self._process != os.getpid()

    def reopen(self, bus: Bus, before: Callbacks) -> None:
        """Registers the callbacks of the parent's bus again, in a forked child."""
        self._keys = before._keys
        for key, asked in sorted(before._asked.items()):
            if is_async(asked.function):
                log.error(
                    "%r is async and is not called in this forked process: register it again in a running event loop",
                    asked.function,
                )
                continue
            self.add(
                bus,
                asked.filters,
                asked.function,
                asked.full,
                asked.max_bytes,
                None,  # start is for the parent only
                asked.kind,
                asked.workers,
                again=key,
            )

    def remove(self, bus: Bus, mailbox: _core.Mailbox, key: int) -> None:
        self._functions.pop(key, None)
        self._asked.pop(key, None)
        if self.forked():
            return
        self._readers.pop(key, None)
        if (workers := self._workers.pop(key, None)) is not None:
            workers.work.close()
            workers.mailbox.close()
        if (tasks := self._tasks.pop(key, None)) is not None:
            tasks.close()
        if not self._functions:
            with_callbacks.discard(bus)
        if self._functions:  # some remain, or another thread has added one since
            _keep(bus)
        with contextlib.suppress(_core.ClosedError):
            mailbox._detach(key)

    def forget(self, mailbox: _core.Mailbox) -> None:
        """Leaves a mailbox that is not shared to its Callback."""
        if self.forked() or mailbox in list(self._by_policy.values()):
            return
        # List the keys only: a list of pairs allocates, which may run finalizers that change the dict.
        for fd in list(self._mailboxes):
            if self._mailboxes.get(fd) is mailbox and self._mailboxes.pop(fd, None) is mailbox:
                epoll, _ = self._servers[None]
                with contextlib.suppress(
                    OSError, ValueError
                ):  # the thread has ended and closed the epoll
                    epoll.unregister(fd)
        self._done.pop(mailbox, None)

    def _shared(self, bus: Bus, full: _core.Policy, max_bytes: int) -> _core.Mailbox:
        mailbox = self._by_policy.get((full, max_bytes))
        if mailbox is None:
            mailbox = self._by_policy.setdefault(
                (full, max_bytes), _core.Mailbox(bus, full=full, max_bytes=max_bytes)
            )
        self._watch(mailbox)
        return mailbox

    def _watch(self, mailbox: _core.Mailbox) -> None:
        fd = mailbox.fileno()  # first: on a closed bus it raises, and nothing has been made yet
        epoll, runner = self._server()
        self._mailboxes[fd] = mailbox  # first: the thread looks it up
        try:
            epoll.register(fd, select.EPOLLIN)
        except FileExistsError:
            pass
        except ValueError:  # the thread has ended and closed the epoll
            raise _core.error(CLOSED) from None
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            raise _core.error(CLOSED) from None  # the bus has ended since fileno()
        # Last: the thread ends when a mailbox that it watches ends; without a mailbox it would never end.
        self._start(runner)

    def _server(self) -> tuple[select.epoll, Runner]:
        if None not in self._servers:
            waiting = way()
            made = waiting.epoll()
            runner = waiting.runner(
                _run, (waiting, made, self._mailboxes, weakref.ref(self)), "libbus-callbacks"
            )
            if self._servers.setdefault(None, (made, runner))[0] is not made:
                made.close()
        return self._servers[None]

    def _start(self, runner: Runner) -> None:
        if self._started.acquire(blocking=False):
            try:
                runner.start()
            except BaseException:
                self._started.release()
                raise

    @property
    def _runner(self) -> Runner | None:
        server = self._servers.get(None)
        return server[1] if server else None

    # --- on the thread ----------------------------------------------------------------------------------

    def handle(self, mailbox: _core.Mailbox) -> None:
        """Calls the functions for the waiting messages. ClosedError: the bus has ended."""
        self._busy_with = mailbox
        try:
            self._calls.run(mailbox)
        except BaseException:
            self._busy_with = None  # else flush() would wait for it
            raise
        self.count(mailbox)

    def call(self, key: int, msg: _core.Message) -> None:
        """Calls a function for one message, on a worker."""
        function = self._functions.get(key)
        if function is None:
            return
        read = self._readers.get(key)
        try:
            function(msg if read is None else msg._as(read))
        except BaseException as error:  # noqa: BLE001 - logged there
            self.failures(function, msg, error)

    def count(self, mailbox: _core.Mailbox) -> None:
        # Only this thread takes messages, so all taken ones have been handled.
        done, _ = mailbox._reached()
        self._done[mailbox] = done
        if mailbox not in list(self._mailboxes.values()):  # removed, perhaps just now
            self._done.pop(mailbox, None)
        self._busy_with = None
        with self._handled:
            self._handled.notify_all()

    # --- flush and close --------------------------------------------------------------------------------

    def here(self) -> bool:
        """Whether this is the thread of the callbacks."""
        runner = self._runner
        return runner is not None and runner.is_current()

    def inside(self) -> bool:
        """Whether this thread runs callbacks of this bus."""
        if self.here():
            return True
        workers = list(self._workers.values())
        return any(runner.is_current() for each in workers for runner in each.runners)

    def flush(self, deadline: float | None) -> bool:
        """Waits until the messages now in the mailboxes are handled. False: not before the deadline."""
        due = [(each.work, each.mailbox._goal()) for each in list(self._workers.values())]
        tasks = self._tasks_due()
        if not self._flush_shared(deadline) or not self._flush_tasks(tasks, deadline):
            return False
        for work, goal in due:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not way().flush(work, goal, left):
                return False
        if due and self._stopped:
            raise _core.error(CLOSED)
        return True

    def _tasks_due(self) -> list[tuple[Tasks, int]]:
        due = []
        for each in list(self._tasks.values()):
            with contextlib.suppress(_core.ClosedError):  # its loop is ending
                due.append((each, each.due()))
        return due

    def _flush_tasks(self, tasks: list[tuple[Tasks, int]], deadline: float | None) -> bool:
        if not tasks:
            return True
        with self._handled:
            self._flushing += 1
        try:
            return way().until(
                lambda: all(each.is_handled(due) for each, due in tasks), deadline, self._handled
            )
        finally:
            with self._handled:
                self._flushing -= 1

    def _flush_shared(self, deadline: float | None) -> bool:
        # A forked child does not have the thread, and its locks may stay held for ever.
        runner = self._runner
        if runner is None or not runner.is_alive():
            return True
        with self._handled:
            waiting = {mailbox: mailbox._goal() for mailbox in list(self._done)}

        def done() -> bool:
            if self._are_handled(waiting):
                return True
            if self._stopped:
                raise _core.error(CLOSED)
            return False

        return way().until(done, deadline, self._handled)

    def _are_handled(self, waiting: dict[_core.Mailbox, int]) -> bool:
        watched = list(self._mailboxes.values())  # a copy in one step
        served = set(watched)  # the messages of other mailboxes stay there
        return all(
            mailbox not in served or self._is_handled(mailbox, due)
            for mailbox, due in waiting.items()
        )

    def _is_handled(self, mailbox: _core.Mailbox, due: int) -> bool:
        done = self._done.get(mailbox)
        if done is None or done >= due:
            return True
        reached, nothing_waits = mailbox._reached()
        # The second condition: the due messages have been dropped since.
        return self._busy_with is not mailbox and (reached >= due or nothing_waits)

    def stop(self) -> int:
        """Stops all calls. Returns the number of taken messages that some callback did not get."""
        self._stopped = True
        self.failures.tell = None  # callbacks that still run find a closed bus
        left = self._calls.stop()
        ends = [each.work.close for each in list(self._workers.values())]
        ends += [each.close for each in list(self._tasks.values())]
        return left + sum(end() for end in ends)

    def join(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        runners = [runner for each in list(self._workers.values()) for runner in each.runners]
        if self._runner is not None:
            runners.append(self._runner)
        for each in list(self._workers.values()):
            each.mailbox.close()  # wakes the worker that waits on it
        for runner in runners:
            if not runner.is_current():
                with contextlib.suppress(
                    RuntimeError
                ):  # closed by a signal handler before it started
                    way().join(runner, max(0.0, deadline - time.monotonic()))


def _serve(waiting: Threads, callbacks: Callbacks, work: Work, number: int, key: int) -> None:
    while True:
        try:
            msg = work.next(number)
        except _core.TransportError:  # the log is damaged: it delivers no more messages
            log.exception("the log of the bus failed: its callbacks get no more messages")
            return
        except Exception:
            log.exception("a message to a callback was lost")
            continue
        if msg is None:
            return
        waiting.call(callbacks.call, key, msg)
        msg = None  # not while it waits


def _run(
    waiting: Threads,
    epoll: select.epoll,
    mailboxes: dict[int, _core.Mailbox],
    find: weakref.ref[Callbacks],
) -> None:
    process = os.getpid()
    with epoll:
        while True:
            found = waiting.poll(epoll)
            if os.getpid() != process:  # a forked child has the parent's greenlets
                return
            for fd, _ in found:
                mailbox = mailboxes.get(fd)
                if mailbox is None:  # removed since
                    continue
                try:
                    callbacks = find()
                    if callbacks is None:
                        return
                    waiting.call(callbacks.handle, mailbox)
                except _core.ClosedError:
                    return
                except _core.TransportError:  # the log is damaged: it delivers no more messages
                    log.exception("the log of the bus failed: its callbacks get no more messages")
                    with contextlib.suppress(OSError, ValueError):
                        epoll.unregister(fd)
                except Exception:
                    log.exception("messages to callbacks were lost")
                finally:
                    callbacks = mailbox = None
