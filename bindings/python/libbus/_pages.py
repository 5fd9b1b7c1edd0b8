"""What the live pages of Flask and of ASGI servers check alike."""

from __future__ import annotations

import libbus


def check_filters(filters: tuple[str, ...]) -> None:
    """Raises ValueError without a filter, FilterError for a malformed one."""
    if not filters:
        raise ValueError("sse(): name at least one filter, like sse('sensors/#')")
    for asked in filters:
        libbus.filter_check(asked)


def seconds_between_writes(max_hz: float | None) -> float:
    """Raises ValueError: max_hz is not above 0. 0: no limit."""
    if max_hz is None:
        return 0.0
    if max_hz <= 0:
        raise ValueError(f"max_hz={max_hz!r}: more than 0, or None for no limit")
    return 1 / max_hz
