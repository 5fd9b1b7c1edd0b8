"""Bus: the C bus, with the parts that read better in Python."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, overload

from libbus import _core
from libbus._callbacks import Callback, Callbacks, log, with_callbacks
from libbus._closing import Closing
from libbus._loop import is_async
from libbus._publisher import Publisher
from libbus._reader import reader
from libbus._request import Reply, answer, answer_later
from libbus._role import Role
from libbus._start import Start
from libbus._subscription import Subscription
from libbus._threads import SLICE_S
from libbus._ways import way

if TYPE_CHECKING:
    from types import TracebackType

    Function = Callable[[_core.Message], Any]
    F = TypeVar("F", bound=Function)
    T = TypeVar("T")
    D = TypeVar("D")
    Kept = TypeVar("Kept", _core.Link, _core.Role)


OnFork: TypeAlias = Literal["reopen", "close"]


class Will(NamedTuple):
    """What another process publishes if this one ends without close(): it was killed, or crashed.

    The arguments are those of publish().
    """

    topic: str
    value: _core.Value
    retain: bool = False
    headers: dict[Any, Any] | None = None


class Bus(_core.Bus, Closing):
    """Topics and whoever listens to them, in this process or on this host.

    Without a name it is private to this process until it listens or dials. With one (1 to 64 of
    a-z 0-9 . _ -) every process of this user that opens the name is on it, as long as one of them is;
    what is published lies in one log in shared memory.

    directory, log_bytes: where that log lies (/dev/shm/libbus-UID), and how large it is if this is the first
        process on it (16 MiB).
    will: a libbus.Will, for when this process dies. A process has one on a bus: the last it gave.

    on_fork: what becomes of it in a child that os.fork() or multiprocessing makes. "reopen": the child opens a bus with the
        same arguments, and registers the callbacks again, without start=; subscriptions, publishers, links and roles
        are the parent's. "close": calls on it raise ForkError there, and its callbacks are not called; the child opens a
        bus of its own. None: the same, and an error is logged if it has callbacks.

    A bus with callbacks, links or roles lives until close(), or to the end of the interpreter, also without a reference
    to it.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        max_topics: int = 0,
        max_payload: int = 0,
        directory: str | os.PathLike[str] | None = None,
        log_bytes: int = 0,
        will: Will | None = None,
        on_fork: OnFork | None = None,
    ) -> None:
        if on_fork not in (None, "reopen", "close"):
            raise ValueError(f"on_fork={on_fork!r}: choose one of reopen, close")
        self.name = name
        self.on_fork = on_fork
        self._arguments: Any = {
            "max_topics": max_topics,
            "max_payload": max_payload,
            "directory": directory,
            "log_bytes": log_bytes,
            "will": will,
        }
        self._callbacks = Callbacks()
        self._links: list[_core.Link] = []
        self._roles: list[_core.Role] = []
        _open.add(self)

    # --- publish many ---------------------------------------------------------------------------------------

    def publisher(self, topic: str, *, wait: float | None = 0.0) -> Publisher:
        """A topic for many messages, each sent for less than by publish().

        wait: how many seconds send() waits for room when a subscription with full="refuse" is full. Such a
            subscription loses nothing, and its publishers go at its pace. None: no limit; 0: FullError at once.
            Only on a private bus: on one with a name no reader holds up others.
        """
        return Publisher(self, topic, wait)

    # --- listen to topics -------------------------------------------------------------------------------

    @overload
    def subscribe(
        self,
        *filters: str,
        group: str | None = ...,
        full: _core.Policy = ...,
        max_bytes: int = ...,
        start: Start | None = ...,
    ) -> Subscription[Any]: ...

    @overload
    def subscribe(
        self,
        *filters: str,
        type: type[T],
        group: str | None = ...,
        full: _core.Policy = ...,
        max_bytes: int = ...,
        start: Start | None = ...,
    ) -> Subscription[T]: ...

    @overload
    def subscribe(
        self,
        *filters: str,
        callback: Function,
        workers: int | None = ...,
        full: _core.Policy = ...,
        max_bytes: int = ...,
        start: Start | None = ...,
    ) -> Callback: ...

    @overload
    def subscribe(
        self,
        *filters: str,
        callback: Callable[[_core.Message[T]], Any],
        type: type[T],
        workers: int | None = ...,
        full: _core.Policy = ...,
        max_bytes: int = ...,
        start: Start | None = ...,
    ) -> Callback: ...

    def subscribe(
        self,
        *filters: str,
        callback: Function | None = None,
        workers: int | None = None,
        group: str | None = None,
        full: _core.Policy = "drop_oldest",
        max_bytes: int = 0,
        start: Start | None = None,
        type: Any = None,  # noqa: A002 - msgspec has the same word for it
    ) -> Subscription[Any] | Callback:
        """Messages of the filters, in a mailbox of their own that you drain; or calls of callback.

        full: what to do when messages come faster than they are taken: drop_oldest, drop_newest,
            latest (the newest of each topic waits) or refuse (publish raises libbus.FullError).
        max_bytes: room for messages that wait; 0 is 256 KiB. On a named bus they wait in its log.
        start: on a named bus, where in its past to begin: libbus.last(count), libbus.since(moment),
            libbus.after(position, epoch) or libbus.oldest(). Kept values are not delivered besides.
        type: msg.value is of this type, a dataclass, TypedDict, msgspec.Struct, list[int] and so on. It raises
            DecodeError where the payload is of another one.
        workers: the number of threads, 1 to 256, that call the callback at the same time. Messages of one topic stay in
            order, and are handled one after the other. Without it all callbacks of the bus share one thread. Of an async
            function it is the number of tasks, 1 by default.
        group: subscriptions of a private bus with this name share one mailbox, and a message goes to one of
            them, whichever takes it first: for threads and tasks that share work. Give all of them the same filters, full
            and max_bytes; what one takes and has no filter for is lost as unsubscribed. stats() are those of the group.
        """
        if callback is not None and group is not None:
            raise TypeError("group= is for subscriptions that you drain: a callback takes workers=")
        if callback is not None:
            return self._callbacks.add(
                self, filters, callback, full, max_bytes, start, type, workers
            )
        if workers is not None:
            raise TypeError(
                "workers= goes with callback=: threads of your own may share a Subscription"
            )
        return Subscription(self, filters, full, max_bytes, start, type, group)

    @overload
    def on(
        self,
        topic_filter: str,
        function: F,
        /,
        *,
        full: _core.Policy = ...,
        max_bytes: int = ...,
        start: Start | None = ...,
        type: Any = ...,
        workers: int | None = ...,
    ) -> F: ...

    @overload
    def on(
        self,
        *filters: str,
        full: _core.Policy = ...,
        max_bytes: int = ...,
        start: Start | None = ...,
        type: Any = ...,
        workers: int | None = ...,
    ) -> Callable[[F], F]: ...

    def on(
        self,
        *filters: Any,
        full: _core.Policy = "drop_oldest",
        max_bytes: int = 0,
        start: Start | None = None,
        type: Any = None,  # noqa: A002
        workers: int | None = None,
    ) -> Any:
        """Calls the function below for each message: @bus.on("a/#"), or bus.on("a/#", function).

        All callbacks of a bus run on one thread, one after the other, except those with workers=. An async function runs
        as a task of the event loop in which it is registered, and ends with it. What a callback raises is logged under
        "libbus", and the next message is handled. To end one: subscribe(..., callback=function).
        The other arguments are those of subscribe().
        """

        def register(names: tuple[str, ...], function: F) -> F:
            self._callbacks.add(self, names, function, full, max_bytes, start, type, workers)
            return function

        return _decorator("on", filters, register)

    @overload
    def get(self, topic: str, /) -> _core.Message | None: ...

    @overload
    def get(self, topic: str, /, default: D) -> _core.Message | D: ...

    @overload
    def get(
        self,
        topic: str,
        /,
        *,
        type: type[T],
    ) -> _core.Message[T] | None: ...

    @overload
    def get(
        self,
        topic: str,
        /,
        default: D,
        *,
        type: type[T],
    ) -> _core.Message[T] | D: ...

    def get(
        self,
        topic: str,
        /,
        default: Any = None,
        *,
        type: Any = None,  # noqa: A002
    ) -> Any:
        """The message that the topic keeps: the last one that was published with retain=True, or the newest of keep().

        default: it keeps none. Never waits. type is that of subscribe().
        """
        if type is None:
            return super().get(topic, default)
        read = reader(type)
        msg = super().get(topic)
        return default if msg is None else msg._as(read)

    @overload
    def wait(
        self, topic_filter: str, /, timeout: float | None = ..., *, kept: bool = ...
    ) -> _core.Message: ...

    @overload
    def wait(
        self,
        topic_filter: str,
        /,
        timeout: float | None = ...,
        *,
        kept: bool = ...,
        type: type[T],
    ) -> _core.Message[T]: ...

    def wait(
        self,
        topic_filter: str,
        /,
        timeout: float | None = None,
        *,
        kept: bool = True,
        type: Any = None,  # noqa: A002
    ) -> _core.Message[Any]:
        """Waits for one message of the filter, and returns it.

        kept: a kept value counts too, so a topic that has one answers at once. type is that of subscribe().
        BusTimeoutError: none came within timeout seconds; ClosedError: the bus was closed. StateError in a callback
        and in a running event loop, which must not wait: give it timeout=0.
        """
        if timeout != 0 and self._callbacks.here():
            raise _core.error(STATE, topic_filter)
        if timeout != 0:
            way().refuse("wait()", "`await anext(bus.subscribe(...))`")
        deadline = _deadline(timeout)
        mailbox: _core.Mailbox[Any] = _core.Mailbox(self, reader=reader(type))
        try:
            mailbox.subscribe(topic_filter)
            while (msg := mailbox.recv(_left(deadline))).kept and not kept:
                pass
            return msg
        except _core.BusTimeoutError as error:
            named = _core.BusTimeoutError(f"{topic_filter}: {error}")
            named.code, named.name = error.code, error.name
            named.topic, named.address = topic_filter, None
            raise named from None
        finally:
            mailbox.close()

    # --- questions ----------------------------------------------------------------------------------------

    def request(
        self,
        topic: str,
        value: _core.Value,
        *,
        timeout: float | None = 5.0,
        headers: dict[Any, Any] | None = None,
    ) -> Reply:
        """Asks on a topic, and waits for the first reply, a Message. In a running event loop await it: `reply = await
        bus.request("a", 1)`.

        NobodyError: the topic has no subscriber; BusTimeoutError: no reply within timeout seconds; ReplyError: the
        answering side raised. StateError in a callback, which must not wait.
        """
        if self._callbacks.here():
            raise _core.error(STATE, topic)
        return way().request(self, topic, value, timeout, headers)

    @overload
    def serve(
        self,
        topic_filter: str,
        function: F,
        /,
        *,
        full: _core.Policy = ...,
        max_bytes: int = ...,
        start: Start | None = ...,
        type: Any = ...,
        workers: int | None = ...,
    ) -> F: ...

    @overload
    def serve(
        self,
        *filters: str,
        full: _core.Policy = ...,
        max_bytes: int = ...,
        start: Start | None = ...,
        type: Any = ...,
        workers: int | None = ...,
    ) -> Callable[[F], F]: ...

    def serve(
        self,
        *filters: Any,
        full: _core.Policy = "drop_oldest",
        max_bytes: int = 0,
        start: Start | None = None,
        type: Any = None,  # noqa: A002
        workers: int | None = None,
    ) -> Any:
        """Calls the function below for each question, and replies with what it returns: @bus.serve("a"), or
        bus.serve("a", function).

        What it raises is logged, and raised as ReplyError where the question came from. It runs as
        callbacks do: on their thread, one after the other, or on its workers. The other arguments are those of subscribe().
        """

        def register(names: tuple[str, ...], function: F) -> F:
            if not callable(function):
                # `type` is an argument here.
                raise TypeError(f"a callback is a function, not {function.__class__.__name__}")
            reply = answer_later if is_async(function) else answer
            call = functools.partial(reply, self, function)
            self._callbacks.add(self, names, call, full, max_bytes, start, type, workers)
            return function

        return _decorator("serve", filters, register)

    # --- links: the bus keeps them, whether or not the caller does ----------------------------------------

    def listen(
        self,
        url: str,
        *,
        heartbeat: float | None = None,
        max_peers: int = 0,
        max_bytes: int = 0,
        peer_bytes: int = 0,
    ) -> _core.Link:
        link = super().listen(
            url,
            heartbeat=heartbeat,
            max_peers=max_peers,
            max_bytes=max_bytes,
            peer_bytes=peer_bytes,
        )
        return self._keep(link)

    def dial(
        self,
        url: str,
        *,
        heartbeat: float | None = None,
        max_peers: int = 0,
        max_bytes: int = 0,
        peer_bytes: int = 0,
    ) -> _core.Link:
        link = super().dial(
            url,
            heartbeat=heartbeat,
            max_peers=max_peers,
            max_bytes=max_bytes,
            peer_bytes=peer_bytes,
        )
        return self._keep(link)

    listen.__doc__ = _core.Bus.listen.__doc__
    dial.__doc__ = _core.Bus.dial.__doc__

    def _keep(self, link: _core.Link) -> _core.Link:
        find = weakref.ref(self)

        def let_go() -> None:
            if (bus := find()) is not None:
                bus._let_go()

        link._then(let_go)
        _hold(self._links, link)
        self._live()
        return link

    def _live(self) -> None:
        """Adds first and looks then: close() marks the bus closed before it discards it, so one of both sees the other."""
        _with_links.add(self)
        if self.closed:
            _with_links.discard(self)

    def _let_go(self) -> None:
        """A link or a role has ended."""
        if not self._has_links():
            _with_links.discard(self)
            if self._has_links():  # another thread has opened one since
                self._live()

    def _has_links(self) -> bool:
        links = any(not each.closed for each in list(self._links))
        return links or any(not each.closed for each in list(self._roles))

    # --- roles: kept as links are ---------------------------------------------------------------------------

    def role(self, name: str, *, timeout: float | None = None) -> Role:
        """Takes a role, on a named bus: what one process of several is to do.

        Waits while another part of this process, or another process, has it. BusTimeoutError: still so after
        timeout seconds. It is free again with close(), the end of a with block, the close of the bus or the
        death of the process.
        StateError in a callback and in a running event loop, which must not wait: give it timeout=0.
        """
        if timeout != 0 and self._callbacks.here():
            raise _core.error(STATE, name)
        if timeout != 0:
            way().refuse("role()", "`await asyncio.to_thread(bus.role, name)`, or timeout=0")
        role = way().patiently(lambda seconds: _core.Role(self, name, timeout=seconds), timeout)
        _hold(self._roles, role)
        self._live()
        return Role(self, name, role)

    # --- the end ------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> None:
        """Waits until what was published before is handled by callbacks and handed to the wire of links
        that are up. BusTimeoutError: it was not. StateError in a callback and in a running event loop."""
        if self._callbacks.inside():
            raise _core.error(STATE)
        if timeout != 0:
            way().refuse("flush()", "`await asyncio.to_thread(bus.flush)`")
        deadline = _deadline(timeout)
        flush = super().flush
        if self._links:
            way().patiently(lambda seconds: way().aside(flush, seconds), timeout, SLICE_S)
        else:
            flush(timeout)
        if not self._callbacks.flush(deadline):
            raise _core.error(TIMEDOUT)

    def close(self, timeout: float | None = 1.0) -> int:
        """Lets callbacks and links finish for so many seconds, then ends. Returns how many messages stayed
        undelivered; 0 the second time, and in a forked child, which has nothing to end.

        From then on no callback begins; one that still runs is left to itself. What lies unread in the
        log of a named bus is not counted. A callback may close its bus, and is its last one then.
        """
        if self.closed:
            # In a forked child, or after a close() that was interrupted.
            with_callbacks.discard(self)
            _with_links.discard(self)
            return 0
        deadline = _deadline(timeout)
        # ClosedError: another thread closes it as well.
        with contextlib.suppress(_core.ClosedError):
            if not self._callbacks.inside():
                self._callbacks.flush(deadline)
        try:
            undelivered = self._callbacks.stop()
            # Only links are waited for.
            end = super().close
            undelivered += (
                way().aside(end, _left(deadline)) if self._links else end(_left(deadline))
            )
        finally:
            with_callbacks.discard(self)
            _with_links.discard(self)
        for link in list(self._links):
            link.close()
        for role in list(self._roles):
            role.close()
        self._callbacks.join(1.0 if deadline is None else _left(deadline) or 0.0)
        return undelivered

    def _reopen(self) -> None:
        """In a forked child."""
        self._adopt(_core.Bus(self.name, **self._arguments))
        before, self._callbacks = self._callbacks, Callbacks()
        self._links, self._roles = [], []
        self._callbacks.reopen(self, before)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Lets callbacks finish, also those of this loop, which runs meanwhile."""
        import asyncio

        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        name = f"{self.name} " if self.name else ""
        return f"<libbus.Bus {name}{'closed' if self.closed else 'open'}>"


STATE = next(code for code, name, *_ in _core.ERRORS if name == "BUS_E_STATE")
TIMEDOUT = next(code for code, name, *_ in _core.ERRORS if name == "BUS_E_TIMEDOUT")


def _decorator(
    method: str, filters: tuple[Any, ...], register: Callable[[tuple[str, ...], Any], Any]
) -> Any:
    """What on() and serve() return: the function, if it is the last argument, or the decorator of one."""
    if not filters:
        raise TypeError(f"{method}(): name at least one filter, like @bus.{method}('sensors/#')")
    *names, function = filters
    if not callable(function):
        return functools.partial(register, filters)
    if not names:
        raise TypeError(
            f"{method}() has no filter: write @bus.{method}('sensors/#') above the function, with parentheses"
        )
    return register(tuple(names), function)


def _hold(held: list[Kept], one: Kept) -> None:
    """Appends, and lets go of what is closed. In place: a signal handler may hold another one meanwhile."""
    held.append(one)
    for other in [other for other in list(held) if other.closed]:
        with contextlib.suppress(ValueError):
            held.remove(other)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


_open: weakref.WeakSet[Bus] = weakref.WeakSet()

# Buses that have links or roles: these are a reason to live, as a reference is.
_with_links: set[Bus] = set()


def _after_fork() -> None:
    """In a forked child, which has none of the threads."""
    with_callbacks.clear()
    _with_links.clear()
    silent = []
    for bus in list(_open):
        if bus._callbacks._stopped:  # it was closed before
            continue
        if bus.on_fork == "reopen":
            try:
                bus._reopen()
            except Exception:  # noqa: BLE001 - logged
                log.exception("%s could not be opened again in this forked process", _named(bus))
        elif bus.on_fork is None and bus._callbacks._functions:
            silent.append(_named(bus))
    if silent:
        log.error(
            "the callbacks of %s are not called in this forked process: open the bus with on_fork='reopen', which"
            " registers them again, or with on_fork='close', which is silent",
            ", ".join(silent),
        )


def _named(bus: Bus) -> str:
    return f"bus {bus.name!r}" if bus.name else "a bus without a name"


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _close_all() -> None:
    """Ends what is still open while Python can still run callbacks; one second for all of them.

    Daemon threads and greenlets go on meanwhile, and what they do with a bus raises ClosedError: that is how they end.
    """
    way().hush()
    deadline = _deadline(1.0)
    for bus in list(_open):
        bus.close(_left(deadline))
