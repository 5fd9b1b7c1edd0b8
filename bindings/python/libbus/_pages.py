"""The request of a page, and the checks that Flask and ASGI share."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import libbus
from libbus import _core
from libbus._core import PAGE_FILTERS_MAX
from libbus._start import FIRST_MOMENT, LAST_MOMENT, Start

LAST_DIGITS = 19  # a longer count would not fit 64 bits


class Refused(Exception):
    """A refusal: status, code, text, and the filter or topic that it is about."""

    def __init__(self, status: int, code: str, message: str, **about: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.about = status, code, message, about


class Page(NamedTuple):
    """The subscription of a page: the arguments of _core.Push.add()."""

    filters: tuple[str, ...]
    new: tuple[str, ...] = ()
    last_id: str | None = None
    start: Start | None = None
    full: _core.PagePolicy = "drop_oldest"
    max_bytes: int = 0
    interval: float = 0.0
    raw: bool = False
    event: str | None = None


def add(push: _core.Push, fd: int, page: Page, *, head: bytes = b"", ask: bool = False) -> int:
    options = page._asdict()
    return push.add(fd, options.pop("filters"), head=head, ask=ask, **options)


class Query:
    """The query of a request, as bytes: frameworks decode invalid UTF-8 in different ways."""

    def __init__(self, text: bytes) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for part in text.split(b"&"):
            name, _, value = (
                unquote_to_bytes(each) for each in part.replace(b"+", b" ").partition(b"=")
            )
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name.encode() in self._values

    def all(self, name: str) -> tuple[str, ...]:
        """Returns the values of an argument, without duplicates. Raises Refused."""
        try:
            return tuple(
                dict.fromkeys(each.decode() for each in self._values.get(name.encode(), ()))
            )
        except UnicodeDecodeError:
            raise Refused(400, "QUERY", f"{name}: the value is not UTF-8") from None

    def first(self, name: str) -> str | None:
        """Returns the first value of an argument. Raises Refused."""
        return next(iter(self.all(name)), None)


def page_of(query: Query, last_event_id: str | None, allow: tuple[str, ...], option: str) -> Page:
    """Reads the page that a request to the ready-made endpoint asks for. Raises Refused.

    Args:
        query: The query of the request.
        last_event_id: The header Last-Event-ID.
        allow: The filters that a page may ask for.
        option: The option that sets them, named in refusals.
    """
    filters = query.all("filter") or allow
    if not filters:
        raise Refused(
            403, "NOT_ALLOWED", f"pages may not listen to any topic: give filters in {option}"
        )
    if len(filters) > PAGE_FILTERS_MAX:
        raise Refused(
            400, "FILTER", f"a page has at most {PAGE_FILTERS_MAX} filters, not {len(filters)}"
        )
    for asked in filters:
        try:
            libbus.filter_check(asked)
        except libbus.FilterError as error:
            raise Refused(400, "FILTER", str(error), filter=asked) from None
    for asked in filters:
        if not is_covered(asked, allow):
            raise Refused(
                403,
                "NOT_ALLOWED",
                f"pages may not listen to {asked!r}: add it to {option}",
                filter=asked,
            )
    return Page(
        filters,
        new=tuple(each for each in query.all("new") if each in filters),
        last_id=last_id_of(query, last_event_id),
        start=_start_of(query),
        raw="raw" in query,
    )


def last_id_of(query: Query, last_event_id: str | None) -> str | None:
    """Returns the last event that the page has seen; None: a new page."""
    last_id = query.first("after") or last_event_id
    return None if not last_id or "\0" in last_id else last_id


def _start_of(query: Query) -> Start | None:
    if (last := query.first("last")) is not None:
        if not (last.isascii() and last.isdigit() and len(last) <= LAST_DIGITS):
            raise Refused(400, "START", f"last: give a number of messages, not {last[:40]!r}")
        return libbus.last(int(last))
    if (since := query.first("since")) is not None:
        return libbus.since(_moment(since))
    return None


def _moment(since: str) -> float:
    try:
        seconds = float(since)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < LAST_MOMENT:
        message = f"since: give seconds before now, or since 1970, not {since[:40]!r}"
        raise Refused(400, "START", message)
    return seconds if seconds >= FIRST_MOMENT else max(FIRST_MOMENT, time.time() - seconds)


def is_covered(asked: str, allow: Iterable[str]) -> bool:
    return any(libbus.filter_covers(allowed, asked) for allowed in allow)


def page_of_view(
    filters: tuple[str, ...],
    raw: bool,
    event: str | None,
    start: Start | None,
    full: _core.PagePolicy,
    max_bytes: int,
    max_hz: float | None,
) -> Page:
    """Makes the page of a view's sse(). ValueError: no filter, too many, or max_hz is not above 0. FilterError: a malformed filter."""
    if not filters:
        raise ValueError("sse(): give at least one filter, like sse('sensors/#')")
    if len(filters) > PAGE_FILTERS_MAX:
        raise ValueError(f"sse(): give at most {PAGE_FILTERS_MAX} filters, not {len(filters)}")
    for asked in filters:
        libbus.filter_check(asked)
    if max_hz is not None and not max_hz > 0:  # nor nan
        raise ValueError(f"max_hz={max_hz!r}: give a number above 0, or None for no limit")
    interval = 0.0 if max_hz is None else 1 / max_hz
    return Page(filters, (), None, start, full, max_bytes, interval, raw, event)


def strings(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
