"""Questions: what a function that serves them returns or raises becomes the reply."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from libbus import _core

if TYPE_CHECKING:
    from libbus._bus import Bus

log = logging.getLogger("libbus")

# The header of a reply that is none: what went wrong, for people.
ERROR = "error"

ERROR_CHARACTERS = 1000  # an exception may quote all of what it was given


class ReplyError(_core.BusError):
    """The answering side raised; the text says what. reply is the Message that told."""

    reply: _core.Message


def checked(reply: _core.Message) -> _core.Message:
    """The reply, unless it tells of an error."""
    if ERROR not in reply.headers:
        return reply
    error = ReplyError(f"{reply.topic}: {reply.headers[ERROR]}")
    error.topic = reply.topic
    error.reply = reply
    raise error


def answer(bus: Bus, function: Callable[[_core.Message], Any], msg: _core.Message) -> None:
    """Replies with what the function returns; messages that ask nothing go by."""
    if not msg.question:
        return
    try:
        bus.reply(msg, function(msg))
    except _core.ClosedError:
        raise
    except Exception as error:
        log.exception("%r failed on the question %s", function, msg.topic)
        bus.reply(msg, None, headers={ERROR: _sentence(error)})


def _sentence(error: Exception) -> str:
    """An error as a text that can be packed: str(error) may hold half a surrogate pair, or fail."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - of any kind
        text = type(error).__name__
    return text[:ERROR_CHARACTERS].encode(errors="backslashreplace").decode()
