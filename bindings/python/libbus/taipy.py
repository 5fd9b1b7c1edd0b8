"""Taipy: variables of every session follow topics, and topics follow a variable.

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

    # Imported below, so that without Taipy the error names Taipy.
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

    A session gets at most hz updates a second, with the newest values only; each update is one message, for any number of bus
    messages and topics. Updates slow down if they would take more than 30 % of the time, and stop without sessions. A new session
    has the present values when its on_init is called.

    The link ends with close(), with the bus, and with gui.stop(); gui.run() restarts it after gui.stop(). Errors are logged under
    "libbus.taipy" with their topic.

    Args:
        bus: The bus. Use a named one, so that senders in other processes may start and restart in any order.
        gui: The Gui.
        hz: Updates per second and session, above 0 and at most 100.

    Raises:
        ValueError: hz is out of its range.
        RuntimeError: This version of Taipy lacks a method that libbus uses.

    Threads: any. Blocks: never.
    """

    def __init__(self, bus: libbus.Bus, gui: Gui, *, hz: float = 10) -> None:
        self._framework = _Taipy(gui)
        self._sessions = Sessions(bus, self._framework, hz, _log)
        # The ticker of this process and this run of the Gui.
        self._run = 0
        self._ticking: tuple[int, int] | None = None
        self._framework.on_change(weakref.WeakMethod(self._changed))
        # The Gui keeps a reference, so the program need not.
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
        """True after close() of the link or the bus."""
        return self._sessions.closed or self.bus.closed

    def close(self) -> None:
        """Ends updates and subscriptions. Variables keep their values.

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
        """Makes a variable show the newest value of a topic.

        With wildcards the variable is a table with one row for each topic: the columns are topic and value, or topic and the keys
        of a dict value. The table is a pandas DataFrame, or a dict of lists without pandas. An array is a NumPy array.

        Args:
            topic_filter: As in bus.subscribe().
            var: A variable defined in the scope where the Gui was made.
            field: For a dict value: the key to show.
            convert: Called with the value, or with a dict of topic and value if the filter has wildcards. Returns the new value of
                the variable.
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
        """Makes a variable show the last values of a topic, for a chart: a table with the columns time and value, or time and the
        keys of a dict value. With wildcards it also has the column topic.

        The table is a pandas DataFrame, or a dict of lists without pandas. time is the time of publication, in UTC, or of arrival
        if that is unknown.

        Args:
            topic_filter: As in bus.subscribe().
            var: A variable defined in the scope where the Gui was made.
            maxlen: Limit of rows; the oldest are removed.
            field: For a dict value: the key to show.
            start: As in bus.subscribe(). None: on a named bus libbus.last(maxlen), which fills a chart at once.
            max_bytes: As in bus.subscribe().

        Raises:
            ValueError: maxlen is not 1 to 10,000.
            FilterError: The filter is malformed.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never.
        """
        if not 1 <= maxlen <= 10_000:
            raise ValueError(f"maxlen={maxlen!r}: give a number of rows, 1 to 10,000")
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
        """Calls function(state, msg) for each message and each open session, for instance to notify().

        Messages wait for the next update, which makes all calls for a session. A session gets no messages from before its start;
        use bind() for values that it needs later.

        Args:
            topic_filter: As in bus.subscribe().
            function: Called with the session's state and the message. An exception is logged.
            maxlen: Limit of messages that wait for an update; beyond it the oldest are dropped and the loss is logged.
            max_bytes: As in bus.subscribe().

        Raises:
            TypeError: The function is not callable.
            FilterError: The filter is malformed.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never. The function runs in Taipy's server, as other callbacks of Taipy do.
        """
        if not callable(function):
            raise TypeError(
                f"function must be callable with a state and a message, not {function!r}"
            )
        if maxlen < 1:
            raise ValueError(f"maxlen={maxlen!r}: give a number of messages, at least 1")
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
        """Makes a variable show the newest value of a topic that depends on the session.

            link.per_client(lambda state: f"user/{state.user}/inbox" if state.user else None, "inbox")

        choose(state) is called after the session's on_init, about once a second, and right before each value, so no session gets a
        value of a topic that it has left. The variable is empty until a value arrives, and again when choose returns another filter.

        Args:
            choose: Returns the filter of a session, or None for no filter.
            var: A variable defined in the scope where the Gui was made.
            field: As in bind().
            convert: As in bind().
            empty: The variable's value while there is none.

        Raises:
            TypeError: choose is not callable.

        Threads: any. Blocks: never. choose runs in Taipy's server, as other callbacks of Taipy do.
        """
        if not callable(choose):
            raise TypeError(
                f"choose must be callable with a state and return a filter, not {choose!r}"
            )
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

        Values that bind() assigns are not published. If bind() shows the same topic, all other sessions follow. The session that
        made the change keeps its value, so a slider does not jump while it is moved. on_change functions are called as before.

        Args:
            var: A variable defined in the scope where the Gui was made.
            topic: The topic, or a function that is called with the state and returns the topic, or None to publish nothing.
            retain: As in bus.publish(): a late joiner gets the value.
            convert: Called with the value. Returns the value to publish.

        Raises:
            ValueError: The variable already has a topic.

        Threads: any. Blocks: never.
        """
        if _name(var) in self._sessions.outs:
            raise ValueError(f"{var} is already published: a variable has one topic")
        if isinstance(topic, str):
            self.bus.publisher(topic)  # raises TopicError now, not at the first change
        self._sessions.outs[var] = Out(topic, retain, convert)

    def _changed(self, name: str, var: str, value: Any, state: Callable[[], Any]) -> None:
        self._sessions.changed(name, var, value, state)

    # --- the Gui's life ---------------------------------------------------------------------------------------

    def _begin_run(self) -> None:
        """Called by gui.run(). The server starts soon, possibly on another thread; its first session starts the ticker."""
        self._run += 1
        self._ticking = None
        shown, own = self._sessions.shown, self._sessions.per_session
        names = [*(each.var for each in shown), *(each.var for each in own), *self._sessions.outs]
        for var in dict.fromkeys(names):
            if not self._framework.has(var):
                _log.error("%s", _missing(var))

    def _begin_session(self, state: Any) -> None:
        """Runs on the server's thread, or in its hub, before the session's on_init."""
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
            f"var={var!r}: give the name of a variable defined in the scope where the Gui was made"
        )
    return var


def _missing(var: str) -> str:
    return f"there is no variable {var} in the scope where the Gui was made: define it there, like {var} = None"


# --- Taipy ------------------------------------------------------------------------------------------------


class _Taipy:
    """Everything that libbus uses of Taipy and Flask-SocketIO. The tests of ./dev taipy pin their private parts."""

    USED = ("_bind_var", "_bindings", "_call_on_change", "_get_client_id", "_get_real_var_name")

    def __init__(self, gui: Gui) -> None:
        lacks = [name for name in self.USED if not hasattr(gui, name)]
        if lacks:
            raise RuntimeError(
                f"libbus.taipy does not support this version of Taipy, whose Gui lacks {', '.join(lacks)}: "
                "pip install 'libbus[taipy]'"
            )
        self.gui = gui

    def live(self) -> Mapping[str, frozenset[str]]:
        """Asks Socket.IO for the open connections: Taipy remembers sessions and connections for ever."""
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
            with state:  # all that is sent inside becomes one message
                change(state)

        self.gui.invoke_callback(session, grouped)

    def assign(self, state: Any, var: str, value: Any) -> None:
        # setattr(state, ...) searches the stack for its caller's module, which takes milliseconds.
        bindings = self.gui._bindings()
        if not self.has(var):
            raise NameError(_missing(var))
        setattr(bindings, self.gui._bind_var(var), value)

    def has(self, var: str) -> bool:
        return var in self.gui._get_default_locals_bind()

    def on_change(self, find: weakref.WeakMethod[Callable[..., None]]) -> None:
        """Sees all changes: gui.on_change is not called for controls and pages with another on_change."""
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
        """Called in on_user_init(): Taipy calls on_init later in the same request."""

        @after_this_request
        def call(response: Any) -> Any:
            function()
            return response

    def is_running(self) -> bool:
        """Returns whether the thread of run_in_thread=True runs. Any other server ends with its process."""
        thread = getattr(getattr(self.gui, "_server", None), "_thread", None)
        return thread is None or bool(thread.is_alive())

    def start(self, function: Callable[..., None], *arguments: Any) -> None:
        """Runs it in a thread, or in a greenlet of the server's hub: with gevent, messages of other threads wait for the hub's next turn."""
        self._socketio().start_background_task(function, *arguments)

    def sleep(self, seconds: float) -> None:
        self._socketio().sleep(seconds)

    def _socketio(self) -> Any:
        return self.gui.get_flask_app().extensions["socketio"]


class _Library(ElementLibrary):  # type: ignore[misc]
    """Taipy's interface for libraries: it calls on_user_init() for each session, before the program's on_init."""

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
                _log.exception("a session started without its values")


_registered: list[_Library] = []


def _links_of(gui: Gui) -> Sequence[BusGui]:
    return list(gui.__dict__.get(LINKS, ()))


def _register() -> None:
    if not _registered:
        library = _Library()
        _registered.append(library)
        Gui.add_library(library)
