"""Bus: the C bus, with the parts that read better in Python."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, cast, overload

from libbus import _core
from libbus._callbacks import Callback, Callbacks, log, with_callbacks
from libbus._closing import Closing
from libbus._loop import is_async
from libbus._progress import Progress
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
    """What another process on the bus publishes if this one ends without close(): it was killed, or crashed.

    The fields are the arguments of publish().
    """

    topic: str
    value: _core.Value
    retain: bool = False
    headers: dict[Any, Any] | None = None


class Bus(_core.Bus, Closing):
    """Topics and their subscriptions, in this process or on this machine.

    Without a name it is private to this process until it listens or dials. With a name every process of this user that
    opens the name is on the bus, which lives as long as one of them does. What is published lies in one log in shared memory.

    A bus with callbacks, links or roles lives until close(), or to the end of the interpreter, also without a reference
    to it.

    Args:
        name: 1 to 64 of a-z 0-9 . _ -. None: a private bus.
        max_topics: Topics at a time; idle ones make room for new ones. 0: 1,000,000.
        max_payload: Bytes of a message, at most 256 MiB. 0: 1 MiB.
        directory: Where the log of a named bus lies. None: /dev/shm/libbus-UID.
        log_bytes: How large the log is, 4 MiB to 16 GiB, if this is the first process on the bus. 0: 16 MiB, or a
            quarter of what is free if that is less. A message has at most 1/16 of it.
        will: A libbus.Will, for when this process dies. A process has one on a bus: the last it gave.
        on_fork: What becomes of it in a child that os.fork() or multiprocessing makes. "reopen": the child opens a bus
            with the same arguments, and registers the callbacks again, without start=; subscriptions, publishers, links
            and roles are the parent's. "close": calls on it raise ForkError there, and its callbacks are not called; the
            child opens a bus of its own. None: the same, and an error is logged if it has callbacks.

    Raises:
        ArgumentError: The name, or a number, is out of its range.
        TransportError: There is no room for the log, it is damaged, or its directory is another user's.
        LimitError: 1,022 processes are on the bus already.

    Threads: any. Blocks: never; with a name up to 5 s, while another process joins or leaves.
    """

    name: str | None
    """The name that it was opened with."""
    on_fork: OnFork | None
    """As it was opened with."""

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
        self._jobs: weakref.WeakSet[Progress[Any]] = weakref.WeakSet()
        _open.add(self)

    # --- publish many ---------------------------------------------------------------------------------------

    def publisher(
        self,
        topic: str,
        *,
        wait: float | None = 0.0,
        retain: bool = False,
        ttl: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> Publisher:
        """A topic for many messages, each sent for less than by publish().

        Args:
            topic: As in publish().
            wait: How many seconds send() waits for room when a subscription with full="refuse" is full. Such a
                subscription loses nothing, and its publishers go at its pace. None: no limit; 0: FullError at once.
            retain: As in publish(), of each message.
            ttl: As in publish(), of each message.
            headers: As in publish(), of each message.

        Raises:
            TopicError: The topic is malformed.
            NotSupportedError: wait is not 0 on a bus with a name, where no reader holds up others.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never.
        """
        return Publisher(self, topic, wait, retain, ttl, headers)

    # --- how far a job is ---------------------------------------------------------------------------------------

    @overload
    def progress(
        self, topic: str, total: float | None = ..., /, *, interval: float = ...
    ) -> Progress[Any]: ...

    @overload
    def progress(
        self,
        topic: str,
        items: Iterable[T] | AsyncIterable[T],
        /,
        *,
        total: float | None = ...,
        interval: float = ...,
    ) -> Progress[T]: ...

    @overload
    def progress(
        self, topic: str, /, *, total: float | None, interval: float = ...
    ) -> Progress[Any]: ...

    def progress(
        self,
        topic: str,
        work: Any = None,
        /,
        *,
        total: float | None = None,
        interval: float = 0.1,
    ) -> Progress[Any]:
        """Says how far a job is, as the retained value of a topic: a dict of state, done, total, elapsed, rate, eta, note and
        error (libbus.ProgressValue).

            for item in bus.progress("job/42", items): ...

            with bus.progress("job/42", 100) as job:
                job.note("reading")
                job.advance(10)

        The state is running, and in the end done, failed or stopped: a with block knows of an exception, a loop without
        one only that it was left early.

        Args:
            topic: As in publish().
            work: How much there is to do, or what to iterate over, with for or async for.
            total: How much there is to do. None: the len() of what is iterated over, if it has one.
            interval: Seconds from one message to the next at least. What changes in between is published when they are
                over, and the end at once.

        Raises:
            TypeError: The total is given twice, or work is neither a number nor iterable.
            TopicError: The topic is malformed.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never.
        """
        return Progress(self, topic, work, total, interval)

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

        Kept values of the topics come first, with msg.kept True. The subscription is in force when the call returns.

        Args:
            filters: Topics, in which + stands for one level and # for all levels that follow.
            callback: A function of one argument, the message. An async function runs as a task of the running loop.
            full: What to do when messages come faster than they are taken: drop_oldest, drop_newest,
                latest (the newest of each topic waits) or refuse (publish raises FullError). On a named bus drop_oldest
                or latest.
            max_bytes: Room for messages that wait, in bytes; 0: 256 KiB. On a named bus they wait in its log.
            start: On a named bus, where in its past to begin: libbus.last(count), libbus.since(moment),
                libbus.after(position, epoch) or libbus.oldest(). Kept values are not delivered besides.
            type: msg.value is of this type, a dataclass, TypedDict, msgspec.Struct, list[int] and so on. It raises
                DecodeError where the payload is of another one.
            workers: The number of threads, 1 to 256, that call the callback at the same time. Messages of one topic stay
                in order, and are handled one after the other. Without it all callbacks of the bus share one thread. Of an
                async function it is the number of tasks, 1 by default.
            group: Subscriptions of a private bus with this name share one mailbox, and a message goes to one of
                them, whichever takes it first: for threads and tasks that share work. Give all of them the same filters,
                full and max_bytes; what one takes and has no filter for is lost as unsubscribed. stats() are those of
                the group.

        Returns:
            A Subscription; with callback a Callback, whose close() ends the calls.

        Raises:
            FilterError: A filter is malformed.
            NotSupportedError: This kind of bus has no such full, group or start.
            StateError: start is of an earlier life of the bus, or callback is async and no loop runs.
            ClosedError: The bus is closed.

        Threads: any; also callbacks and signal handlers. Blocks: never.
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
        "libbus", and the next message is handled. To end one, make it by subscribe(..., callback=function), which returns a
        Callback.

        Args:
            filters: As in subscribe(), and last the function, unless it is a decorator.
            full: As in subscribe().
            max_bytes: As in subscribe().
            start: As in subscribe().
            type: As in subscribe().
            workers: As in subscribe().

        Returns:
            The function; without one, the decorator. A decorator that no function is given to warns (RuntimeWarning).

        Raises:
            TypeError: There is no filter, as in a bare `@bus.on`.
            FilterError: A filter is malformed.
            StateError: The function is async and no loop runs.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never.
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

        Args:
            topic: One topic, without wildcards.
            default: What is returned where the topic keeps none.
            type: As in subscribe().

        Raises:
            TopicError: The topic is malformed.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never.
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

        Args:
            topic_filter: As in subscribe().
            timeout: Seconds. None: no limit; 0: does not wait.
            kept: A kept value counts too, so a topic that has one answers at once.
            type: As in subscribe().

        Raises:
            BusTimeoutError: None came in time.
            StateError: It would wait in a callback or in a running event loop.
            FilterError: The filter is malformed.
            ClosedError: The bus was closed.

        Threads: any. Blocks: up to timeout, without the GIL; Ctrl-C ends it.
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

        Args:
            topic: As in publish().
            value: The question; msg.value where it is served.
            timeout: Seconds. None: no limit.
            headers: A dict that travels with the question.

        Raises:
            NobodyError: The topic has no subscription. On a named bus it is not known, and the time runs out.
            BusTimeoutError: No reply came in time.
            ReplyError: The function that serves the topic raised; the text says what.
            StateError: It would wait in a callback; with workers= a callback may.
            TypeError: The value cannot be published.
            ClosedError: The bus is closed.

        Threads: any. Blocks: up to timeout, without the GIL; in a running event loop never.
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

        An exception in it is logged, and raised as ReplyError where the question came from. Messages that ask nothing
        go by. It runs as callbacks do: on their thread, one after the other, or on its workers; an async function as a task
        of the running loop.

        Args:
            filters: As in subscribe(), and last the function, unless it is a decorator.
            full: As in subscribe().
            max_bytes: As in subscribe().
            start: As in subscribe().
            type: As in subscribe(), of msg.value.
            workers: As in subscribe().

        Threads: any. Blocks: never.
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
        users: str | os.PathLike[str] | None = None,
        acl: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        psk: str | os.PathLike[str] | None = None,
        allow_lan: bool = False,
        allow_insecure_remote: bool = False,
        relays: bool = False,
    ) -> _core.Link:
        """Opens an address for other buses, which dial it.

        Args:
            url: inproc://name, ipc:///absolute/path, tcp://host:port or tls://host:port. Port 0 takes a free port; link.url has it.
                For other machines use tls://, or allow_lan.
            heartbeat: Seconds, at least 0.1; a peer that is silent for three of them is gone. None: 5.
            max_peers: Connections at a time. 0: 1,024.
            max_bytes: Room for messages that wait for each peer, in bytes. 0: 1 MiB.
            peer_bytes: Bytes that one peer may make this bus hold beside that. 0: 32 MiB.
            users: Users file, as `libbus user` writes it. Peers then log in with a user and a password. None: peers need no login.
            acl: ACL file, with the topics that each user may read and write. None: all topics.
            ca: For tls://: PEM file of a CA. Peers then need a certificate that it signed.
            cert: For tls://: PEM file of this machine's certificate. None: server.pem of `libbus cert`.
            key: For tls://: PEM file of the key of that certificate. None: server-key.pem of `libbus cert`.
            psk: For tls://: file of pre-shared keys, in place of certificates.
            allow_lan: Accepts peers of this network on tcp://, which is not encrypted. Needs users.
            allow_insecure_remote: Accepts peers from anywhere on tcp://. For networks that are protected by other means, such as a VPN.
            relays: Makes the bus a hub: messages of this link go on to its other links with relays.

        Raises:
            AddressError: The address is malformed, of an unknown scheme or beyond this machine.
            TransportError: The address is in use, or the system refuses it.
            LimitError: There are no more threads or descriptors.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never for a peer.
        """
        link = super().listen(
            url,
            heartbeat=heartbeat,
            max_peers=max_peers,
            max_bytes=max_bytes,
            peer_bytes=peer_bytes,
            users=users,
            acl=acl,
            ca=ca,
            cert=cert,
            key=key,
            psk=psk,
            allow_lan=allow_lan,
            allow_insecure_remote=allow_insecure_remote,
            relays=relays,
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
        user: str | None = None,
        password: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        psk: str | os.PathLike[str] | None = None,
        allow_lan: bool = False,
        allow_insecure_remote: bool = False,
        relays: bool = False,
    ) -> _core.Link:
        """Keeps a connection to an address, also to one where nobody listens yet: it connects, and connects again, by itself.

        Args:
            url: As in listen().
            heartbeat: As in listen().
            max_peers: As in listen().
            max_bytes: As in listen().
            peer_bytes: As in listen().
            user: User to log in as. The other side has to prove that it knows the password, too.
            password: The user's password. It is never sent.
            ca: For tls://: PEM file of the CA that signed the other side's certificate. None: ca.pem of `libbus cert`.
            cert: For tls://: PEM file of a client certificate, if the other side demands one.
            key: For tls://: PEM file of the key of that certificate.
            psk: For tls://: file of pre-shared keys, in place of certificates.
            allow_lan: Allows tcp:// addresses of this network, which is not encrypted.
            allow_insecure_remote: Allows any tcp:// address. For networks that are protected by other means, such as a VPN.
            relays: As in listen().

        Raises:
            AddressError: The address is malformed, of an unknown scheme or beyond this machine.
            StateError: These two buses are linked already, or are one.
            LimitError: There are no more threads or descriptors.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never; link.state and link.stats() say how it goes.
        """
        link = super().dial(
            url,
            heartbeat=heartbeat,
            max_peers=max_peers,
            max_bytes=max_bytes,
            peer_bytes=peer_bytes,
            user=user,
            password=password,
            ca=ca,
            cert=cert,
            key=key,
            psk=psk,
            allow_lan=allow_lan,
            allow_insecure_remote=allow_insecure_remote,
            relays=relays,
        )
        return self._keep(link)

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

        Waits while another part of this process, or another process, has it. It is free again with close(), the end of
        a with block, the close of the bus or the death of the process.

        Args:
            name: As a topic.
            timeout: Seconds. None: no limit; 0: does not wait.

        Raises:
            BusTimeoutError: Another still has it.
            StateError: It would wait in a callback or in a running event loop.
            NotSupportedError: The bus has no name.
            ClosedError: The bus is closed.

        Threads: any. Blocks: up to timeout, without the GIL.
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
        """Waits until what was published before is handled by callbacks, and handed to the wire of links that are up.

        Args:
            timeout: Seconds. None: no limit.

        Raises:
            BusTimeoutError: It was not, in time.
            StateError: It would wait in a callback or in a running event loop.
            ClosedError: The bus is closed.

        Threads: any. Blocks: up to timeout, without the GIL; Ctrl-C ends it.
        """
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
        """Lets callbacks and links finish, then ends the bus.

        From then on no callback begins; one that still runs is left to itself. A callback may close its bus, and is
        its last one then.

        Args:
            timeout: Seconds that they have. None: no limit.

        Returns:
            How many messages stayed undelivered, without what lies unread in the log of a named bus. 0 the second time,
            and in a forked child, which has nothing to end.

        Threads: any; also callbacks, signal handlers and finalizers. Blocks: up to timeout.
        """
        if self.closed:
            # In a forked child, or after a close() that was interrupted.
            with_callbacks.discard(self)
            _with_links.discard(self)
            return 0
        if not threading.main_thread().is_alive():  # called by a function of atexit
            way().hush()
        deadline = _deadline(timeout)
        self._end_jobs()
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

    def _end_jobs(self) -> None:
        for job in list(self._jobs):
            job._end("stopped")

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
        return _Decorator(method, filters, register)
    if not names:
        raise TypeError(
            f"{method}() has no filter: write @bus.{method}('sensors/#') above the function, with parentheses"
        )
    return register(tuple(names), function)


class _Decorator:
    """Registers the function that is below it. Without one nothing is called for the filters, which a warning says."""

    def __init__(
        self,
        method: str,
        filters: tuple[str, ...],
        register: Callable[[tuple[str, ...], Any], Any],
    ) -> None:
        self._method, self._filters, self._register = method, filters, register
        self._used = False

    def __call__(self, function: F) -> F:
        self._used = True
        return cast("F", self._register(self._filters, function))

    def __del__(self) -> None:
        if not self._used:
            call = f"{self._method}({', '.join(map(repr, self._filters))})"
            text = (
                f"bus.{call} was given no function, so nothing is called: write @bus.{call} above"
                " the function, or give the function as the last argument"
            )
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=self)


def _hold(held: list[Kept], one: Kept) -> None:
    """Appends, and lets go of what is closed. In place: a signal handler may hold another one meanwhile."""
    held.append(one)
    for other in [other for other in list(held) if other.closed]:
        with contextlib.suppress(ValueError):
            held.remove(other)


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)):
        raise TypeError(
            f"timeout={timeout!r}: seconds, or None for no limit, not {type(timeout).__name__}"
        )
    return time.monotonic() + timeout


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
