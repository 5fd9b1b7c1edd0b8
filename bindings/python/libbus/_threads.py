"""Waiting and running callbacks on threads: the default, from which the other ways derive."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from libbus import _core
from libbus._request import Reply, received

if TYPE_CHECKING:
    from libbus._bus import Bus
    from libbus._publisher import Sending

    T = TypeVar("T")

# The longest delay of Ctrl-C in a flush.
SLICE_S = 0.05

# A wait without a descriptor that must not block its thread polls: first in its next turns, then with growing pauses.
TURNS = 16
SHORTEST_S, LONGEST_S = 0.0005, 0.01


def pauses() -> Iterator[float]:
    """Yields the pauses between two polls, in seconds, without end."""
    yield from (0.0 for _ in range(TURNS))
    pause = SHORTEST_S
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_S)


class Runner(Protocol):
    """Runs a function concurrently with the caller."""

    def start(self) -> None: ...
    def is_alive(self) -> bool: ...
    def is_current(self) -> bool: ...
    def join(self, timeout: float | None = None) -> None: ...


class Work(Protocol):
    """The messages of a mailbox for several runners, in order per topic: _core.Work, or its substitute."""

    def next(self, worker: int, /) -> _core.Message | None: ...
    def flush(self, due: int, timeout: float | None, /) -> bool: ...
    def close(self) -> int: ...


class Thread(threading.Thread):
    """A Runner."""

    def run(self) -> None:
        try:
            super().run()
        finally:
            # If the program was patched since, the thread has a new identity, by which it must leave the list of threads.
            threading.current_thread()

    def is_current(self) -> bool:
        return self.native_id is not None and self.native_id == Threads.current()


def call(function: Callable[..., None], *arguments: Any) -> None:
    function(*arguments)


_hushed = False


class Threads:
    """A wait blocks the calling thread, in the C library or in a condition. Ctrl-C ends it."""

    # The current thread, and a call of one of libbus's threads into the program. A program that is patched while these threads
    # run replaces both.
    current: ClassVar[Callable[[], int]] = staticmethod(threading.get_native_id)
    call: ClassVar[Callable[..., None]] = staticmethod(call)

    # Whether a publisher without room waits in the C library. None: finish() gets the rest.
    sends_here: bool | None = True

    def request(
        self,
        bus: Bus,
        topic: str,
        value: _core.Value,
        timeout: float | None,
        headers: dict[Any, Any] | None,
    ) -> Reply:
        return received(_core.Bus.request(bus, topic, value, timeout=timeout, headers=headers))

    def refuse(self, call: str, instead: str) -> None:
        """Raises StateError if the call must not wait here."""

    def patiently(
        self, attempt: Callable[[float | None], T], timeout: float | None, slice_s: float = 0.0
    ) -> T:
        """Calls attempt(seconds), whole or in slices, until timeout. attempt raises BusTimeoutError."""
        return attempt(timeout)

    def aside(self, function: Callable[..., T], *arguments: Any) -> T:
        """Calls a blocking function of the C library."""
        return function(*arguments)

    def until(
        self, done: Callable[[], bool], deadline: float | None, news: threading.Condition
    ) -> bool:
        """Waits until is_done(). `news` is notified when it may be. False: not before the deadline."""
        with news:
            while not done():
                left = SLICE_S if deadline is None else min(SLICE_S, deadline - time.monotonic())
                if left <= 0:
                    return False
                news.wait(left)
        return True

    def flush(self, work: Work, due: int, timeout: float | None) -> bool:
        """Waits until a callback with workers has handled the messages in its mailbox up to `due`."""
        return work.flush(due, timeout)

    def finish(self, sending: Sending) -> Any:
        """Sends the values that had no room."""
        raise NotImplementedError

    def hush(self) -> None:
        """Runs at the end of the interpreter: threads that still run end with ClosedError, which is not printed."""
        global _hushed
        if _hushed:
            return
        _hushed = True
        shown = threading.excepthook

        def print_others(caught: threading.ExceptHookArgs) -> None:
            daemon = caught.thread is None or caught.thread.daemon
            if not (daemon and isinstance(caught.exc_value, _core.ClosedError)):
                shown(caught)

        threading.excepthook = print_others

    # --- callbacks ------------------------------------------------------------------------------------------

    def runner(
        self, function: Callable[..., None], arguments: tuple[Any, ...], name: str
    ) -> Runner:
        return Thread(target=function, args=arguments, name=name, daemon=True)

    def join(self, runner: Runner, timeout: float) -> None:
        runner.join(timeout)

    def work(self, mailbox: _core.Mailbox, workers: int) -> Work:
        return _core.Work(mailbox, workers)

    def epoll(self) -> select.epoll:
        return select.epoll()

    def poll(self, epoll: select.epoll) -> list[tuple[int, int]]:
        """Waits on the runner until descriptors are readable."""
        return epoll.poll()
