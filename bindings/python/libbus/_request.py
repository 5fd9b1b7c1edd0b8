"""Requests: the result or exception of a serving function becomes the reply."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from libbus import _core

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Generator

    from typing_extensions import Self

    from libbus._bus import Bus

log = logging.getLogger("libbus")

# The header of an error reply: the error's text, for people.
ERROR = "error"

ERROR_CHARACTERS = 1000  # an exception may quote its whole argument


class ReplyError(_core.BusError):
    """The serving function raised an exception; the text names it."""

    reply: _core.Message
    """The reply that reported the error."""


class Reply(_core.Reply):
    """The Message that bus.request() returns. It can be awaited, and in a running event loop it must be: until then its
    attributes raise StateError.

    `reply = await bus.request("a", 1)` gives the reply; without a running loop `bus.request("a", 1)` does. The request is
    sent when request() returns, so a program may send several and await them afterwards. Dropping the Reply ends the
    request.
    """

    __slots__ = ("_asking",)
    _asking: _Asking | None

    def __await__(self) -> Generator[Any, None, Self]:
        return self._wait().__await__()

    async def _wait(self) -> Self:
        asking = self._asking
        if asking is not None:
            asking.awaited = True
            await asking.end()
            self._fill(checked(asking.result()))
        return self

    def __del__(self) -> None:
        asking = self._asking
        if asking is None:
            return
        asking.give_up()
        if not asking.awaited:
            text = f"the reply to {asking.topic!r} was never awaited"
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=self)


def received(msg: _core.Message) -> Reply:
    """Makes the Reply of a message that has arrived."""
    reply = Reply(msg.topic)
    reply._asking = None
    reply._fill(checked(msg))
    return reply


def pending(topic: str, question: _core.Question, loop: asyncio.AbstractEventLoop) -> Reply:
    """Makes the Reply of a message that will arrive."""
    asking = _Asking(topic, question, loop)
    reply = Reply(topic)
    reply._asking = asking
    return reply


class _Asking:
    """A request whose reply the event loop waits for.

    The loop refers to this object, not to the Reply: dropping the Reply ends both.
    """

    def __init__(
        self, topic: str, question: _core.Question, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.topic = topic
        self.question = question
        self.loop = loop
        self.awaited = False
        self.waiting: asyncio.Future[None] = loop.create_future()
        self.outcome: _core.Message | BaseException | None = None
        self.fd = question.fileno()
        loop.add_reader(self.fd, self.look)

    def look(self) -> None:
        try:
            self.outcome = self.question.take()
        except Exception as error:  # noqa: BLE001 - to be raised where it is awaited
            self.outcome = error
        if self.outcome is not None:
            self.close()

    def close(self) -> None:
        """Runs on the loop's thread."""
        if not self.loop.is_closed():
            self.loop.remove_reader(self.fd)
        self.question.close()
        if not self.waiting.done():
            self.waiting.set_result(None)

    async def end(self) -> None:
        import asyncio

        # A cancelled task leaves the request to other tasks that await it.
        await asyncio.shield(self.waiting)

    def result(self) -> _core.Message:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome

    def give_up(self) -> None:
        """Runs on any thread, as finalizers do."""
        if self.outcome is not None:
            return
        try:
            self.loop.call_soon_threadsafe(self.close)
        except RuntimeError:  # the loop is closed
            self.question.close()


def checked(reply: _core.Message) -> _core.Message:
    """Returns the reply, or raises the error that it reports."""
    if ERROR not in reply.headers:
        return reply
    error = ReplyError(f"{reply.topic}: {reply.headers[ERROR]}")
    error.topic = reply.topic
    error.reply = reply
    raise error


def answer(bus: Bus, function: Callable[[_core.Message], Any], msg: _core.Message) -> None:
    """Replies with the function's result; ignores messages that are not requests."""
    if not msg.question:
        return
    try:
        bus.reply(msg, function(msg))
    except _core.ClosedError:
        raise
    except Exception as error:  # noqa: BLE001 - logged there
        _reply_error(bus, function, msg, error)


async def answer_later(
    bus: Bus, function: Callable[[_core.Message], Awaitable[Any]], msg: _core.Message
) -> None:
    """The same for an async function."""
    if not msg.question:
        return
    try:
        bus.reply(msg, await function(msg))
    except _core.ClosedError:
        raise
    except Exception as error:  # noqa: BLE001 - logged there
        _reply_error(bus, function, msg, error)


def _reply_error(bus: Bus, function: object, msg: _core.Message, error: Exception) -> None:
    log.exception("%r failed on the request %s", function, msg.topic)
    bus.reply(msg, None, headers={ERROR: sentence(error)})


def sentence(error: BaseException) -> str:
    """Makes a text of an error that can be packed: str(error) may hold half a surrogate pair, or fail."""
    try:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    except Exception:  # noqa: BLE001 - of any kind
        text = type(error).__name__
    return plain(text[:ERROR_CHARACTERS])


def plain(text: str) -> str:
    """Replaces the characters that cannot be packed."""
    return text.encode(errors="backslashreplace").decode()
