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
    """A bus for a Flask app; the app factory's init_app() fits too. Opens nothing until it is used.

    Args:
        app: The app; None: init_app() gives it later.
        options: Those of init_app().
    """

    KEY: ClassVar[str] = "libbus"  # in app.extensions

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._apps: list[weakref.ref[State]] = []  # an app holds its state, and may go
        self._handlers: list[Handler] = []  # of all apps
        self._backgrounds: list[Background] = []
        self._authorizer: Authorizer | None = None
        if app is not None:
            self.init_app(app, **options)
        elif options:
            raise TypeError("give the options to init_app(app, ...), where the app is")

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
            name: Of the bus, which all processes that open it share. None: each worker has a bus of its own.
            allow: Filters that pages may listen to at the ready-made endpoint; none unless you say so. A page without a filter
                gets all of them.
            allow_publish: Filters of topics that pages may publish on, by POST to url_prefix/publish; none unless you say so.
            hosts: Names of this server beside the usual ones. Requests by another name are refused, since it may have
                been made to mean this server by another site (DNS rebinding). IP addresses, names without a dot, names
                below .local, .lan, .internal, .home.arpa and .localhost, the machine's own name and the app's SERVER_NAME and
                TRUSTED_HOSTS are fine; ".example.com" stands for all names below; "*" allows any.
            origins: Other sites whose pages may use the bus, like "https://example.com", and read its answers (CORS). Their requests
                bring no cookies of this one, unless the app lets them by Access-Control-Allow-Credentials.
            listen: Addresses of links to listen on, of a bus without a name.
            dial: Addresses of links to dial, of a bus without a name.
            max_pages: How many pages may be open in a process. None: 10,000, or what the limit of open files leaves; where a
                page holds a thread, as many as leave threads for everything else.
            heartbeat: Seconds between signs of life to a page, at least 0.1.
            history: Of a bus without a name, how many events of allow= pages can begin with or resume from, kept from when the bus
                opens. 0: 1,000 of those that pages had.
            url_prefix: Where the endpoint and the client are served.
            max_topics: As in libbus.Bus.
            max_payload: As in libbus.Bus.
            directory: As in libbus.Bus.
            log_bytes: As in libbus.Bus.
            will: As in libbus.Bus.
            on_fork: As in libbus.Bus. "close": a forked worker opens a bus of its own when it needs it.

        Raises:
            RuntimeError: The app has a bus already.
            FilterError: A filter of allow or allow_publish is malformed.
            ValueError: heartbeat is too short, or an origin is none.

        Threads: any. Blocks: never.
        """
        if self.KEY in app.extensions:
            raise RuntimeError("this app has a libbus already: use app.extensions['libbus'].ext")
        if heartbeat < 0.1:
            raise ValueError("heartbeat: seconds, at least 0.1")
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
        """False once gunicorn has told this worker to end: for loops of background()."""
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
        """As libbus.Bus.subscribe(). A callback is a function of on()."""
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
            app: Whose handler it is: it hears the bus of that app alone, and ends with it. None: the one app of
                this bus that the function refers to by its closure; if there is none, the function is called in all apps,
                and lives as long as this object.
            full: As in libbus.Bus.subscribe().
            max_bytes: As in libbus.Bus.subscribe().
            start: As in libbus.Bus.subscribe(); each of these processes begins there.
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

        On a bus with a name the processes that serve the app agree by bus.role() on who calls it; when that one ends, another
        takes over. A function that raises is called again after a second; one that returns has done its work. Without
        a name every process calls it. It runs in an app context.

            @bus.background()
            def clock():
                while bus.running:
                    bus.publish("clock", time.time(), retain=True)
                    time.sleep(1)

        Args:
            role: The name of the role. None: the function's own.
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
        """Decorator: asks may(action, what) whether a page may do something.

        action is "subscribe" with a filter, then "receive" with each topic before the page gets its first event, and "publish"
        with a topic. The first and the last are asked in the request, "receive" on another thread in a copy of it, so that
        session, request and what is derived from them are there. The answer of "receive" stays with the page. An
        exception is logged, and means no. allow= and allow_publish= are the most that it can grant.

        Args:
            fn: may(action, what), which returns whether it is granted.
        """
        if self._authorizer is not None:
            raise RuntimeError("this bus has an authorize function already: decide all in one")
        self._authorizer = fn
        return fn

    def _warn_of_another(self, handler: Handler) -> None:
        code = getattr(handler.fn, "__code__", None)
        if code is not None and any(
            known.asked == handler.asked and getattr(known.fn, "__code__", None) is code
            for known in self._handlers
        ):
            warnings.warn(
                f"on({handler.asked!r}): {handler.fn.__qualname__} is registered again, and each of them is called in all"
                " apps of this bus: in an app factory write on(..., app=app)",
                RuntimeWarning,
                stacklevel=3,
            )

    # --- pages --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the bus of this process; open pages end, and reconnect elsewhere or here."""
        for state in self._states():
            state.close()

    def script(self, nonce: str | None = None) -> Markup:
        """The `<script>` element of the page's client, for a template.

        Args:
            nonce: Of a Content-Security-Policy.
        """
        src = url_for("libbus.static", filename="libbus.js")
        return Markup(
            '<script src="{}" nonce="{}"></script>' if nonce else '<script src="{}"></script>'
        ).format(src, nonce)

    def page(self, *filters: str, nonce: str | None = None) -> str:
        """A complete page that shows each topic and its newest value, for a first try.

        Args:
            filters: What it listens to; allow= has to cover them.
            nonce: Of a Content-Security-Policy.

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
        """The answer of a view: everything that matches, for as long as the page is open.

        Who may hear what is your view's choice, and that of @bus.authorize; allow= speaks only of the ready-made endpoint. With
        too many open pages the answer has status 503. A page that reconnects sends the header Last-Event-ID, and gets what
        it missed.

        Args:
            filters: As in libbus.Bus.subscribe(); up to 256.
            raw: The data of each event is the value alone, text as it is and all else as JSON, as a page of yours with its own
                EventSource expects it. Otherwise it is {"topic": ..., "value": ..., "kept": ...}, as libbus.js does.
            event: With raw, the name of each event. None: the one in the message's header "event", if there is one.
            start: Where in the past a new page begins.
            full: What to do when events come faster than the page takes them: drop_oldest, latest (the newest of each
                topic waits) or disconnect: the page connects again, and resumes.
            max_bytes: Room for events that wait for the page. 0: 64 KiB.
            max_hz: At most so many writes in a second, each with all events since the last one. None: no limit.

        Raises:
            FilterError: A filter is malformed.
            ValueError: There is no filter, or max_hz is not above 0.

        Threads: any, in a request. Blocks: never.
        """
        # First: its errors are the view's mistakes, not the page's.
        page = page_of_view(filters, raw, event, start, full, max_bytes, max_hz)
        response = self._answer(
            lambda query, seen, _: page._replace(last_id=last_id_of(query, seen))
        )
        return self._let_origins_read(self._state(), response)

    def pages(self) -> dict[str, int]:
        """Counters of the live pages of this process: pages (open now), opened, events, bytes, lost, replaced, denied, unsent,
        resumed, reset, waiting_bytes and pages_most."""
        return dict(self._state().pages().stats())

    def _answer(self, find: Callable[[Query, str | None, State], Page]) -> Response:
        """The events of the page that find() makes of the query and the header Last-Event-ID, or why there are none."""
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
            raise Refused(503, "NO_BUS", f"no bus for this page: {_reason(error)}") from None
        # A browser hides the refusal of an EventSource. libbus.js asks for it first, and takes no place.
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
        # Werkzeug's request.host is empty for a name with an underscore, which browsers take.
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
            raise Refused(503, "NO_BUS", f"no bus for this page: {_reason(error)}") from None
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
            # Most views do without the bus; those that use it, and pages, get the exception or the reason themselves.
            state.retry_at = time.monotonic() + RETRY_S
            if request.blueprint != "libbus":
                state.say("NO_BUS", f"no bus, so no handler is called: {_reason(error)}")

    def _states(self) -> list[State]:
        return [state for known in self._apps if (state := known()) is not None]

    def _state(self) -> State:
        if has_app_context():
            state: State | None = current_app.extensions.get(self.KEY)
            if state is not None and state.ext is self:
                return state
            raise RuntimeError("this app does not know this bus: call bus.init_app(app)")
        states = self._states()
        if len(states) == 1:
            return states[0]
        if not states:
            raise RuntimeError("the bus has no app yet: call bus.init_app(app)")
        raise RuntimeError("the bus serves several apps: say which one with app.app_context()")


def _reason(error: BaseException) -> str:
    return str(error) or "out of memory"
