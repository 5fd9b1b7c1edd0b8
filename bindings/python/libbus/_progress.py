"""Progress: the state of a long job, as the retained value of a topic."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypedDict

from libbus import _core
from libbus._loop import STATE
from libbus._request import plain, sentence

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, TypeVar

    from libbus._bus import Bus

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

log = logging.getLogger("libbus")

# The rate is an average over about the last MEMORY_S seconds.
MEMORY_S = 10.0

State: TypeAlias = Literal["running", "done", "failed", "stopped"]


class ProgressValue(TypedDict):
    """The value that bus.progress() publishes."""

    state: State
    done: float  # int, unless the job counts in floats
    total: float | None  # None: unknown
    elapsed: float  # seconds
    rate: float | None  # per second; None: not known yet
    eta: float | None  # seconds left; None: not known
    note: str | None
    error: str | None  # set if the job failed


class Progress(Generic[T]):
    """The progress of a job. Made by bus.progress()."""

    _begun = False

    def __init__(
        self,
        bus: Bus,
        topic: str,
        work: float | Iterable[T] | AsyncIterable[T] | None,
        total: float | None,
        interval: float,
    ) -> None:
        self._items: Any = None
        if work is None or isinstance(work, (int, float)):
            if work is not None and total is not None:
                raise TypeError(f"{topic}: total is given twice: give it once")
            total = total if work is None else work
        else:
            self._items = work
            if not isinstance(work, (Iterable, AsyncIterable)):
                raise TypeError(
                    f"{topic}: progress() takes a total or an iterable, not {type(work).__name__}"
                )
            if total is None and hasattr(work, "__len__"):
                total = len(self._items)
        if not interval >= 0:
            raise ValueError(f"{topic}: interval={interval!r}: give seconds from 0 up")
        self.bus = bus
        self.topic = topic
        self._interval = interval
        # Reentrant: a signal handler may call advance(). Held while publishing, so that no older state follows a newer one.
        self._lock = threading.RLock()
        self._state: State = "running"
        self._done: float = 0
        self._total = _number(topic, "total", total)
        self._note: str | None = None
        self._error: str | None = None
        self._in_block = False
        self._failed_before = False  # to publish
        self._timer: threading.Timer | None = None
        now = time.monotonic()
        self._began = self._measured = self._published = now
        self._measured_done: float = 0
        self._rate: float | None = None
        bus.publish(topic, self.value(), retain=True)  # raises if the topic is malformed
        self._begun = True
        bus._jobs.add(self)

    # --- calls of the job -------------------------------------------------------------------------------------

    def advance(self, count: float = 1) -> None:
        """Adds to `done`. StateError: the job has ended."""
        with self._lock:
            self._check()
            self._done += count
            self._changed()

    def note(self, text: str) -> None:
        """Sets a text that says what the job does now."""
        with self._lock:
            self._check()
            self._note = plain(str(text))
            self._changed()

    @property
    def done(self) -> float:
        """The work done so far. May be set."""
        return self._done

    @done.setter
    def done(self, done: float) -> None:
        with self._lock:
            self._check()
            self._done = done
            self._changed()

    @property
    def total(self) -> float | None:
        """The whole work; None: unknown. May be set once it is known."""
        return self._total

    @total.setter
    def total(self, total: float | None) -> None:
        with self._lock:
            self._check()
            self._total = _number(self.topic, "total", total)
            self._changed()

    @property
    def state(self) -> State:
        """running, then done, failed or stopped."""
        return self._state

    def close(self) -> None:
        """Ends the job as done, unless it has ended already."""
        self._end("done")

    def fail(self, error: BaseException | str) -> None:
        """Ends the job as failed. A with block calls it for an exception."""
        self._end("failed", plain(error) if isinstance(error, str) else sentence(error))

    # --- with, for, async for ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._in_block = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.fail(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[T]:
        """Iterates over the items. An item counts as done when the loop asks for the next one."""
        if not isinstance(self._items, Iterable):
            raise TypeError(
                f"{self.topic}: this loop cannot iterate over the progress: {self._iterate_how()}"
            )
        return self._each()

    def _each(self) -> Iterator[T]:
        try:
            for item in self._items:
                yield item
                self._count()
        except BaseException as error:
            self._left_early(error)
            raise
        self._all_done()

    def __aiter__(self) -> AsyncIterator[T]:
        if not isinstance(self._items, AsyncIterable):
            raise TypeError(
                f"{self.topic}: this loop cannot iterate over the progress: {self._iterate_how()}"
            )
        return self._each_later()

    async def _each_later(self) -> AsyncIterator[T]:
        try:
            async for item in self._items:
                yield item
                self._count()
        except BaseException as error:
            self._left_early(error)
            raise
        self._all_done()

    def _iterate_how(self) -> str:
        if isinstance(self._items, Iterable):
            return "write `for`: its items are a plain iterable"
        if isinstance(self._items, AsyncIterable):
            return "write `async for`: its items are an async iterable"
        return "give it an iterable, like bus.progress('job/42', items)"

    def _count(self) -> None:
        if self._state == "running":
            self.advance()

    def _all_done(self) -> None:
        if not self._in_block:
            self.close()

    def _left_early(self, error: BaseException) -> None:
        if self._in_block:  # the with block sees the exception itself
            return
        if isinstance(
            error, GeneratorExit
        ):  # break, or an exception in the loop's body: the iterator cannot tell which
            self._end("stopped")
        else:
            self.fail(error)

    # --- publishing -------------------------------------------------------------------------------------------

    def value(self) -> ProgressValue:
        """Returns the value to publish."""
        elapsed = time.monotonic() - self._began
        left = None if self._total is None else max(0, self._total - self._done)
        rate = self._rate
        if self._state != "running":
            rate = self._done / elapsed if elapsed > 0 else None
        return {
            "state": self._state,
            "done": self._done,
            "total": self._total,
            "elapsed": round(elapsed, 3),
            "rate": None if rate is None else float(f"{rate:.4g}"),
            "eta": round(left / rate, 1)
            if self._state == "running" and left is not None and rate
            else None,
            "note": self._note,
            "error": self._error,
        }

    def _check(self) -> None:
        if self._state != "running":
            error = _core.error(STATE, self.topic)
            error.args = (
                f"{self.topic}: this job has ended ({self._state}): start another one with bus.progress()",
            )
            raise error

    def _changed(self) -> None:
        """Publishes now, or after the interval if the last message is younger than that."""
        now = time.monotonic()
        due = self._published + self._interval
        if now >= due:
            self._measure(now)
            self._publish(now)
        elif (
            self._timer is None or not self._timer.is_alive()
        ):  # a forked child does not have its parent's timer
            # Weak: a job without references ends.
            self._timer = threading.Timer(due - now, _due, (weakref.ref(self),))
            self._timer.daemon = True
            self._timer.start()

    def _due(self) -> None:
        with self._lock:
            self._timer = None
            now = time.monotonic()
            if self._state == "running" and now >= self._published + self._interval:
                self._measure(now)
                self._publish(now)

    def _measure(self, now: float) -> None:
        """Returns a decaying mean, in which a value from MEMORY_S seconds ago counts for a third."""
        since = now - self._measured
        if since <= 0:
            return
        rate = (self._done - self._measured_done) / since
        known = now - self._began
        weight = since / min(known, MEMORY_S) if since < known else 1.0
        self._rate = (
            rate if self._rate is None else self._rate + min(1.0, weight) * (rate - self._rate)
        )
        self._measured, self._measured_done = now, self._done

    def _end(self, state: State, error: str | None = None) -> None:
        with self._lock:
            if self._state != "running":
                return
            self._state, self._error = state, error
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._publish(time.monotonic())

    def _publish(self, now: float) -> None:
        self._published = now
        try:
            self.bus.publish(self.topic, self.value(), retain=True)
            self._failed_before = False
        except _core.BusError as error:
            # The job continues even if its progress cannot be published.
            if not self._failed_before and not self.bus.closed:
                log.warning("progress of a job cannot be published: %s", error)
            self._failed_before = True

    def __del__(self) -> None:
        if self._begun:
            self._end("stopped")

    def __repr__(self) -> str:
        total = "" if self._total is None else f" of {self._total}"
        return f"<libbus.Progress {self.topic} {self._state}, {self._done}{total}>"


def _due(find: weakref.ref[Progress[Any]]) -> None:
    if (job := find()) is not None:
        job._due()


def _number(topic: str, name: str, number: float | None) -> float | None:
    if number is not None and not isinstance(number, (int, float)):
        raise TypeError(f"{topic}: {name} must be a number or None, not {type(number).__name__}")
    if number is not None and not number >= 0:
        raise ValueError(
            f"{topic}: {name}={number!r}: give a number from 0 up, or None for unknown"
        )
    return number
