"""Flask-SSE's interface on libbus: an app changes its import, and needs no Redis.

    from libbus.compat.flask_sse import sse             # was: from flask_sse import sse

    app.register_blueprint(sse, url_prefix="/stream")
    sse.publish({"message": "Hello!"}, type="greeting")

Pages stay as they are: EventSource("/stream"), or "/stream?channel=news". What they missed while they were
disconnected they get when they come back, on any worker, and open pages hold no thread of the server.

publish() works outside an app context too, in any process of this user: all are on the bus that app.config["SSE_BUS"] names,
"flask-sse" unless it is set; outside an app the environment variable SSE_BUS names it.

Each channel is a topic, sse/CHANNEL. As in Flask-SSE any visitor may listen to any channel, unless a function with
@sse.before_request decides.
"""

from __future__ import annotations

import os
import threading
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Flask, Response, current_app, has_app_context
from flask.blueprints import BlueprintSetupState

import libbus
from libbus._guard import Guard
from libbus._pages import Page, Query, Refused, last_id_of
from libbus.flask import Bus
from libbus.flask._state import Settings, State

__all__ = ["ServerSentEventsBlueprint", "sse"]

BUS_NAME = "flask-sse"


class _Pages(Bus):
    """The bus of such an app, beside one of libbus.flask that it may have."""

    KEY = "libbus.compat.flask_sse"


class ServerSentEventsBlueprint(Blueprint):
    """The blueprint: register it under the prefix that pages listen to."""

    def __init__(self, name: str = "sse", import_name: str = __name__) -> None:
        super().__init__(name, import_name)
        self._pages = _Pages()
        self._lock = threading.Lock()
        self._own: libbus.Bus | None = None  # of publishers outside an app
        self.add_url_rule("", endpoint="stream", view_func=self.stream)
        self.record_once(self._registered)

    def publish(
        self,
        data: Any,
        type: str | None = None,  # noqa: A002 - Flask-SSE's name
        id: Any = None,  # noqa: A002
        retry: int | None = None,
        channel: str = "sse",
    ) -> None:
        """Publishes an event to all pages that listen to the channel.

        Args:
            data: What the page finds in event.data: text as it is, anything else as JSON.
            type: The name of the event, for addEventListener(). None: "message".
            id: The event's id instead of libbus's own, by which a page could go on behind it.
            retry: Milliseconds after which the browser connects again when the connection is lost.
            channel: Which pages get it.

        Raises:
            TypeError: data cannot be published.
            TooBigError: It is too large.

        Threads: any, in and outside requests. Blocks: never.
        """
        given = {
            "event": type,
            "id": None if id is None else str(id),
            "retry": None if retry is None else int(retry),
        }
        headers = {name: value for name, value in given.items() if value is not None}
        self._bus().publish(_topic(channel), data, headers=headers or None)

    def stream(self) -> Response:
        """The view: events of the channel that the query names, or of "sse"."""
        return self._pages._answer(_page_of)

    def _registered(self, setup: BlueprintSetupState) -> None:
        app = setup.app
        assert isinstance(app, Flask)
        self._pages._init_state(
            State(
                self._pages,
                app,
                Settings(
                    name=app.config.get("SSE_BUS") or _outside_name(),
                    guard=Guard("*", (), "init_app"),  # Flask-SSE has never looked at Host
                ),
            )
        )

    def _bus(self) -> libbus.Bus:
        if has_app_context() and _Pages.KEY in current_app.extensions:
            return self._pages.bus
        with self._lock:
            if self._own is None:
                states = self._pages._states()
                name = states[0].name if states else _outside_name()
                self._own = libbus.Bus(name, on_fork="reopen")
            return self._own

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


def _outside_name() -> str:
    return os.environ.get("SSE_BUS") or BUS_NAME


def _page_of(query: Query, last_event_id: str | None, _: State) -> Page:
    topic = _topic(query.first("channel") or "sse")
    try:
        libbus.filter_check(topic)
    except libbus.FilterError:  # its name is quoted: it is too long
        raise Refused(400, "CHANNEL", "channel: a name that is too long for a topic") from None
    return Page((topic,), last_id=last_id_of(query, last_event_id), raw=True)


def _topic(channel: str) -> str:
    """A channel may have any name, a level of a topic may not."""
    return "sse/" + quote(channel, safe="")


sse: ServerSentEventsBlueprint = ServerSentEventsBlueprint()

os.register_at_fork(after_in_child=sse._after_fork)
