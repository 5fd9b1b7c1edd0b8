"""Bus values in the sessions of a web UI: at most one grouped update per session and tick. Independent of the UI framework.

Callbacks of the bus only store: the value first, then its number. A tick reads the number first, then the value, so it may send a
value twice but never misses one. Neither takes a lock: each step is one operation of a dict or a deque, and a finalizer or a signal
handler may run between any two.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import itertools
import logging
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from libbus import _core

if TYPE_CHECKING:
    from libbus._bus import Bus
    from libbus._callbacks import Callback
    from libbus._start import Start

    Convert = Callable[[Any], Any]

# The share of the ticker's time that sending updates may take.
SHARE = 0.3
# Seconds between two questions to a session for its topics, besides the question before each value.
ASK_S = 1.0
# Seconds between two log records of the same text.
REPEAT_S = 10.0
MAX_LINES = 1000
# The longest sleep of an idle ticker, so that it ends soon after its server.
MAX_PAUSE_S = 1.0

# The header that names the link and the session that published a message.
ORIGIN = "libbus.session"


class Framework(Protocol):
    """The interface to a UI framework."""

    def live(self) -> Mapping[str, frozenset[str]]:
        """Returns the sessions with an open page, and the connections of each."""

    def update(self, session: str, change: Callable[[Any], None]) -> None:
        """Calls change(state) for a session, and sends its changes as one message."""

    def assign(self, state: Any, var: str, value: Any) -> None:
        """Sets a variable of a session."""


class Log:
    """Logs a text once, and again if it recurs after a while."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._due: dict[str, float] = {}

    def exception(self, text: str, *arguments: Any) -> None:
        """Call it in an except block."""
        error = sys.exc_info()[1]
        if self._is_due(f"{text % arguments}: {error!r}"):
            self._log.error(text, *arguments, exc_info=error)

    def warning(self, text: str, *arguments: Any) -> None:
        if self._is_due(text % arguments):
            self._log.warning(text, *arguments)

    def _is_due(self, line: str) -> bool:
        now = time.monotonic()
        if now < self._due.get(line, 0.0):
            return False
        if len(self._due) >= MAX_LINES:
            self._due.clear()
        self._due[line] = now + REPEAT_S
        return True


class Shown:
    """The source of a variable. A subclass stores messages and makes the variable's value of them."""

    def __init__(self, filters: tuple[str, ...], var: str, log: Log) -> None:
        self.filters, self.var, self.log = filters, var, log
        self.number = 0  # of the newest message
        self.origin: str | None = None  # of the newest message
        self._numbers = itertools.count(1)
        self._made: tuple[int, Any] = (0, None)

    def store(self, msg: _core.Message) -> None:
        """The bus calls it for each message."""
        raise NotImplementedError

    def make(self) -> Any:
        raise NotImplementedError

    def stored(self, msg: _core.Message) -> None:
        """Ends store()."""
        with contextlib.suppress(_core.DecodeError):
            origin = msg.headers.get(ORIGIN)
            self.origin = origin if isinstance(origin, str) else None
        self.number = next(self._numbers)

    def value(self, number: int) -> Any:
        """Returns the value, made once for all sessions."""
        made = self._made
        if made[0] != number:
            made = self._made = number, self.make()
        return made[1]

    def topics(self) -> str:
        return " ".join(self.filters)


class Newest(Shown):
    """The newest value of a topic; for a filter with wildcards a table of the newest value of each topic."""

    def __init__(
        self,
        filters: tuple[str, ...],
        var: str,
        log: Log,
        field: str | None,
        convert: Convert | None,
    ) -> None:
        super().__init__(filters, var, log)
        self.field, self.convert = field, convert
        self.single = len(filters) == 1 and not is_wild(filters[0])
        self.newest: dict[str, _core.Message] = {}

    def store(self, msg: _core.Message) -> None:
        self.newest[msg.topic] = msg
        self.stored(msg)

    def make(self) -> Any:
        values: dict[str, Any] = {}
        for topic, msg in sorted(self.newest.copy().items()):
            try:
                values[topic] = _field(plain(msg), self.field)
            except Exception:
                self.log.exception("%s: a value for %s was left out", topic, self.var)
        if self.single:
            if not values:
                raise Unreadable
            value = values[self.filters[0]]
            return value if self.convert is None else self.convert(value)
        if self.convert is not None:
            return self.convert(values)
        return table({"topic": topic, **_columns(value)} for topic, value in values.items())


