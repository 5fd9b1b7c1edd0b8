"""Taipy: variables of every session that follow topics, and topics that follow a variable.

from taipy.gui import Gui
from libbus.taipy import BusGui

temperature = None
gui = Gui("<|{temperature}|text|>")
link = BusGui(libbus.Bus("home"), gui)
link.bind("kitchen/temperature", "temperature")
gui.run()
"""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import libbus
from libbus._closing import Closing
from libbus._sessions import Events, Newest, Out, PerSession, Rows, Sessions, Shown

try:
    from taipy.gui import Gui  # type: ignore[import-not-found]
    from taipy.gui.extension import ElementLibrary  # type: ignore[import-not-found]

    # Below: without Taipy the error names Taipy.
    from flask import after_this_request  # isort: skip
except ModuleNotFoundError as _error:
    if _error.name is None or _error.name.partition(".")[0] != "taipy":
        raise
    raise ModuleNotFoundError(
        "libbus.taipy needs Taipy, which is not installed: pip install 'libbus[taipy]'",
        name=_error.name,
    ) from None

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libbus._start import Start

__all__ = ["BusGui"]

_log = logging.getLogger("libbus.taipy")

# Taipy's one scope for all pages of Gui.run(single_client=True).
SINGLE = "global"
# The attribute of a Gui that holds its BusGui objects.
LINKS = "_libbus_links"


