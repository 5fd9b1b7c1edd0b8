"""Subscription: a mailbox that you drain, by a loop, recv(), a selector or async for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from libbus import _core
from libbus._closing import Closing
from libbus._reader import reader

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self, TypeVar

    from libbus._bus import Bus
    from libbus._start import Start


if TYPE_CHECKING:
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class Subscription(_core.Mailbox[T], Closing):
    """The messages of some filters, in a bounded mailbox. Made by bus.subscribe().

    Take messages with a loop, with recv(), or with `async for` in an event loop. The loop ends when the subscription or its
    bus is closed. A subscription keeps its bus open. Several threads and tasks may share one, and so may the subscriptions of
    a group: one of them gets each message.
    """

    def __new__(
        cls,
        bus: Bus,
        filters: tuple[str, ...],
        full: _core.Policy,
        max_bytes: int,
        start: Start | None,
        kind: Any,
        group: str | None,
    ) -> Self:
        return super().__new__(
            cls,
            bus,
            full=full,
            max_bytes=max_bytes,
            start=start,
            group=group,
            reader=reader(kind),
        )

    def __init__(
        self,
        bus: Bus,
        filters: tuple[str, ...],
        full: _core.Policy,
        max_bytes: int,
        start: Start | None,
        kind: Any,
        group: str | None,
    ) -> None:
        if not filters:
            raise TypeError("give at least one filter, like 'sensors/#'")
        self.bus = bus
        self.group = group
        self._filters: dict[str, None] = {}  # in the order of subscribing
        # One for each waiting event loop. Those of closed loops were never rung.
        self._rings: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}
        for asked in filters:
            self.subscribe(asked)

    @property
    def closed(self) -> bool:
        """True after close() of the subscription or the bus, and in a forked child."""
        return super().closed or self.bus.closed

    @property
    def filters(self) -> tuple[str, ...]:
        """The filters, in the order of subscribing."""
        return tuple(self._filters)

    def subscribe(self, topic_filter: str, /) -> None:
        """Adds a filter and delivers the kept values of its topics.

        Raises:
            FilterError: The filter is malformed.
            ClosedError: The subscription or its bus is closed.

        Threads: any. Blocks: never.
        """
        super().subscribe(topic_filter)
        self._filters[topic_filter] = None

    def unsubscribe(self, topic_filter: str, /) -> None:
        """Ends a filter. Its messages that still wait are counted as lost (unsubscribed).

        Raises:
            ValueError: The subscription has no such filter.

        Threads: any. Blocks: never.
        """
        super().unsubscribe(topic_filter)
        self._filters.pop(topic_filter, None)

    def iter(self, timeout: float | None = None) -> Iterator[_core.Message[T]]:
        """Yields messages until none arrives for timeout seconds, or until the subscription or its bus is closed.

        Args:
            timeout: Seconds to wait for each message. None: no limit; 0: do not wait.

        Raises:
            StateError: The wait would block a running event loop: use `async for`.

        Threads: any. Blocks: in each step, up to timeout.
        """
        while True:
            try:
                yield self.recv(timeout)
            except (_core.BusTimeoutError, _core.ClosedError):
                return

    def _about(self) -> str:
        return " ".join(self.filters)

    # --- asyncio: in any event loop, one after the other or at once ---------------------------------------------------------

    async def _next(self, turn_is_over: bool) -> _core.Message[T]:
        """Waits for the next message of `async for` (next.c). Takes no message if it is cancelled.

        turn_is_over: the loop got many messages in a row, and other tasks run first.
        """
        import asyncio  # imported here: it would double the time of `import libbus`, and most programs do not need it

        try:
            if turn_is_over:
                await asyncio.sleep(0)
            else:
                await self._readable()
            while (msg := self.recv_nowait()) is None:
                await self._readable()
            return msg
        except _core.ClosedError:
            raise StopAsyncIteration from None

    async def _readable(self) -> None:
        import asyncio

        # All waiting tasks share one watch on the descriptor; shield: one of them may be cancelled.
        loop = asyncio.get_running_loop()
        ring = self._rings.get(loop)
        if ring is None:
            for other in [other for other in list(self._rings) if other.is_closed()]:
                self._rings.pop(other, None)
            ring = self._rings[loop] = loop.create_future()
            loop.add_reader(self.fileno(), self._rung, loop, self.fileno())
        await asyncio.shield(ring)

    def _rung(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        loop.remove_reader(fd)
        ring = self._rings.pop(loop, None)
        if ring is not None and not ring.done():
            ring.set_result(None)
