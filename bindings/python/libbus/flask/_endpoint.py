"""What a request asks for: GET PREFIX/events, and POST PREFIX/publish."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import libbus
from libbus import _core

if TYPE_CHECKING:
    from flask import Request

    from libbus._start import Start

FIRST_MOMENT = 1e9  # as in libbus.since(): less is a number of seconds that have passed


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


def page_of(request: Request, allow: tuple[str, ...]) -> Page:
    """The page that a request to the ready-made endpoint asks for. Raises Refused."""
    filters = tuple(dict.fromkeys(request.args.getlist("filter"))) or allow
    if not filters:
        raise Refused(
            403,
            "NOT_ALLOWED",
            "pages may not listen to anything: name filters in init_app(allow=[...])",
        )
    for asked in filters:
        try:
            libbus.filter_check(asked)
        except libbus.FilterError as error:
            raise Refused(400, "FILTER", str(error), filter=asked) from None
    for asked in filters:
        if not _covered(asked, allow):
            raise Refused(
                403,
                "NOT_ALLOWED",
                f"pages may not listen to {asked!r}: add it to init_app(allow=[...])",
                filter=asked,
            )
    return Page(
        filters,
        new=tuple(each for each in request.args.getlist("new") if each in filters),
        last_id=last_id_of(request),
        start=_start_of(request),
        raw="raw" in request.args,
    )


def last_id_of(request: Request) -> str | None:
    """The last event that the page has seen; None: it is a new one."""
    last_id = request.args.get("after") or request.headers.get("Last-Event-ID")
    return None if not last_id or "\0" in last_id else last_id


def _start_of(request: Request) -> Start | None:
    try:
        if (last := request.args.get("last")) is not None:
            return libbus.last(int(last))
        if (since := request.args.get("since")) is not None:
            seconds = float(since)
            return libbus.since(seconds if seconds >= FIRST_MOMENT else time.time() - seconds)
    except (ValueError, OverflowError) as error:
        raise Refused(400, "START", f"last=COUNT, or since=SECONDS before now: {error}") from None
    return None


def publish_of(request: Request, allow: tuple[str, ...]) -> tuple[str, _core.Value]:
    """The topic and the value that a page publishes. Raises Refused."""
    # A form of another site cannot send this header, and its script may not.
    if "X-Libbus" not in request.headers:
        raise Refused(403, "HEADER", "send the header X-Libbus: 1 along, as libbus.js does")
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("topic"), str) or "value" not in body:
        raise Refused(400, "BODY", 'send JSON, {"topic": "a/b", "value": 1}')
    topic: str = body["topic"]
    if "+" in topic or "#" in topic:
        raise Refused(400, "TOPIC", f"{topic!r} is a filter: publish on a topic", topic=topic)
    try:
        if _covered(topic, allow):
            return topic, body["value"]
    except libbus.BusError as error:
        raise Refused(400, "TOPIC", str(error), topic=topic) from None
    raise Refused(
        403,
        "NOT_ALLOWED",
        f"pages may not publish on {topic!r}: add it to init_app(allow_publish=[...])",
        topic=topic,
    )


def _covered(asked: str, allow: Iterable[str]) -> bool:
    return any(libbus.filter_covers(allowed, asked) for allowed in allow)
