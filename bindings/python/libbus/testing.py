"""For tests of programs that use libbus: a bus that collects exceptions of its callbacks, and a recorder of messages.

    import libbus.testing

    def test_open_door_publishes(bus):                      # a fixture of libbus's pytest plugin
        recorder = libbus.testing.record(bus, "home/#")
        open_the_door(bus)
        assert recorder.items() == [("home/door", "open")]

pytest finds the fixtures bus, named_bus and open_bus by itself (_libbus_pytestplugin.py). Nothing here needs pytest.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import libbus
from libbus._loop import running_loop

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Self

    from libbus.flask import Bus as FlaskBus

__all__ = ["Bus", "Failure", "Messages", "Recorder", "record"]

# The unread messages that a recorder of a private bus holds. It allocates memory as messages arrive.
ROOM_BYTES = 64 << 20

# A failure shows at most this many messages, and this many characters of each value.
SHOWN, SHOWN_CHARACTERS = 20, 200


class Failure(NamedTuple):
    """An exception that a callback raised."""

    topic: str
    function: Any
    error: BaseException

    def __str__(self) -> str:
        name = getattr(self.function, "__qualname__", repr(self.function))
        trace = "".join(traceback.format_exception(self.error)).rstrip()
        return f"callback {name} raised on {self.topic}:\n{trace}"


class Bus(libbus.Bus):
    """A libbus.Bus that collects the failures of its callbacks, also of async ones and of those with workers."""

    failures: list[Failure]
    """The exceptions of callbacks. The fixtures fail a test that leaves any in the list. A test that expects one removes it:
    `bus.failures.pop()`, after `bus.flush()`. An exception of a serve() function is not in the list: request() raises it."""

    def __init__(self, name: str | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.failures = []
        self._recorders: list[Recorder] = []
        self._callbacks.failures.tell = lambda *about: self.failures.append(Failure(*about))

    @property
    def directory(self) -> Any:
        """The directory of a named bus's log: another process joins with libbus.Bus(name, directory=...)."""
        return self._arguments["directory"]

    def close(self, timeout: float | None = 1.0) -> int:
        """As libbus.Bus.close(). Recorders keep their messages."""
        with contextlib.suppress(libbus.BusError):
            if not self.closed and self._recorders:
                self._end_jobs()
                self.flush(timeout)  # records the messages of callbacks too
        for recorder in list(self._recorders):
            recorder._take()
        return super().close(timeout)

    def _take_failures(self, timeout: float) -> str:
        """Waits some seconds for callbacks, then returns the text of the failures so far. "": there are none."""
        with contextlib.suppress(libbus.BusError):
            if not self.closed:
                self.flush(timeout)
        failures, self.failures[:] = list(self.failures), []
        return "\n\n".join(map(str, failures))


class Messages(list[libbus.Message]):
    """A list of messages. In an event loop await it."""

    def __await__(self) -> Generator[Any, None, Self]:
        return self
        yield


