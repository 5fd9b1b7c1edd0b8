"""What a page asks for by POST PREFIX/publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libbus
from libbus import _core
from libbus._pages import Refused, is_covered

if TYPE_CHECKING:
    from flask import Request


DEFAULT_PAYLOAD = 1 << 20  # of libbus.Bus
JSON_BYTES = 6  # of JSON for a byte of a value, at most: \\u0000
BODY_MORE = 8192  # for the topic, and the names around both


def publish_of(
    request: Request, allow: tuple[str, ...], max_payload: int
) -> tuple[str, _core.Value]:
    """The topic and the value that a page publishes. Raises Refused."""
    # A form of another site cannot send this header, and its script may not.
    if "X-Libbus" not in request.headers:
        raise Refused(403, "HEADER", "send the header X-Libbus: 1 along, as libbus.js does")
    most = JSON_BYTES * (max_payload or DEFAULT_PAYLOAD) + BODY_MORE
    if request.content_length is None:
        raise Refused(411, "BODY", "send the header Content-Length along")
    if request.content_length > most:
        raise Refused(
            413, "BODY", f"a body has at most {most} bytes here, not {request.content_length}"
        )
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("topic"), str) or "value" not in body:
        raise Refused(400, "BODY", 'send JSON, {"topic": "a/b", "value": 1}')
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
