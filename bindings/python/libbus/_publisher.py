"""Publisher: a topic for many messages, with back-pressure."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from libbus import _core
from libbus._closing import Closing
from libbus._loop import running_loop

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Self

    from libbus._bus import Bus

# Values that a task packs before it sends them.
BATCH = 32

# A task that finds no room looks again in its next turns, since the tasks that make room run in between, and then after pauses
# that grow. Only the C library could tell when there is room, and it wakes threads.
TURNS = 16
SHORTEST_S, LONGEST_S = 0.0005, 0.01


class Sent(int):
    """What send_many() returns: the number of values that went, which can be awaited."""

    @property
    def sent(self) -> int:
        return int(self)

    def __await__(self) -> Generator[Any, None, int]:
        return int(self)
        yield


class _Done:
    """What send() returns when the value went at once."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class Publisher(_core.Publisher, Closing):
    """A topic for many messages, made by bus.publisher().

    Keeps its bus open. Several threads may share one. A send() that waits holds up neither the others nor
    close(), and Ctrl-C ends it. In a running event loop a send that finds no room waits when it is awaited.
    """

    bus: Bus
    wait: float | None
    """How many seconds a send waits for room. None: no limit."""

    _done = _Done()

    def __new__(
        cls,
        bus: Bus,
        topic: str,
        wait: float | None,
        retain: bool,
        ttl: float | None,
        headers: dict[Any, Any] | None,
    ) -> Self:
        return super().__new__(cls, bus, topic, wait=wait, retain=retain, ttl=ttl, headers=headers)

    def __init__(
        self,
        bus: Bus,
        topic: str,
        wait: float | None,
        retain: bool,
        ttl: float | None,
        headers: dict[Any, Any] | None,
    ) -> None:
        self.bus = bus
        self.wait = wait
        self.retain = retain
        self.ttl = ttl
        self.headers = headers

    def send_many(self, values: Iterable[_core.Value], /) -> Sent:
        sent: Any = super().send_many(values)
        return Sent(sent) if isinstance(sent, int) else sent

    send_many.__doc__ = _core.Publisher.send_many.__doc__

    def _may_wait(self) -> bool | None:
        if self.bus._callbacks.here():
            return False
        return True if running_loop() is None else None

    def _later(
        self, packed: list[bytes], values: Iterator[_core.Value] | BaseException | None, sent: int
    ) -> Sending:
        return Sending(self, packed, values, sent)

    def _about(self) -> str:
        return self.topic if self.wait == 0 else f"{self.topic} wait={self.wait}"


class Sending:
    """What send() and send_many() return in an event loop where there is no room: await it, and the rest goes.

    It is no int: asyncio.gather() takes two that are equal for one.
    """

    def __init__(
        self,
        publisher: Publisher,
        packed: list[bytes],
        values: Iterator[_core.Value] | BaseException | None,
        sent: int,
    ) -> None:
        self._publisher, self._packed, self._values = publisher, packed, values
        self._many = values is not None
        self._awaited = False
        self.sent = sent  # so far

    def __await__(self) -> Generator[Any, None, Any]:
        if self._awaited:
            raise RuntimeError(f"{self._publisher.topic}: this send was awaited already")
        self._awaited = True
        return self._send().__await__()

    async def _send(self) -> int | None:
        try:
            while self._fill():
                await self._send_some()
        except BaseException as error:
            error.sent = self.sent  # type: ignore[attr-defined]
            raise
        return self.sent if self._many else None

    def _fill(self) -> bool:
        """Packs some values more; whether there are any. What one raises comes behind those before it."""
        while len(self._packed) < BATCH:
            values = self._values
            if values is None or isinstance(values, BaseException):
                break
            try:
                self._packed.append(self._publisher._pack(next(values)))
            except StopIteration:
                self._values = None
            except BaseException as error:  # noqa: BLE001 - raised below
                self._values = error
        if not self._packed and isinstance(self._values, BaseException):
            raise self._values
        return bool(self._packed)

    async def _send_some(self) -> None:
        import asyncio

        wait = self._publisher.wait
        deadline = None if wait is None else time.monotonic() + wait
        turns, pause = 0, SHORTEST_S
        while True:
            late = deadline is not None and time.monotonic() >= deadline
            if went := self._publisher._try(self._packed, late):
                del self._packed[:went]
                self.sent += went
                return
            if turns < TURNS:
                turns += 1
                await asyncio.sleep(0)
            else:
                left = pause if deadline is None else max(0.0, deadline - time.monotonic())
                await asyncio.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_S)

    def __del__(self) -> None:
        if not self._awaited:
            text = f"a send on {self._publisher.topic!r} was never awaited, so it has not published all"
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=self)