class Recorder:
    """The messages of some filters since record(), in order. On a private bus a message is recorded when publish() returns.

    Several threads may publish; one reads. The recorder ends with close() or its with block, and can be read afterwards.
    AssertionError: messages were lost, because too many arrived between two reads, or because a bus that is not a
    libbus.testing.Bus was closed before a read.
    """

    def __init__(self, subscription: libbus.Subscription[Any]) -> None:
        self._subscription = subscription
        self._messages = Messages()
        self._lost = 0

    @property
    def messages(self) -> Messages:
        """All recorded messages, as libbus.Message."""
        self._take()
        if self._lost:
            raise AssertionError(
                f"{self!r} has lost {self._lost} messages: read it more often, or record fewer topics"
            )
        with contextlib.suppress(libbus.ClosedError):  # closed by close(), which took all messages
            if unread := self._subscription.stats()["lost_by"]["closed"]:
                raise AssertionError(
                    f"{self!r} had unread messages ({unread}) when its bus was closed: read or close it before the bus"
                )
        return Messages(self._messages)

    @property
    def topics(self) -> list[str]:
        """The topic of each message."""
        return [msg.topic for msg in self.messages]

    def values(self, topic_filter: str | None = None, /) -> list[Any]:
        """The value of each message, or of those whose topics the filter matches."""
        return [msg.value for msg in self.messages if _matches(topic_filter, msg.topic)]

    def items(self) -> list[tuple[str, Any]]:
        """Topic and value of each message."""
        return [(msg.topic, msg.value) for msg in self.messages]

    def wait(self, count: int = 1, timeout: float = 5.0) -> Messages:
        """Waits until it has recorded this many messages in all, and returns them. In a running event loop await it.

        Args:
            count: The number of messages since record().
            timeout: Seconds to wait.

        Raises:
            AssertionError: It had fewer messages after that time. The text shows them.

        Blocks: up to timeout.
        """
        if running_loop() is not None:
            later: Any = self._wait_in_loop(count, timeout)
            return later  # type: ignore[no-any-return]
        deadline = time.monotonic() + timeout
        while len(got := self.messages) < count:
            try:
                self._add(self._subscription.recv(max(0.0, deadline - time.monotonic())))
            except (libbus.BusTimeoutError, libbus.ClosedError) as error:
                raise self._missing(count, timeout, error) from None
        return got

    async def _wait_in_loop(self, count: int, timeout: float) -> Messages:
        import asyncio

        deadline = time.monotonic() + timeout
        while len(got := self.messages) < count:
            left = max(0.0, deadline - time.monotonic())
            try:
                self._add(await asyncio.wait_for(anext(self._subscription), left))
            except (asyncio.TimeoutError, StopAsyncIteration) as error:
                raise self._missing(count, timeout, error) from None
        return got

    def clear(self) -> None:
        """Discards the messages so far."""
        self._take()
        self._messages.clear()
        self._lost = 0

    def close(self) -> None:
        """Ends the recording. The messages so far stay."""
        self._take()
        self._subscription.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[libbus.Message]:
        return iter(self.messages)

    def __repr__(self) -> str:
        filters = " ".join(self._subscription.filters)
        return f"<libbus.testing.Recorder {filters} with {len(self._messages)} messages>"

    def _take(self) -> None:
        with contextlib.suppress(libbus.ClosedError):
            while (msg := self._subscription.recv_nowait()) is not None:
                self._add(msg)

    def _add(self, msg: libbus.Message) -> None:
        self._lost += msg.lost
        self._messages.append(msg)

    def _missing(self, count: int, timeout: float, error: BaseException) -> AssertionError:
        got = self.messages
        filters = " ".join(self._subscription.filters)
        when = f"in {timeout:g} s"
        if isinstance(error, (libbus.ClosedError, StopAsyncIteration)):
            when = "before the recording or its bus was closed"
        came = f"{len(got)} arrived:" if got else "none arrived"
        lines = [f"{count} message{'s' * (count != 1)} on {filters} expected {when}, {came}"]
        lines += [f"  {msg.topic}  {_shown(msg)}" for msg in got[:SHOWN]]
        if len(got) > SHOWN:
            lines.append(f"  and {len(got) - SHOWN} more")
        return AssertionError("\n".join(lines))


def record(bus: libbus.Bus | FlaskBus, *filters: str) -> Recorder:
    """Records the messages of the filters from now on, or all messages without a filter; kept values are the first.

    Args:
        bus: A libbus.Bus, or a libbus.flask.Bus in an app context.
        filters: As in libbus.Bus.subscribe().

    Threads: any. Blocks: never.
    """
    recorder = Recorder(bus.subscribe(*(filters or ("#",)), max_bytes=ROOM_BYTES))
    if isinstance(bus, Bus):
        bus._recorders.append(recorder)
    return recorder


def _matches(topic_filter: str | None, topic: str) -> bool:
    return topic_filter is None or libbus.filter_covers(topic_filter, topic)


def _shown(msg: libbus.Message) -> str:
    try:
        text = repr(msg.value)
    except Exception:  # noqa: BLE001 - it is only shown
        text = f"{len(msg.data)} bytes: {msg.data!r}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"