class BusGui(Closing):
    """Links a bus and a Taipy Gui. Make it and call its methods before gui.run().

    Between two updates only the newest values count: a session gets at most hz updates a second, each of them one message, however
    many messages and topics there are. Updates go slower where they would take more than 30 % of the time, and no session means no
    update. A session that begins later has the present values when its on_init is called.

    It ends with close(), with the bus, and with gui.stop(); gui.run() begins it again after gui.stop(). Errors are logged under
    "libbus.taipy" with their topic.

    Args:
        bus: The bus. With a name, so that senders in other processes may start and restart in any order.
        gui: The Gui.
        hz: Updates per second and session, above 0 and at most 100.

    Raises:
        ValueError: hz is out of its range.
        RuntimeError: This version of Taipy lacks what libbus uses of it.

    Threads: any. Blocks: never.
    """

    def __init__(self, bus: libbus.Bus, gui: Gui, *, hz: float = 10) -> None:
        self._framework = _Taipy(gui)
        self._sessions = Sessions(bus, self._framework, hz, _log)
        # The ticker of a process and of a run of the Gui; each has its own.
        self._run = 0
        self._ticking: tuple[int, int] | None = None
        self._framework.on_change(weakref.WeakMethod(self._changed))
        # The Gui keeps it: a program need not.
        gui.__dict__.setdefault(LINKS, []).append(self)
        _register()

    @property
    def bus(self) -> libbus.Bus:
        """The bus."""
        return self._sessions.bus

    @property
    def gui(self) -> Gui:
        """The Gui."""
        return self._framework.gui

    @property
    def closed(self) -> bool:
        """True after close() of it or of the bus."""
        return self._sessions.closed or self.bus.closed

    def close(self) -> None:
        """Ends updates and subscriptions. Variables stay as they are.

        Threads: any; also callbacks and finalizers. Blocks: never.
        """
        self._sessions.close()

    def _about(self) -> str:
        return f"of bus {self.bus.name!r}" if self.bus.name else "of a private bus"

    # --- from the bus to every session ----------------------------------------------------------------------

    def bind(
        self,
        topic_filter: str,
        var: str,
        *,
        field: str | None = None,
        convert: Callable[[Any], Any] | None = None,
        start: Start | None = None,
        max_bytes: int = 0,
    ) -> None:
        """A variable shows the newest value of a topic.

        With wildcards it is a table, one row for each topic: columns topic and value, or the keys of a dict that is the value. The
        table is a pandas DataFrame, or a dict of lists where pandas is not installed. An array is a NumPy array.

        Args:
            topic_filter: As in bus.subscribe().
            var: A variable that is defined where the Gui was made.
            field: The value is a dict, and this key of it is shown.
            convert: Is called with the value, or with a dict of topic and value where the filter has wildcards, and returns what
                the variable becomes.
            start: As in bus.subscribe().
            max_bytes: As in bus.subscribe().

        Raises:
            FilterError: The filter is malformed.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never.
        """
        shown = Newest((topic_filter,), _name(var), self._sessions.log, field, convert)
        self._sessions.show(shown, start, max_bytes)

    def series(
        self,
        topic_filter: str,
        var: str,
        *,
        maxlen: int = 600,
        field: str | None = None,
        start: Start | None = None,
        max_bytes: int = 0,
    ) -> None:
        """A variable shows the last values of a topic, for a chart: a table with columns time and value, or time and the keys of a
        dict that is the value. With wildcards it has the column topic besides.

        The table is a pandas DataFrame, or a dict of lists where pandas is not installed. time is when the message was published,
        in UTC, or when it arrived where that is not known.

        Args:
            topic_filter: As in bus.subscribe().
            var: A variable that is defined where the Gui was made.
            maxlen: Rows; the oldest make room.
            field: The value is a dict, and this key of it is shown.
            start: As in bus.subscribe(). None: on a named bus libbus.last(maxlen), so that a chart is full at once.
            max_bytes: As in bus.subscribe().

        Raises:
            ValueError: maxlen is not 1 to 10,000.
            FilterError: The filter is malformed.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never.
        """
        if not 1 <= maxlen <= 10_000:
            raise ValueError(f"maxlen={maxlen!r}: rows, 1 to 10,000")
        if start is None and self.bus.name is not None:
            start = libbus.last(maxlen)
        shown = Rows((topic_filter,), _name(var), self._sessions.log, field, maxlen)
        self._sessions.show(shown, start, max_bytes)

    def on_message(
        self,
        topic_filter: str,
        function: Callable[[Any, libbus.Message], Any],
        *,
        maxlen: int = 100,
        max_bytes: int = 0,
    ) -> None:
        """Calls function(state, msg) for each message and each session that is open, for instance to notify().

        Messages wait for the next update, and all calls for a session lie in it. A session does not get messages from before it
        began; what it must know later, bind() shows.

        Args:
            topic_filter: As in bus.subscribe().
            function: Is called with the session's state and the message. What it raises is logged.
            maxlen: How many messages wait for an update; beyond that the oldest are dropped, which is logged.
            max_bytes: As in bus.subscribe().

        Raises:
            TypeError: The function is not callable.
            FilterError: The filter is malformed.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never. The function runs in Taipy's server, as other callbacks of Taipy do.
        """
        if not callable(function):
            raise TypeError(f"function is called with a state and a message, not {function!r}")
        if maxlen < 1:
            raise ValueError(f"maxlen={maxlen!r}: messages, at least 1")
        events = Events((topic_filter,), function, maxlen, self._sessions.log)
        self._sessions.hear(events, max_bytes)

    def per_client(
        self,
        choose: Callable[[Any], str | None],
        var: str,
        *,
        field: str | None = None,
        convert: Callable[[Any], Any] | None = None,
        empty: Any = None,
    ) -> None:
        """A variable shows the newest value of a topic that depends on the session.

            link.per_client(lambda state: f"user/{state.user}/inbox" if state.user else None, "inbox")

        choose(state) is called after the session's on_init, about once a second, and right before each value: no session gets a
        value of a topic that it has left. The variable is empty until there is a value, and again when choose returns another filter.

        Args:
            choose: Returns the filter of a session, or None: the session has none.
            var: A variable that is defined where the Gui was made.
            field: As in bind().
            convert: As in bind().
            empty: What the variable is without a value.

        Raises:
            TypeError: choose is not callable.

        Threads: any. Blocks: never. choose runs in Taipy's server, as other callbacks of Taipy do.
        """
        if not callable(choose):
            raise TypeError(f"choose is called with a state and returns a filter, not {choose!r}")
        name, lines = _name(var), self._sessions.log

        def make(topic_filter: str) -> Shown:
            return Newest((topic_filter,), name, lines, field, convert)

        self._sessions.per_session.append(PerSession(choose, name, make, empty))

    # --- from a session to the bus --------------------------------------------------------------------------

    def publish_on_change(
        self,
        var: str,
        topic: str | Callable[[Any], str | None],
        *,
        retain: bool = True,
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        """Publishes a variable when a session changes it: a slider, an input, or a callback that assigns it.

        What bind() assigns is not published. Where bind() shows the same topic, all other sessions follow, and the session that
        made the change keeps what it has, so a slider does not jump while it is moved. on_change functions are called as before.

        Args:
            var: A variable that is defined where the Gui was made.
            topic: The topic, or a function that is called with the state and returns it; None: nothing is published.
            retain: As in bus.publish(), so that a receiver that starts later gets the value.
            convert: Is called with the value, and returns what is published.

        Raises:
            ValueError: The variable has a topic already.

        Threads: any. Blocks: never.
        """
        if _name(var) in self._sessions.outs:
            raise ValueError(f"{var} is published already: a variable has one topic")
        if isinstance(topic, str):
            self.bus.publisher(topic)  # raises TopicError now, not at the first change
        self._sessions.outs[var] = Out(topic, retain, convert)

    def _changed(self, name: str, var: str, value: Any, state: Callable[[], Any]) -> None:
        self._sessions.changed(name, var, value, state)

    # --- the Gui's life ---------------------------------------------------------------------------------------

    def _begin_run(self) -> None:
        """gui.run() has been called. The server runs soon, perhaps on another thread: its first session starts the ticker."""
        self._run += 1
        self._ticking = None
        shown, own = self._sessions.shown, self._sessions.per_session
        names = [*(each.var for each in shown), *(each.var for each in own), *self._sessions.outs]
        for var in dict.fromkeys(names):
            if not self._framework.has(var):
                _log.error("%s", _missing(var))

    def _begin_session(self, state: Any) -> None:
        """On the server's thread, or in its hub, before the session's on_init."""
        if self.closed:
            return
        name = self._framework.name_of_current()
        self._sessions.begin(name, state)
        self._framework.after_on_init(lambda: self._sessions.begun.add(name))
        here = os.getpid(), self._run
        if self._ticking != here:
            self._ticking = here
            self._framework.start(_tick, weakref.ref(self), here)


def _tick(find: weakref.ref[BusGui], here: tuple[int, int]) -> None:
    link = find()
    if link is None:
        return
    sessions, framework = link._sessions, link._framework
    del link

    def is_on() -> bool:
        link = find()
        return (
            link is not None
            and link._ticking == here
            and os.getpid() == here[0]
            and framework.is_running()
        )

    sessions.run(is_on, framework.sleep)


def _name(var: str) -> str:
    if not isinstance(var, str) or not var.isidentifier():
        raise ValueError(
            f"var={var!r}: the name of a variable that is defined where the Gui was made"
        )
    return var


def _missing(var: str) -> str:
    return f"there is no variable {var} where the Gui was made: define it there, as in {var} = None"


# --- Taipy ------------------------------------------------------------------------------------------------


class _Taipy:
    """All that is used of Taipy and Flask-SocketIO. What is private there is pinned by the tests of ./dev taipy."""

    USED = ("_bind_var", "_bindings", "_call_on_change", "_get_client_id", "_get_real_var_name")

    def __init__(self, gui: Gui) -> None:
        lacks = [name for name in self.USED if not hasattr(gui, name)]
        if lacks:
            raise RuntimeError(
                f"libbus.taipy does not know this version of Taipy, whose Gui lacks {', '.join(lacks)}: "
                "pip install 'libbus[taipy]'"
            )
        self.gui = gui

    def live(self) -> Mapping[str, frozenset[str]]:
        """Taipy remembers sessions and connections for ever; Socket.IO knows which connections there are."""
        remembered: dict[str, set[str]] = getattr(self.gui, "_Gui__client_id_2_sid", {})
        try:
            manager = self._socketio().server.manager
        except (KeyError, RuntimeError):  # before gui.run()
            return {}
        found: dict[str, frozenset[str]] = {}
        for name, sids in remembered.copy().items():
            connected = frozenset(sid for sid in sids.copy() if manager.is_connected(sid, "/"))
            if connected:
                found[name] = connected
        if found and self.gui._bindings()._is_single_client():
            return {SINGLE: frozenset().union(*found.values())}
        return found

    def update(self, session: str, change: Callable[[Any], None]) -> None:
        def grouped(state: Any) -> None:
            with state:  # what is sent inside is one message
                change(state)

        self.gui.invoke_callback(session, grouped)

    def assign(self, state: Any, var: str, value: Any) -> None:
        # setattr(state, ...) looks for its caller's module on the stack, at the cost of milliseconds.
        bindings = self.gui._bindings()
        if not self.has(var):
            raise NameError(_missing(var))
        setattr(bindings, self.gui._bind_var(var), value)

    def has(self, var: str) -> bool:
        return var in self.gui._get_default_locals_bind()

    def on_change(self, find: weakref.WeakMethod[Callable[..., None]]) -> None:
        """Sees all changes: gui.on_change is not called for controls and pages that have an on_change of their own."""
        gui = weakref.ref(self.gui)
        original = self.gui._call_on_change

        def call_on_change(var_name: str, value: Any, on_change: str | None = None) -> Any:
            changed, this = find(), gui()
            if changed is not None and this is not None:
                with contextlib.suppress(NameError):
                    name, context = this._get_real_var_name(var_name)
                    if context in (None, this._get_default_module_name()):
                        changed(this._get_client_id(), name, value, lambda: this._Gui__get_state())
            return original(var_name, value, on_change)

        self.gui._call_on_change = call_on_change

    def name_of_current(self) -> str:
        return str(self.gui._get_client_id())

    def after_on_init(self, function: Callable[[], None]) -> None:
        """In on_user_init(): Taipy calls on_init later in the same request."""

        @after_this_request
        def call(response: Any) -> Any:
            function()
            return response

    def is_running(self) -> bool:
        """Whether the thread of run_in_thread=True is there. Any other server ends with its process."""
        thread = getattr(getattr(self.gui, "_server", None), "_thread", None)
        return thread is None or bool(thread.is_alive())

    def start(self, function: Callable[..., None], *arguments: Any) -> None:
        """In a thread, or in a greenlet of the server's hub: with gevent, what another thread sends waits for the hub's next turn."""
        self._socketio().start_background_task(function, *arguments)

    def sleep(self, seconds: float) -> None:
        self._socketio().sleep(seconds)

    def _socketio(self) -> Any:
        return self.gui.get_flask_app().extensions["socketio"]


class _Library(ElementLibrary):  # type: ignore[misc]
    """The door that Taipy opens to libraries: on_user_init() is called for each session, before the program's on_init."""

    def get_name(self) -> str:
        return "libbus"

    def get_elements(self) -> dict[str, Any]:
        return {}

    def on_init(self, gui: Gui) -> None:
        for link in _links_of(gui):
            link._begin_run()

    def on_user_init(self, state: Any) -> None:
        for link in _links_of(state.get_gui()):
            try:
                link._begin_session(state)
            except Exception:  # noqa: BLE001
                _log.exception("a session began without its values")


_registered: list[_Library] = []


def _links_of(gui: Gui) -> Sequence[BusGui]:
    return list(gui.__dict__.get(LINKS, ()))


def _register() -> None:
    if not _registered:
        library = _Library()
        _registered.append(library)
        Gui.add_library(library)
