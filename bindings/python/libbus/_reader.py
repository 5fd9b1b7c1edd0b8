"""What type= makes of a message, without the imports that this needs where no program asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from libbus import _core

    Reader = Callable[[_core.Message], Any]


def reader(kind: Any) -> Reader | None:
    """Reads the value of a message as this type; None: as what was packed. TypeError: no payload is of this type."""
    if kind is None:
        return None
    from libbus._typed import reader_of

    return reader_of(kind)
