"""The reader for type=. It imports _typed only if a program uses type=."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from libbus import _core

    Reader = Callable[[_core.Message], Any]


def reader(kind: Any) -> Reader | None:
    """Returns a function that reads a message's value as this type; None: no type was given. TypeError: no payload can be of it."""
    if kind is None:
        return None
    from libbus._typed import reader_of

    return reader_of(kind)
