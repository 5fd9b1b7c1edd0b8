"""Async callbacks: they run as tasks of the event loop in which they were registered."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from libbus import _core
from libbus._loop import running_loop
from libbus._subscription import Subscription

if TYPE_CHECKING:
    import asyncio

    from libbus._bus import Bus
    from libbus._start import Start

    Function = Callable[[_core.Message], Awaitable[Any]]

log = logging.getLogger("libbus")

# Messages that one task handles before it lets other tasks run: a busy topic must not starve the loop.
BURST = 64

# Messages taken in advance for a callback with workers.
AHEAD = 64

WORKERS_MOST = 256


class Tasks:
    """The calls of one async callback.

    A task takes the oldest message whose topic no other task handles, so the messages of a topic are handled in order. One
    task at a time takes messages from the subscription. All of this runs on the loop's thread, except close() and
    is_handled().
    """

    def __init__(
        self,
        bus: Bus,
        filters: tuple[str, ...],
        function: Function,
        full: _core.Policy,
        max_bytes: int,
        start: Start | None,
        kind: Any,
        workers: int | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        import asyncio

        if workers is not None and not 1 <= workers <= WORKERS_MOST:
            raise ValueError(f"workers={workers}: give a number from 1 to {WORKERS_MOST}")
        self.function = function
        self.loop = loop
        self.workers = workers or 1
        self.subscription = Subscription(bus, filters, full, max_bytes, start, kind, None)
        self.tasks: set[asyncio.Task[None]] = set()
        self._queue: deque[tuple[int, _core.Message]] = deque()
        self._busy: set[str] = set()  # topics
        self._fetches = False
        self._news = asyncio.Event()
        self._burst = 0
        self._ended = False
        self._numbers = itertools.count()
        # For each message not handled yet: how far the subscription was read before it was taken.
        self._before: dict[int, int] = {}

    def start(self, ended: Callable[[], None], handled: Callable[[], None]) -> None:
        """Calls ended() when the last task ends, and handled() after each message."""
        self._handled = handled

        def end(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            if not self.tasks:
                ended()

        for _ in range(self.workers):
            task: Any = self.loop.create_task(self._run(), name="libbus-callback")
            # The task waits as long as its loop lives: closing the loop ends it.
            task._log_destroy_pending = False
            self.tasks.add(task)
            task.add_done_callback(end)

    def close(self) -> int:
        """Stops the calls, on any thread. Returns the number of messages taken but not begun."""
        self._ended = True
        left = len(self._queue)
        self._queue.clear()
        self.subscription.close()
        return left

    # --- the tasks ------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while (taken := await self._next()) is not None:
            number, msg = taken
            try:
                await self._call(msg)
            finally:
                self._busy.discard(msg.topic)
                self._before.pop(number, None)
                self._news.set()
                self._handled()

    async def _call(self, msg: _core.Message) -> None:
        import asyncio

        try:
            await self.function(msg)
        except asyncio.CancelledError:
            task: Any = asyncio.current_task()
            if not hasattr(task, "cancelling") or task.cancelling():  # Python 3.10 cannot tell
                raise
            log.exception("callback %r was cancelled on %s", self.function, msg.topic)
        except Exception as error:  # noqa: BLE001 - logged there
            self.subscription.bus._callbacks.failures(self.function, msg, error)

    async def _next(self) -> tuple[int, _core.Message] | None:
        import asyncio

        self._burst = (self._burst + 1) % BURST
        if self._burst == 0:
            await asyncio.sleep(0)  # lets other tasks run
        while not self._ended:
            for at, (number, msg) in enumerate(self._queue):
                if msg.topic not in self._busy:
                    del self._queue[at]
                    self._busy.add(msg.topic)
                    return number, msg
            if self._fetches or len(self._queue) >= AHEAD:
                self._news.clear()
                await self._news.wait()
            else:
                await self._fetch()
        return None

    async def _fetch(self) -> None:
        """Puts a message into the queue, or waits until one may be there."""
        number = next(self._numbers)
        try:
            # Set first: is_handled() reads the progress first and this second, so it misses no message.
            self._before[number] = self.subscription._reached()[0]
            msg = self.subscription.recv_nowait()
            if msg is not None:
                self._queue.append((number, msg))
                return
            self._before.pop(number, None)
            self._handled()
            self._fetches = True
            await self.subscription._readable()
        except _core.ClosedError:
            self._before.pop(number, None)
            self._ended = True
        finally:
            self._fetches = False
            self._news.set()

    # --- flush, on another thread -----------------------------------------------------------------------------

    def due(self) -> int:
        return self.subscription._goal()

    def is_handled(self, due: int) -> bool:
        """Also True if no task can run: the loop is this thread's, or does not run."""
        if self._ended or not self.loop.is_running() or self.loop is running_loop():
            return True
        try:
            reached, nothing_waits = self.subscription._reached()
        except _core.ClosedError:
            return True
        if before := list(self._before.values()):
            return min(before) >= due
        return reached >= due or nothing_waits