class Rows(Shown):
    """The last values, as a table with the newest at the end."""

    def __init__(
        self, filters: tuple[str, ...], var: str, log: Log, field: str | None, maxlen: int
    ) -> None:
        super().__init__(filters, var, log)
        self.field = field
        self.several = len(filters) > 1 or is_wild(filters[0])
        self.rows: deque[dict[str, Any]] = deque(maxlen=maxlen)

    def store(self, msg: _core.Message) -> None:
        try:
            value = _field(plain(msg), self.field)
        except Exception:
            self.log.exception("%s: a value for %s was left out", msg.topic, self.var)
            return
        moment = time.time() if msg.time is None else msg.time
        row: dict[str, Any] = {"time": datetime.fromtimestamp(moment, timezone.utc)}
        if self.several:
            row["topic"] = msg.topic
        row.update(_columns(value))
        self.rows.append(row)
        self.stored(msg)

    def make(self) -> Any:
        return table(self.rows.copy())


class Unreadable(Exception):
    """There is no value; the reason has been logged."""


class Events:
    """Messages for a function, since the last tick."""

    def __init__(
        self,
        filters: tuple[str, ...],
        function: Callable[[Any, _core.Message], Any],
        maxlen: int,
        log: Log,
    ) -> None:
        self.filters, self.function, self.log = filters, function, log
        self.waiting: deque[_core.Message] = deque(maxlen=maxlen)

    def store(self, msg: _core.Message) -> None:
        if len(self.waiting) == self.waiting.maxlen:
            self.log.warning(
                "%s: more than %d messages arrived between two updates, and the oldest were dropped: raise maxlen=",
                msg.topic,
                self.waiting.maxlen,
            )
        self.waiting.append(msg)

    def take(self) -> list[_core.Message]:
        return [self.waiting.popleft() for _ in range(len(self.waiting))]


class PerSession:
    """A variable whose topics depend on the session."""

    def __init__(
        self,
        choose: Callable[[Any], str | None],
        var: str,
        make: Callable[[str], Shown],
        empty: Any,
    ) -> None:
        self.choose, self.var, self.make, self.empty = choose, var, make, empty


class Own:
    """The state of a PerSession in one session."""

    def __init__(self) -> None:
        self.shown: Shown | None = None
        self.callback: Callback | None = None
        self.sent = 0
        self.ask_at = 0.0
        self.filled = True  # may hold a value from before the session went away

    def is_due(self, now: float) -> bool:
        return now >= self.ask_at or (self.shown is not None and self.shown.number != self.sent)

    def close(self) -> None:
        self.shown = None
        if (callback := self.callback) is not None:
            self.callback = None
            callback.close()


class Session:
    """The state of a session."""

    def __init__(self) -> None:
        # The framework's own identifier stays secret: another process or session could take a page over with it.
        self.origin = secrets.token_hex(8)
        self.connections: frozenset[str] = frozenset()
        self.sent: dict[Shown, int] = {}
        self.own: dict[PerSession, Own] = {}
        self.closed = False

    def close(self) -> None:
        self.closed = True  # first: give() subscribes first, then checks
        for own in list(self.own.values()):
            own.close()


# Set while this module assigns: changes that a session reports then came from the bus.
_assigning: contextvars.ContextVar[bool] = contextvars.ContextVar("libbus_assigning", default=False)


