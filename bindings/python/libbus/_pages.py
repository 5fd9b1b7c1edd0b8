"""What a page asks for in its request, and what the live pages of Flask and of ASGI servers check alike."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import libbus
from libbus import _core
from libbus._core import PAGE_FILTERS_MAX
from libbus._start import FIRST_MOMENT, LAST_MOMENT, Start

LAST_DIGITS = 19  # a count of more would be no 64-bit number


class Refused(Exception):
    """A status, a code, a sentence, and the filter or topic that it is about."""

    def __init__(self, status: int, code: str, message: str, **about: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.about = status, code, message, about


class Page(NamedTuple):
    """What a page gets: the arguments of _core.Push.add()."""

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
    """The arguments of a request, as bytes: frameworks differ in what they make of those that are not UTF-8."""

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
        """Its values, each once. Raises Refused."""
        try:
            return tuple(
                dict.fromkeys(each.decode() for each in self._values.get(name.encode(), ()))
            )
        except UnicodeDecodeError:
            raise Refused(400, "QUERY", f"{name}: a value that is not UTF-8") from None

    def first(self, name: str) -> str | None:
        """Its first value. Raises Refused."""
        return next(iter(self.all(name)), None)


def page_of(query: Query, last_event_id: str | None, allow: tuple[str, ...], option: str) -> Page:
    """The page that a request to the ready-made endpoint asks for. Raises Refused.

    Args:
        query: Of the request.
        last_event_id: The header Last-Event-ID.
        allow: The filters that it may ask for.
        option: How the app writes these, for the refusal.
    """
    filters = query.all("filter") or allow
    if not filters:
        raise Refused(
            403, "NOT_ALLOWED", f"pages may not listen to anything: name filters in {option}"
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
    """The last event that the page has seen; None: it is a new one."""
    last_id = query.first("after") or last_event_id
    return None if not last_id or "\0" in last_id else last_id


def _start_of(query: Query) -> Start | None:
    if (last := query.first("last")) is not None:
        if not (last.isascii() and last.isdigit() and len(last) <= LAST_DIGITS):
            raise Refused(400, "START", f"last: a number of messages, not {last[:40]!r}")
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
        message = f"since: seconds before now, or since 1970, not {since[:40]!r}"
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
    """The page of a view's sse(). ValueError: no filter, too many, or max_hz is not above 0. FilterError: a malformed filter."""
    if not filters:
        raise ValueError("sse(): name at least one filter, like sse('sensors/#')")
    if len(filters) > PAGE_FILTERS_MAX:
        raise ValueError(f"sse(): at most {PAGE_FILTERS_MAX} filters, not {len(filters)}")
    for asked in filters:
        libbus.filter_check(asked)
    if max_hz is not None and not max_hz > 0:  # nor nan
        raise ValueError(f"max_hz={max_hz!r}: more than 0, or None for no limit")
    interval = 0.0 if max_hz is None else 1 / max_hz
    return Page(filters, (), None, start, full, max_bytes, interval, raw, event)


def strings(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
