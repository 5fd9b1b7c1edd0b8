"""Callbacks: one thread of Python's own that pulls batches and calls functions, and one that asks for several has threads
of its own (work.c). Where greenlets run, these are greenlets (_green.py).

The thread holds no function, nor the bus, while it waits. A bus with callbacks lives until its close() or the end of
the interpreter, whether or not the program refers to it.
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


# Every bus that has callbacks: they are a reason to live, as a reference is.
with_callbacks: set[Bus] = set()


def _keep(bus: Bus) -> None:
    """Adds first and looks then: close() marks the bus closed before it discards it, so one of both sees the other."""
    with_callbacks.add(bus)
    if bus.closed:
        with_callbacks.discard(bus)


class Callback(Closing):
    """A function that is called for each message, until close(): bus.subscribe(..., callback=function) makes it."""

    filters: tuple[str, ...]
    """The filters that it was registered with."""

    def __init__(
        self, bus: Bus, filters: tuple[str, ...], mailbox: _core.Mailbox, key: int
    ) -> None:
        self._bus = bus
        self.filters = filters
        self._mailbox = mailbox
        self._key = key
        self._last: _core.Stats | None = None  # of a mailbox that is closed

    @property
    def closed(self) -> bool:
        """True after close() of it or of the bus, and in a forked child."""
        return self._bus.closed or self._key not in self._bus._callbacks._functions

    def close(self) -> None:
        """Ends the calls. In another thread than the callbacks', one may still be running.

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
        """The mailbox; a forked child may have another than its parent."""
        asked = self._bus._callbacks._asked.get(self._key)
        return self._mailbox if asked is None else asked.mailbox

    def stats(self) -> _core.Stats:
        """Counters of the mailbox, which callbacks with the same full and max_bytes share unless they begin
        in the past or have workers.

        Threads: any. Blocks: never.
        """
        return self._last if self._last is not None else self._current().stats()

    def _about(self) -> str:
        function = self._bus._callbacks._functions.get(self._key)
        name = f"{getattr(function, '__qualname__', repr(function))} on " if function else ""
        return f"{name}{' '.join(self.filters)}"


class Asked(NamedTuple):
    """What add() was asked for: what a forked child asks for again."""

    filters: tuple[str, ...]
    function: Function
    full: _core.Policy
    max_bytes: int
    kind: Any
    workers: int | None
    mailbox: _core.Mailbox


class Failures:
    """Is called with what a callback raised, also SystemExit: the other callbacks still want their messages."""

    def __init__(self) -> None:
        self.tell: Callable[[str, Function, BaseException], None] | None = None  # libbus.testing

    def __call__(self, function: Function, msg: _core.Message, error: BaseException) -> None:
        log.error(FAILED, function, msg.topic, exc_info=error)
        if self.tell is not None:
            self.tell(msg.topic, function, error)


class Workers(NamedTuple):
    """The threads of one callback, or its greenlets."""

    work: Work
    mailbox: _core.Mailbox
    runners: list[Runner]