class Sessions:
    """The sessions of one UI, and the variables that follow one bus."""

    def __init__(self, bus: Bus, framework: Framework, hz: float, log: logging.Logger) -> None:
        if not 0 < hz <= 100:
            raise ValueError(
                f"hz={hz!r}: give updates per second and session, above 0 and at most 100"
            )
        self.bus, self.framework, self.period = bus, framework, 1 / hz
        self.log = Log(log)
        self.shown: list[Shown] = []
        self.events: list[Events] = []
        self.per_session: list[PerSession] = []
        self.outs: dict[str, Out] = {}
        self.known: dict[str, Session] = {}
        # Initialised sessions, also those that are away: a UI framework keeps them.
        self.begun: set[str] = set()
        self.callbacks: list[Callback] = []
        self.closed = False

    # --- subscribing ------------------------------------------------------------------------------------

    def show(self, shown: Shown, start: Start | None, max_bytes: int) -> None:
        full: _core.Policy = "latest" if isinstance(shown, Newest) else "drop_oldest"
        self.callbacks.append(self.subscribe(shown.filters, shown.store, full, start, max_bytes))
        self.shown.append(shown)

    def hear(self, events: Events, max_bytes: int) -> None:
        self.callbacks.append(
            self.subscribe(events.filters, events.store, "drop_oldest", None, max_bytes)
        )
        self.events.append(events)

    def subscribe(
        self,
        filters: tuple[str, ...],
        store: Callable[[_core.Message], None],
        full: _core.Policy,
        start: Start | None,
        max_bytes: int,
    ) -> Callback:
        """Subscribes on a new thread: on a thread with a gevent hub the callbacks would run in that hub, which may never run."""
        made: list[Callback] = []
        failed: list[BaseException] = []

        def subscribe() -> None:
            try:
                made.append(
                    self.bus.subscribe(
                        *filters, callback=store, full=full, start=start, max_bytes=max_bytes
                    )
                )
            except BaseException as error:  # noqa: BLE001 - raised below
                failed.append(error)

        thread = threading.Thread(target=subscribe, name="libbus-subscribe", daemon=True)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    # --- ticks ----------------------------------------------------------------------------------------------

    def run(self, is_on: Callable[[], bool], sleep: Callable[[float], Any]) -> None:
        """Ticks until the bus is closed or is_on() is False. A tick begins one period after the last one, or later if sending would
        exceed its share of the time."""
        while not self.closed and not self.bus.closed and is_on():
            began = time.monotonic()
            try:
                self.tick()
            except Exception:
                self.log.exception("an update of the sessions failed")
            took = time.monotonic() - began
            due = began + max(self.period, took / SHARE)
            while (left := due - time.monotonic()) > 0:
                sleep(min(left, MAX_PAUSE_S))
                if self.closed or self.bus.closed or not is_on():
                    return

    def tick(self) -> None:
        """Sends each live session its new values."""
        live = self.framework.live()
        for name in [each for each in list(self.known) if each not in live]:
            if (gone := self.known.pop(name, None)) is not None:
                gone.close()
        events = [(each, each.take()) for each in list(self.events)]
        for name, connections in live.items():
            if self.closed:
                return
            if name not in self.begun:
                continue
            session = self.known.get(name)
            fresh = session is None
            if session is None:
                session = self.known.setdefault(name, Session())
            if session.connections and connections - session.connections:
                session.sent.clear()  # a new connection does not show what the last one got
                for own in list(session.own.values()):
                    own.sent = 0
            session.connections = connections
            self.update(name, session, [] if fresh else events)

    def update(
        self, name: str, session: Session, events: list[tuple[Events, list[_core.Message]]]
    ) -> None:
        now = time.monotonic()
        news = self.news(session)
        asked = [
            (each, own)
            for each in list(self.per_session)
            if (own := session.own.setdefault(each, Own())).is_due(now)
        ]
        heard = [(each, messages) for each, messages in events if messages]
        if not (news or asked or heard):
            return

        def change(state: Any) -> None:
            with _from_the_bus():
                for shown, number in news:
                    self.assign(state, shown, number)
                    session.sent[shown] = number
                for each, own in asked:
                    self.give(state, each, session, own, now)
            for event, messages in heard:
                for msg in messages:
                    try:
                        event.function(state, msg)
                    except Exception:
                        self.log.exception("%s: %r failed", msg.topic, event.function)

        self.framework.update(name, change)

    def news(self, session: Session) -> list[tuple[Shown, int]]:
        found = []
        for shown in list(self.shown):
            number = shown.number
            if number == session.sent.get(shown, 0):
                continue
            if self.is_echo(shown, session):
                session.sent[shown] = number
                continue
            found.append((shown, number))
        return found

    def is_echo(self, shown: Shown, session: Session) -> bool:
        """Returns whether this is the session's own change coming back: it already has that value, or a later one."""
        return (
            isinstance(shown, Newest)
            and shown.single
            and shown.var in self.outs
            and shown.origin == session.origin
            and shown in session.sent
        )

    def assign(self, state: Any, shown: Shown, number: int) -> None:
        try:
            value = shown.value(number)
        except Unreadable:
            return
        except Exception:
            self.log.exception("%s: no value for %s", shown.topics(), shown.var)
            return
        self.set(state, shown.topics(), shown.var, value)

    def set(self, state: Any, topics: str, var: str, value: Any) -> None:
        try:
            self.framework.assign(state, var, value)
        except Exception:
            self.log.exception("%s: cannot set %s", topics, var)

    def give(self, state: Any, each: PerSession, session: Session, own: Own, now: float) -> None:
        """Asks the session for its topics in the update that sends a value, so a session gets no value of topics it has left."""
        try:
            wanted = each.choose(state)
        except Exception:
            self.log.exception(
                "%r failed, so this session gets no values of its topics", each.choose
            )
            wanted = None
        own.ask_at = now + ASK_S
        topics = own.shown.topics() if own.shown is not None else None
        if wanted != topics or own.filled:
            own.close()
            own.sent = 0
            if topics is not None or own.filled:
                own.filled = False
                self.set(state, topics or "per_client()", each.var, each.empty)
            if wanted is None:
                return
            try:
                shown = each.make(wanted)
                own.callback = self.subscribe(
                    shown.filters,
                    shown.store,
                    "latest" if isinstance(shown, Newest) else "drop_oldest",
                    None,
                    0,
                )
                own.shown = shown
            except Exception:
                self.log.exception("%s: cannot subscribe for a session", wanted)
            if session.closed or self.closed:
                own.close()
            return
        if (mine := own.shown) is not None and (number := mine.number) != own.sent:
            self.assign(state, mine, number)
            own.sent = number

    def begin(self, name: str, state: Any) -> None:
        """Gives a session the present values before the program initialises it. Updates follow once it is in begun."""
        session = Session()
        session.connections = self.framework.live().get(name, frozenset())
        with _from_the_bus():
            for shown in list(self.shown):
                if number := shown.number:
                    self.assign(state, shown, number)
                    session.sent[shown] = number
        if (had := self.known.get(name)) is not None:
            had.close()
        self.known[name] = session

    # --- from a session to the bus --------------------------------------------------------------------------

    def changed(self, name: str, var: str, value: Any, state: Callable[[], Any]) -> None:
        """Publishes a change of a variable in a session, unless it came from the bus."""
        out = self.outs.get(var)
        if out is None or self.closed or _assigning.get():
            return
        session = self.known.get(name)
        if session is None:
            session = self.known.setdefault(name, Session())
        for shown in list(self.shown):
            if shown.var == var:
                session.sent.setdefault(shown, 0)  # its page already has the value: see is_echo()
        topic: Any = out.topic
        try:
            if callable(topic):
                topic = topic(state())
            if topic is None:
                return
            if out.convert is not None:
                value = out.convert(value)
            self.bus.publish(topic, value, retain=out.retain, headers={ORIGIN: session.origin})
        except Exception:
            self.log.exception("%s: a change of %s was not published", topic, var)

    def close(self) -> None:
        self.closed = True
        for callback in list(self.callbacks):
            callback.close()
        for session in list(self.known.values()):
            session.close()


