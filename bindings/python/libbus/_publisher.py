"""Publisher: a topic for many messages, with back-pressure."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from libbus import _core
from libbus._closing import Closing
from libbus._threads import pauses
from libbus._ways import way

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Self

    from libbus._bus import Bus

# Values that a task packs at a time before it sends them.
BATCH = 32


class Sent(int):
    """The result of send_many(), an int that can be awaited: the number of values sent."""

    @property
    def sent(self) -> int:
        return int(self)

    def __await__(self) -> Generator[Any, None, int]:
        return int(self)
        yield


class _Done:
    """The result of a send() that is already done."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class Publisher(_core.Publisher, Closing):
    """A topic for many messages, made by bus.publisher().

    Keeps its bus open. Several threads may share one. A send() that waits blocks no other send and no close(), and
    Ctrl-C ends it. In a running event loop a send without room waits when it is awaited.
    """

    bus: Bus
    wait: float | None
    """Seconds that a send waits for room. None: no limit."""

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

    @property
    def closed(self) -> bool:
        """True after close() of the publisher or the bus, and in a forked child."""
        return super().closed or self.bus.closed

    def send_many(self, values: Iterable[_core.Value], /) -> Sent:
        sent: Any = super().send_many(values)
        return Sent(sent) if isinstance(sent, int) else sent

    send_many.__doc__ = _core.Publisher.send_many.__doc__

    def _may_wait(self) -> bool | None:
        return False if self.bus._callbacks.here() else way().sends_here

    def _later(
        self, packed: list[bytes], values: Iterator[_core.Value] | BaseException | None, sent: int
    ) -> Any:
        return way().finish(Sending(self, packed, values, sent))

    def _about(self) -> str:
        return self.topic if self.wait == 0 else f"{self.topic} wait={self.wait}"


class Sending:
    """The result of send() and send_many() in an event loop when there is no room: await it to send the rest.

    Not an int: asyncio.gather() would merge two equal ones.
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
            raise RuntimeError(
                f"{self._publisher.topic}: this send was already awaited: await each send once"
            )
        self._awaited = True
        return self._send().__await__()

    async def _send(self) -> int | None:
        import asyncio

        with self._noting():
            for pause in self._pauses():
                await asyncio.sleep(pause)
        return self.sent if self._many else None

    def now(self, sleep: Callable[[float], None]) -> Any:
        """Makes the result of send() or send_many() once all is sent."""
        self._awaited = True
        with self._noting():
            for pause in self._pauses():
                sleep(pause)
        return self.sent if self._many else self._publisher._done

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Sets `sent` of the exception that ends the send."""
        try:
            yield
        except BaseException as error:
            error.sent = self.sent  # type: ignore[attr-defined]
            raise

    def _fill(self) -> bool:
        """Packs more values; returns whether there are any. An exception is raised after the values before it are sent."""
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

    def _pauses(self) -> Iterator[float]:
        """Sends all values. Yields the seconds to wait before the next try."""
        while self._fill():
            wait = self._publisher.wait
            deadline = None if wait is None else time.monotonic() + wait
            for pause in pauses():
                late = deadline is not None and time.monotonic() >= deadline
                if went := self._publisher._try(self._packed, late):
                    del self._packed[:went]
                    self.sent += went
                    break
                yield (
                    pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic()))
                )

    def __del__(self) -> None:
        if not self._awaited:
            text = f"a send on {self._publisher.topic!r} was never awaited, so it has not published all"
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=self)
