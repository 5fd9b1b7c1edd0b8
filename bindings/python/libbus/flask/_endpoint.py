"""The request POST PREFIX/publish of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libbus
from libbus import _core
from libbus._pages import Refused, is_covered

if TYPE_CHECKING:
    from flask import Request


DEFAULT_PAYLOAD = 1 << 20  # the default of libbus.Bus
JSON_BYTES = 6  # JSON takes at most this many bytes for a byte of a value: \\u0000
BODY_MORE = 8192  # for the topic, and the names around both


def publish_of(
    request: Request, allow: tuple[str, ...], max_payload: int
) -> tuple[str, _core.Value]:
    """Returns the topic and the value that a page publishes. Raises Refused."""
    # A form of another site cannot send this header, and a script of one may not.
    if "X-Libbus" not in request.headers:
        raise Refused(
            403, "HEADER", "the header X-Libbus is missing: send X-Libbus: 1, as libbus.js does"
        )
    most = JSON_BYTES * (max_payload or DEFAULT_PAYLOAD) + BODY_MORE
    if request.content_length is None:
        raise Refused(411, "BODY", "the header Content-Length is missing: send it")
    if request.content_length > most:
        raise Refused(
            413, "BODY", f"the body has {request.content_length} bytes: send at most {most}"
        )
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("topic"), str) or "value" not in body:
        raise Refused(400, "BODY", 'the body is malformed: send JSON, {"topic": "a/b", "value": 1}')
    topic: str = body["topic"]
    if "+" in topic or "#" in topic:
        raise Refused(400, "TOPIC", f"{topic!r} is a filter: publish on a topic", topic=topic)
    try:
        if is_covered(topic, allow):
            return topic, body["value"]
    except libbus.BusError as error:
        raise Refused(400, "TOPIC", str(error), topic=topic) from None
    raise Refused(
        403,
        "NOT_ALLOWED",
        f"pages may not publish on {topic!r}: add it to init_app(allow_publish=[...])",
        topic=topic,
    )
