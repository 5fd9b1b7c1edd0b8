"""Bus: the Flask extension."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    has_app_context,
    request,
    url_for,
)
from markupsafe import Markup

import libbus
from libbus import _core
from libbus._answers import granted
from libbus._guard import Asked, Guard, place
from libbus._pages import (
    Page,
    Query,
    Refused,
    last_id_of,
    page_of,
    page_of_view,
    strings,
)
from libbus.flask import _starter, _worker
from libbus.flask._endpoint import publish_of
from libbus.flask._handlers import Background, Function, Handler, app_of, handlers_of
from libbus.flask._servers import is_ending
from libbus.flask._state import RETRY_S, Settings, State
from libbus.flask._stream import HEADERS, EventStream

if TYPE_CHECKING:
    from libbus._answers import Authorizer

F = TypeVar("F", bound=Callable[..., Any])

BUS_FAILURES = (libbus.BusError, MemoryError)


class Bus:
    """A bus for a Flask app, or for the apps of a factory that calls init_app(). The bus opens at its first use.

    Args:
        app: The app. None: call init_app() later.
        options: The arguments of init_app().
    """

    KEY: ClassVar[str] = "libbus"  # the key in app.extensions

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._apps: list[weakref.ref[State]] = []  # the app holds its state, and may be collected
        self._handlers: list[Handler] = []  # handlers for all apps
        self._backgrounds: list[Background] = []
        self._authorizer: Authorizer | None = None
        if app is not None:
            self.init_app(app, **options)
        elif options:
            raise TypeError(
                "Bus() without an app takes no options: give them to init_app(app, ...)"
            )

    def init_app(
        self,
        app: Flask,
        *,
        name: str | None = None,
        allow: str | Iterable[str] = (),
        allow_publish: str | Iterable[str] = (),
        hosts: str | Iterable[str] = (),
        origins: str | Iterable[str] = (),
        listen: str | Iterable[str] = (),
        dial: str | Iterable[str] = (),
        max_pages: int | None = None,
        heartbeat: float = 15.0,
        history: int = 0,
        url_prefix: str = "/bus",
        max_topics: int = 0,
        max_payload: int = 0,
        directory: str | os.PathLike[str] | None = None,
        log_bytes: int = 0,
        will: libbus.Will | None = None,
        on_fork: Literal["reopen", "close"] = "close",
    ) -> None:
        """Adds the bus to an app.

        Args:
            app: The app.
            name: The name of the bus, shared by all processes that open it. None: each worker has a separate bus.
            allow: Filters that pages may listen to at the ready-made endpoint; by default none. A page without a filter gets all
                of them.
            allow_publish: Filters of topics that pages may publish on, by POST to url_prefix/publish; by default none.
            hosts: Names of this server besides the usual ones. Requests with any other name are refused: another site may have
                pointed that name to this server (DNS rebinding). The usual names are IP addresses, names without a dot, names
                below .local, .lan, .internal, .home.arpa and .localhost, the machine's name and the app's SERVER_NAME and
                TRUSTED_HOSTS. ".example.com" stands for all names below it; "*" allows any name.
            origins: Other sites, like "https://example.com", whose pages may use the bus and read its answers (CORS). Their requests
                carry no cookies of this site, unless the app allows them with Access-Control-Allow-Credentials.
            listen: Addresses to listen on, for a bus without a name.
            dial: Addresses to dial, for a bus without a name.
            max_pages: Limit of open pages in a process. None: 10,000, or fewer if the limit of open files is low; where a page
                holds a thread, a number that leaves threads for other requests.
            heartbeat: Seconds between heartbeats to a page, at least 0.1.
            history: For a bus without a name, the number of events of allow= that it keeps from its opening on, for pages that start
                or resume. 0: the last 1,000 events that pages got.
            url_prefix: The path of the endpoint and the client.
            max_topics: As in libbus.Bus.
            max_payload: As in libbus.Bus.
            directory: As in libbus.Bus.
            log_bytes: As in libbus.Bus.
            will: As in libbus.Bus.
            on_fork: As in libbus.Bus. "close": a forked worker opens a new bus at its first use.

        Raises:
            RuntimeError: The app already has a bus.
            FilterError: A filter of allow or allow_publish is malformed.
            ValueError: heartbeat is too short, or an origin is malformed.

        Threads: any. Blocks: never.
        """
        if self.KEY in app.extensions:
            raise RuntimeError("this app already has a libbus: use app.extensions['libbus'].ext")
        if heartbeat < 0.1:
            raise ValueError("heartbeat: give at least 0.1 seconds")
        settings = Settings(
            name=name,
            allow=strings(allow),
            allow_publish=strings(allow_publish),
            guard=Guard(hosts, origins, "init_app"),
            listen=strings(listen),
            dial=strings(dial),
            max_pages=max_pages,
            heartbeat=heartbeat,
            history=history,
            bus={
                "max_topics": max_topics,
                "max_payload": max_payload,
                "directory": directory,
                "log_bytes": log_bytes,
                "will": will,
                "on_fork": on_fork,
            },
        )
        for asked in (*settings.allow, *settings.allow_publish):
            libbus.filter_check(asked)
        state = State(self, app, settings)
        self._init_state(state)

        blueprint = Blueprint(
            "libbus",
            __name__,
            url_prefix=url_prefix,
            static_folder=os.path.join(os.path.dirname(libbus.__file__), "static"),
            static_url_path="/static",
        )
        blueprint.add_url_rule("/events", "events", self._events)
        if settings.allow_publish:
            blueprint.add_url_rule("/publish", "publish", self._publish, methods=["POST"])
        blueprint.after_request(lambda response: self._let_origins_read(state, response))
        app.register_blueprint(blueprint)
        app.context_processor(lambda: {"bus": self})
        app.before_request(self._open_for_handlers)
        if state.idle():
            _worker.start_when_serving(state)

    def _init_state(self, state: State) -> None:
        state.app.extensions[self.KEY] = state
        self._apps = [known for known in self._apps if known() is not None] + [weakref.ref(state)]

    @property
    def bus(self) -> libbus.Bus:
        """The libbus.Bus of this process, opened at the first use."""
        return self._state().open()

    @property
    def running(self) -> bool:
        """False once gunicorn tells this worker to end. For loops of background() functions."""
        return not is_ending()

    def publish(
        self,
        topic: str,
        value: Any,
        *,
        retain: bool = False,
        ttl: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> None:
        """As libbus.Bus.publish(), on the bus of this process."""
        self.bus.publish(topic, value, retain=retain, ttl=ttl, headers=headers)

    def publish_raw(self, topic: str, data: str | bytes, **options: Any) -> None:
        """As libbus.Bus.publish_raw(), on the bus of this process."""
        self.bus.publish_raw(topic, data, **options)

    def subscribe(
        self,
        *filters: str,
        group: str | None = None,
        full: _core.Policy = "drop_oldest",
        max_bytes: int = 0,
        start: libbus.Start | None = None,
        type: Any = None,  # noqa: A002 - as in libbus.Bus.subscribe()
    ) -> libbus.Subscription[Any]:
        """As libbus.Bus.subscribe(), without callback: use on()."""
        return self.bus.subscribe(
            *filters, group=group, full=full, max_bytes=max_bytes, start=start, type=type
        )

    # --- functions of the app -------------------------------------------------------------------------------

    def on(
        self,
        topic_filter: str,
        /,
        *,
        app: Flask | None = None,
        full: _core.Policy = "drop_oldest",
        max_bytes: int = 0,
        start: libbus.Start | None = None,
        type: Any = None,  # noqa: A002
        workers: int | None = None,
    ) -> Callable[[Function], Function]:
        """Decorator: calls the function in every process that serves the app, from when it begins to serve.

        Args:
            topic_filter: As in libbus.Bus.subscribe().
            app: The app of the handler: it gets messages of that app's bus only, and ends with the app. None: the app of this
                bus that the function's closure refers to; without such an app the function is called in all apps, and lives
                as long as this object.
            full: As in libbus.Bus.subscribe().
            max_bytes: As in libbus.Bus.subscribe().
            start: As in libbus.Bus.subscribe(), in each process.
            type: As in libbus.Bus.subscribe().
            workers: As in libbus.Bus.subscribe().
        """
        if callable(topic_filter):
            raise TypeError(
                "on() has no filter: write @bus.on('sensors/#') above the function, with parentheses"
            )
        libbus.filter_check(topic_filter)
        options = {
            "full": full,
            "max_bytes": max_bytes,
            "start": start,
            "type": type,
            "workers": workers,
        }

        def register(fn: Function) -> Function:
            known = self._states()
            handler = Handler(self, topic_filter, fn, options)
            owner = app or app_of(fn, [state.app for state in known])
            if owner is None:
                self._warn_of_another(handler)
                self._handlers.append(handler)
            else:
                handlers_of(owner).append(handler)
                known = [state for state in known if state.app is owner]
            for state in known:
                state.register(handler)
                if state.idle():
                    _worker.start_when_serving(state)
            return fn

        return register

    def background(self, *, role: str | None = None) -> Callable[[F], F]:
        """Decorator: calls the function in a thread, in one process of this host, from when the app begins to serve.

        On a named bus the process that holds the role calls it; when that process ends, another one takes over. On a bus without
        a name every process calls it. A function that raises is called again after a second; a function that returns is done.
        It runs in an app context.

            @bus.background()
            def clock():
                while bus.running:
                    bus.publish("clock", time.time(), retain=True)
                    time.sleep(1)

        Args:
            role: The name of the role. None: the function's name.
        """
        if callable(role):
            raise TypeError("write @bus.background() above the function, with parentheses")

        def register(fn: F) -> F:
            name = role if role is not None else f"{fn.__module__}/{fn.__qualname__}"
            name = name.replace("<", "").replace(">", "").replace("#", "").replace("+", "")
            self._backgrounds.append(Background(self, name, fn))
            for state in self._states():
                if state.idle():
                    _worker.start_when_serving(state)
            return fn

        return register

    def authorize(self, fn: F) -> F:
        """Decorator: may(action, what) returns whether a page may do something.

        action is "subscribe" with a filter, then "receive" with each topic before the page gets its first event, and "publish"
        with a topic. "subscribe" and "publish" are asked in the request, "receive" on another thread with a copy of the request's
        context, so session and request are available. The answer to "receive" holds for the life of the page. An exception is
        logged and counts as False. The function can only narrow allow= and allow_publish=.

        Args:
            fn: may(action, what); True grants the action.
        """
        if self._authorizer is not None:
            raise RuntimeError(
                "this bus already has an authorize function: combine both in one function"
            )
        self._authorizer = fn
        return fn

    def _warn_of_another(self, handler: Handler) -> None:
        code = getattr(handler.fn, "__code__", None)
        if code is not None and any(
            known.asked == handler.asked and getattr(known.fn, "__code__", None) is code
            for known in self._handlers
        ):
            warnings.warn(
                f"on({handler.asked!r}): {handler.fn.__qualname__} is registered again, and each registration is called in all"
                " apps of this bus: in an app factory write on(..., app=app)",
                RuntimeWarning,
                stacklevel=3,
            )

    # --- pages --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the bus of this process. Open pages end and reconnect, to another process or to this one."""
        for state in self._states():
            state.close()

    def script(self, nonce: str | None = None) -> Markup:
        """Returns the `<script>` element of the page's client, for a template.

        Args:
            nonce: The nonce of a Content-Security-Policy.
        """
        src = url_for("libbus.static", filename="libbus.js")
        return Markup(
            '<script src="{}" nonce="{}"></script>' if nonce else '<script src="{}"></script>'
        ).format(src, nonce)

    def page(self, *filters: str, nonce: str | None = None) -> str:
        """Returns a complete page that shows each topic and its newest value, for a first try.

        Args:
            filters: The filters of the page; allow= must cover them.
            nonce: The nonce of a Content-Security-Policy.

        Raises:
            FilterError: A filter is malformed.
        """
        for asked in filters:
            libbus.filter_check(asked)
        return _starter.html(filters, self.script(nonce), nonce, self._state().name)

    def sse(
        self,
        *filters: str,
        raw: bool = False,
        event: str | None = None,
        start: libbus.Start | None = None,
        full: _core.PagePolicy = "drop_oldest",
        max_bytes: int = 0,
        max_hz: float | None = None,
    ) -> Response:
        """Returns the response of a view: every matching event, as long as the page is open.

        Your view and @bus.authorize check the user's rights; allow= is for the ready-made endpoint only. With too many open pages
        the response has status 503. A page that reconnects sends the header Last-Event-ID and gets the events it missed.

        Args:
            filters: As in libbus.Bus.subscribe(); up to 256.
            raw: The data of each event is the value alone, text as it is and other values as JSON, for a page that uses
                EventSource itself. Otherwise it is {"topic": ..., "value": ..., "kept": ...}, as libbus.js expects.
            event: With raw, the name of each event. None: the message's header "event", if it has one.
            start: The first message for a new page.
            full: The policy if events arrive faster than the page reads them: drop_oldest, latest (keep the newest of each
                topic) or disconnect (the page reconnects and resumes).
            max_bytes: Room for events that wait for the page, in bytes. 0: 64 KiB.
            max_hz: Limit of writes per second, each with all events since the last one. None: no limit.

        Raises:
            FilterError: A filter is malformed.
            ValueError: There is no filter, or max_hz is not above 0.

        Threads: any, in a request. Blocks: never.
        """
        # First: its errors are mistakes of the view, not of the page.
        page = page_of_view(filters, raw, event, start, full, max_bytes, max_hz)
        response = self._answer(
            lambda query, seen, _: page._replace(last_id=last_id_of(query, seen))
        )
        return self._let_origins_read(self._state(), response)

    def pages(self) -> dict[str, int]:
        """Returns the counters of this process's live pages: pages (open now), opened, events, bytes, lost, replaced, denied,
        unsent, resumed, reset, waiting_bytes and pages_most."""
        return dict(self._state().pages().stats())

    def _answer(self, find: Callable[[Query, str | None, State], Page]) -> Response:
        """Returns the events of the page that find() makes of the query and the header Last-Event-ID, or the refusal."""
        state = self._state()
        try:
            self._check_site(state)
            query = Query(request.query_string)
            page = find(query, request.headers.get("Last-Event-ID"), state)
            return self._serve(state, page, ask="libbus-ask" in query)
        except Refused as refused:
            return state.refuse(refused.status, refused.code, refused.message, **refused.about)

    def _serve(self, state: State, page: Page, ask: bool) -> Response:
        for asked in page.filters:
            if not self._may("subscribe", asked):
                raise Refused(
                    403, "NOT_AUTHORIZED", f"this page may not listen to {asked!r}", filter=asked
                )
        way = state.way(request.environ)
        try:
            if way.places.most <= 0 or not state.has_place(way):
                raise Refused(503, "TOO_MANY_PAGES", way.places.taken)
            state.pages()
        except BUS_FAILURES as error:
            raise Refused(
                503, "NO_BUS", f"the bus of this page cannot be opened: {_reason(error)}"
            ) from None
        # A browser hides the refusal of an EventSource, so libbus.js asks for it first. That request takes no place.
        if request.method == "HEAD" or ask:
            return Response(headers=HEADERS)
        return EventStream(state, page, self._authorizer)

    def _may(self, action: str, what: str) -> bool:
        fn = self._authorizer
        return fn is None or granted(current_app.ensure_sync(fn)(action, what))

    def _check_site(self, state: State) -> None:
        known = list(state.app.config.get("TRUSTED_HOSTS") or ())
        if server := state.app.config.get("SERVER_NAME"):
            known += [server, "." + place(server)[0]]
        # Werkzeug's request.host is empty for a name with an underscore, which browsers accept.
        host = request.environ.get("HTTP_HOST", "")
        asked = Asked(host, request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site"))
        state.settings.guard.check(asked, known)

    def _let_origins_read(self, state: State, response: Response) -> Response:
        guard = state.settings.guard
        response.headers.extend(guard.headers(request.method, request.headers.get("Origin")))
        return response

    def _events(self) -> Response:
        return self._answer(
            lambda query, seen, state: page_of(
                query, seen, state.settings.allow, "init_app(allow=[...])"
            )
        )

    def _publish(self) -> Response:
        state = self._state()
        try:
            self._check_site(state)
            settings = state.settings
            topic, value = publish_of(request, settings.allow_publish, settings.bus["max_payload"])
            if not self._may("publish", topic):
                raise Refused(
                    403, "NOT_AUTHORIZED", f"this page may not publish on {topic!r}", topic=topic
                )
            self._publish_value(state, topic, value)
        except Refused as refused:
            return state.refuse(refused.status, refused.code, refused.message, **refused.about)
        return Response(status=204)

    def _publish_value(self, state: State, topic: str, value: Any) -> None:
        try:
            bus = state.open()
        except BUS_FAILURES as error:
            raise Refused(
                503, "NO_BUS", f"the bus of this page cannot be opened: {_reason(error)}"
            ) from None
        try:
            bus.publish(topic, value)
        except (libbus.TopicError, libbus.TooBigError, ValueError, OverflowError) as error:
            raise Refused(400, "VALUE", str(error), topic=topic) from None
        except BUS_FAILURES as error:
            raise Refused(503, "NO_BUS", f"not published: {_reason(error)}") from None

    # --- apps and their states ------------------------------------------------------------------------------

    def __repr__(self) -> str:
        apps = [
            f"{state.app.name} on {state.name}" if state.name else state.app.name
            for state in self._states()
        ]
        return f"<libbus.flask.Bus {'of ' + ', '.join(apps) if apps else 'without an app'}>"

    def _open_for_handlers(self) -> None:
        state = self._state()
        if not state.idle() or time.monotonic() < state.retry_at:
            return
        try:
            state.work()
        except BUS_FAILURES as error:
            _worker.wait_no_longer(state)  # requests try again
            # Most views do not use the bus. Those that do get the exception; pages get the reason.
            state.retry_at = time.monotonic() + RETRY_S
            if request.blueprint != "libbus":
                state.say(
                    "NO_BUS", f"the bus cannot be opened, so no handler is called: {_reason(error)}"
                )

    def _states(self) -> list[State]:
        return [state for known in self._apps if (state := known()) is not None]

    def _state(self) -> State:
        if has_app_context():
            state: State | None = current_app.extensions.get(self.KEY)
            if state is not None and state.ext is self:
                return state
            raise RuntimeError("this app does not have this bus: call bus.init_app(app)")
        states = self._states()
        if len(states) == 1:
            return states[0]
        if not states:
            raise RuntimeError("the bus has no app yet: call bus.init_app(app)")
        raise RuntimeError("the bus serves several apps: choose one with app.app_context()")


def _reason(error: BaseException) -> str:
    return str(error) or "out of memory"
