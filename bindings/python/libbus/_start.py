"""start=: the message of a named bus's log with which a subscription begins, like libbus.last(10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

# Plausible seconds since 1970, from 2001 to 2255. A smaller number is not a date; a larger one has a smaller unit.
FIRST_MOMENT, LAST_MOMENT = 1e9, 9e9

WHOLE = 2**64
LATEST_NS = 2**63 - 1  # in 2262


class Start(NamedTuple):
    """The first message of a subscription. Made by libbus.last(), since(), after() and oldest()."""

    kind: Literal["oldest", "last", "after", "since"]
    value: int = 0  # the count, position, or nanoseconds since 1970
    epoch: int = 0  # with a position: its bus.epoch

    def __repr__(self) -> str:
        arguments = {
            "oldest": "",
            "last": f"{self.value}",
            "after": f"{self.value}, {self.epoch}",
            "since": f"{self.value / 1e9}",
        }
        return f"libbus.{self.kind}({arguments[self.kind]})"


def oldest() -> Start:
    """Begins with the oldest message still in the log."""
    return Start("oldest")


def last(count: int, /) -> Start:
    """Begins with the last messages that match the subscription.

    Args:
        count: The number of messages, at most 10,000; fewer if the log has fewer.
    """
    return Start("last", _whole("last", "count", count))


def after(position: int, epoch: int, /) -> Start:
    """Begins after the message at a position.

    Args:
        position: The msg.position of the last handled message.
        epoch: The bus.epoch of that position. If the bus has ended and started again since, subscribing raises StateError.
    """
    return Start("after", _whole("after", "position", position), _whole("after", "epoch", epoch))


def since(moment: float | datetime, /) -> Start:
    """Begins with the first message published at that moment or later, to within some milliseconds.

    Args:
        moment: Seconds since 1970, like time.time() - 60, or a datetime with a time zone.
    """
    if isinstance(moment, (int, float)):
        if not FIRST_MOMENT <= moment < LAST_MOMENT:
            raise ValueError(
                f"since({moment!r}): give a moment in seconds since 1970, like time.time() - 60; libbus.oldest() begins"
                " with the oldest message"
            )
        return Start("since", int(moment * 1e9))
    given: Any = moment  # of any type at run time
    if not hasattr(given, "utcoffset"):
        raise TypeError(
            f"since({moment!r}): give seconds since 1970 or a datetime, not {type(moment).__name__}"
        )
    if moment.utcoffset() is None:
        raise ValueError(
            f"since({moment!r}): give the datetime a time zone, like datetime.now(timezone.utc)"
        )
    return Start("since", min(max(0, int(moment.timestamp() * 1e9)), LATEST_NS))


def _whole(function: str, name: str, number: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{function}(): {name} must be an int, not {type(number).__name__}")
    if not 0 <= number < WHOLE:
        raise ValueError(f"{function}(): {name}={number!r}: give a number from 0 to 2**64 - 1")
    return number