class Out:
    """A variable whose changes in a session are published."""

    def __init__(
        self,
        topic: str | Callable[[Any], str | None],
        retain: bool,
        convert: Convert | None,
    ) -> None:
        self.topic, self.retain, self.convert = topic, retain, convert


@contextlib.contextmanager
def _from_the_bus() -> Any:
    token = _assigning.set(True)
    try:
        yield
    finally:
        _assigning.reset(token)


# --- values -----------------------------------------------------------------------------------------------


def is_wild(topic_filter: str) -> bool:
    return any(level in ("+", "#") for level in topic_filter.split("/"))


@functools.cache
def package(name: str) -> Any:
    """Imports an optional package; None: it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def plain(msg: _core.Message) -> Any:
    """Copies arrays out of the value, so that it does not keep the payload: to NumPy arrays, or to lists without NumPy."""
    return _arrays(msg.value)


def _arrays(value: Any) -> Any:
    if isinstance(value, memoryview):
        numpy = package("numpy")
        return value.tolist() if numpy is None else numpy.array(value)
    if isinstance(value, dict):
        return {key: _arrays(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_arrays(each) for each in value]
    return value


def _field(value: Any, field: str | None) -> Any:
    return value if field is None else value[field]


def _columns(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {str(name): each for name, each in value.items()}
    return {"value": value}


def table(rows: Iterable[dict[str, Any]]) -> Any:
    """Makes a DataFrame of rows, or a dict of lists without pandas. A missing column of a row is None."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    pandas = package("pandas")
    return columns if pandas is None else pandas.DataFrame(columns)