class Callbacks:
    """All callbacks of one bus.

    A signal handler or a finalizer may add and remove while its own thread does: neither takes a lock. Each step is
    one operation of a dict, a set or the kernel, and steps that decide something twice use setdefault.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._functions: dict[int, Function] = {}
        self._asked: dict[int, Asked] = {}
        self._readers: dict[int, Reader] = {}  # of those with a type
        self._workers: dict[int, Workers] = {}  # of those that have some
        self._tasks: dict[int, Tasks] = {}  # of async functions
        self._flushing = 0  # threads that want to hear of each message that a task has handled
        self._keys = itertools.count(1)
        self._by_policy: dict[tuple[_core.Policy, int], _core.Mailbox] = {}
        # By descriptor; shared with the thread. Besides those by policy each that begins in the past.
        self._mailboxes: dict[int, _core.Mailbox] = {}
        # How far the calls that have returned go, in those that a filter has begun: only they are flushed.
        self._done: dict[_core.Mailbox, int] = {}
        self._servers: dict[None, tuple[select.epoll, Runner]] = {}  # one, or none yet
        self._started = threading.Lock()  # stays locked: the thread starts once
        # _thread's is a lock of threads also in a program that gevent has patched: no greenlet waits inside.
        self._handled = threading.Condition(_thread.RLock())
        self.failures = Failures()
        self._calls = _core.Calls(self._functions, self._readers, self.failures)
        self._stopped = False
        # Calls what was taken out of it, or has. Set before the taking, so that progress read first and this
        # second never miss a message between both.
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
        """again: the key that it had in the parent of this process."""
        if not filters:
            raise TypeError("name at least one filter, like 'sensors/#'")
        if not callable(function):
            raise TypeError(f"a callback is a function, not {type(function).__name__}")
        if is_async(function):
            return self._add_async(bus, filters, function, full, max_bytes, start, kind, workers)
        read = reader(kind)
        work = None
        if workers is not None:
            mailbox = _core.Mailbox(bus, full=full, max_bytes=max_bytes, start=start)
            work = way().work(mailbox, workers)
        else:
            # Also where one is made for this callback alone: the shared ones stay, and wake the thread when
            # the bus ends.
            mailbox = self._shared(bus, full, max_bytes)
            if start is not None:
                mailbox = _core.Mailbox(bus, full=full, max_bytes=max_bytes, start=start)
        key = next(self._keys) if again is None else again
        if read is not None:
            self._readers[key] = read
        self._functions[key] = function  # first: kept values come at once
        self._asked[key] = Asked(filters, function, full, max_bytes, kind, workers, mailbox)
        _keep(bus)
        try:
            for asked in filters:
                mailbox._attach(asked, key)
            if work is not None:
                self._start_workers(work, mailbox, key, workers or 0)
            elif start is not None:
                # Only now: what was taken out before is gone for a filter that comes later.
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
        from libbus._tasks import Tasks  # here: it is for programs that have imported asyncio

        loop = loop_for(function)
        tasks = Tasks(bus, filters, function, full, max_bytes, start, kind, workers, loop)
        key = next(self._keys)
        mailbox = tasks.subscription
        self._functions[key] = function
        self._asked[key] = Asked(filters, function, full, max_bytes, kind, workers, mailbox)
        self._tasks[key] = tasks
        _keep(bus)
        tasks.start(functools.partial(self.remove, bus, mailbox, key), self._tell)
        if self._stopped:  # close() has perhaps not seen them
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
        if self._stopped:  # close() has perhaps not seen them
            work.close()
            mailbox.close()

    def forked(self) -> bool:
        """Whether all of it is the parent's of this process, which shares its descriptors."""
        return self._process != os.getpid()

    def reopen(self, bus: Bus, before: Callbacks) -> None:
        """Registers again, in a forked child, what was registered on the same bus before."""
        self._keys = before._keys
        for key, asked in sorted(before._asked.items()):
            if is_async(asked.function):
                log.error(
                    "%r is async: in this forked process register it in a running loop",
                    asked.function,
                )
                continue
            self.add(
                bus,
                asked.filters,
                asked.function,
                asked.full,
                asked.max_bytes,
                None,  # the past is the parent's
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
        if self._functions:  # they are left, or another thread has added one since
            _keep(bus)
        with contextlib.suppress(_core.ClosedError):
            mailbox._detach(key)

    def forget(self, mailbox: _core.Mailbox) -> None:
        """Leaves a mailbox to its Callback, unless others share it."""
        if self.forked() or mailbox in list(self._by_policy.values()):
            return
        # A list of the keys alone: a list of pairs allocates, and so may run finalizers that change the dict.
        for fd in list(self._mailboxes):
            if self._mailboxes.get(fd) is mailbox and self._mailboxes.pop(fd, None) is mailbox:
                epoll, _ = self._servers[None]
                with contextlib.suppress(OSError, ValueError):  # the thread has ended and closed it
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
        fd = (
            mailbox.fileno()
        )  # before all else: on a bus that has ended it raises, and nothing was made
        epoll, runner = self._server()
        self._mailboxes[fd] = mailbox  # first: the thread looks it up
        try:
            epoll.register(fd, select.EPOLLIN)
        except FileExistsError:
            pass
        except ValueError:  # the thread has ended and closed it
            raise _core.error(CLOSED) from None
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            raise _core.error(CLOSED) from None  # the bus has ended since fileno()
        # Last: it ends when a mailbox that it watches does, so one that watches none would never end.
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

    # --- the thread's part ------------------------------------------------------------------------------

    def handle(self, mailbox: _core.Mailbox) -> None:
        """Calls the functions for what is there. ClosedError: the bus has ended."""
        self._busy_with = mailbox
        try:
            self._calls.run(mailbox)
        except BaseException:
            self._busy_with = None  # flush() would wait for it
            raise
        self.count(mailbox)

    def call(self, key: int, msg: _core.Message) -> None:
        """For a worker."""
        function = self._functions.get(key)
        if function is None:
            return
        read = self._readers.get(key)
        try:
            function(msg if read is None else msg._as(read))
        except BaseException as error:  # noqa: BLE001 - logged there
            self.failures(function, msg, error)

    def count(self, mailbox: _core.Mailbox) -> None:
        # Only this thread takes messages out, so all that was taken by now has been handled.
        done, _ = mailbox._reached()
        self._done[mailbox] = done
        if mailbox not in list(self._mailboxes.values()):  # forgotten, perhaps just now
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
        """Waits until what the mailboxes hold now is handled; False: not before the deadline."""
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
            with contextlib.suppress(_core.ClosedError):  # its loop ends just now
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
        # In a forked child the thread is not there, and its locks may be held for ever.
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
        served = set(watched)  # messages of the others stay where they are
        return all(
            mailbox not in served or self._is_handled(mailbox, due)
            for mailbox, due in waiting.items()
        )

    def _is_handled(self, mailbox: _core.Mailbox, due: int) -> bool:
        done = self._done.get(mailbox)
        if done is None or done >= due:
            return True
        reached, nothing_waits = mailbox._reached()
        # The second: what was due has been pushed out since.
        return self._busy_with is not mailbox and (reached >= due or nothing_waits)

    def stop(self) -> int:
        """From here on no call begins. How many messages were taken out and not given to every callback
        that wants them."""
        self._stopped = True
        self.failures.tell = None  # what still runs meets a closed bus
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
            each.mailbox.close()  # the worker that waits on it leaves
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
        except _core.TransportError:  # the log is damaged: nothing comes from it any more
            log.exception("callbacks get no more messages")
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
                if mailbox is None:  # forgotten meanwhile
                    continue
                try:
                    callbacks = find()
                    if callbacks is None:
                        return
                    waiting.call(callbacks.handle, mailbox)
                except _core.ClosedError:
                    return
                except _core.TransportError:  # the log is damaged: nothing comes from it any more
                    log.exception("callbacks get no more messages")
                    with contextlib.suppress(OSError, ValueError):
                        epoll.unregister(fd)
                except Exception:
                    log.exception("messages to callbacks were lost")
                finally:
                    callbacks = mailbox = None
