"""Flask-SSE's interface on libbus: an app changes its import and needs no Redis.

    from libbus.compat.flask_sse import sse             # was: from flask_sse import sse

    app.register_blueprint(sse, url_prefix="/stream")
    sse.publish({"message": "Hello!"}, type="greeting")

Pages need no change: EventSource("/stream"), or "/stream?channel=news". A page that reconnects, on any worker, gets the events
it missed. Open pages hold no thread of the server.

publish() works outside an app context too, in any process of this user: all of them open the bus named by
app.config["SSE_BUS"], by default "flask-sse"; outside an app the environment variable SSE_BUS names it.

Each channel is a topic, sse/CHANNEL. As in Flask-SSE any visitor may listen to any channel, unless a function with
@sse.before_request refuses.
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
    """The bus of such an app. The app may have one of libbus.flask as well."""

    KEY = "libbus.compat.flask_sse"


class ServerSentEventsBlueprint(Blueprint):
    """The blueprint. Register it under the prefix that pages connect to."""

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
            data: The page's event.data: text as it is, any other value as JSON.
            type: The name of the event, for addEventListener(). None: "message".
            id: The event's id. It replaces libbus's id, by which a page would resume after this event.
            retry: Milliseconds until the browser reconnects after a lost connection.
            channel: The channel whose pages get the event.

        Raises:
            TypeError: data cannot be published.
            TooBigError: data is too large.

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
        """The view: the events of the channel in the query, by default "sse"."""
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
                    guard=Guard("*", (), "init_app"),  # Flask-SSE does not check Host
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
    except libbus.FilterError:  # only its length can be wrong, since its name is quoted
        raise Refused(400, "CHANNEL", "channel: the name is too long for a topic") from None
    return Page((topic,), last_id=last_id_of(query, last_event_id), raw=True)


def _topic(channel: str) -> str:
    """Quotes a channel's name: it may have any characters, a level of a topic may not."""
    return "sse/" + quote(channel, safe="")


sse: ServerSentEventsBlueprint = ServerSentEventsBlueprint()

os.register_at_fork(after_in_child=sse._after_fork)
