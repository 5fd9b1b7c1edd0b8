"""Bus: the C bus, with the parts that are written in Python."""

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
    """A message that another process on the bus publishes if this one ends without close(), because it was killed or crashed.

    The fields are the arguments of publish().
    """

    topic: str
    value: _core.Value
    retain: bool = False
    headers: dict[Any, Any] | None = None


class Bus(_core.Bus, Closing):
    """Topics and their subscriptions, in this process or on this machine.

    A bus without a name is private to this process until it listens or dials. A named bus is shared by every process of this
    user that opens the name, and lasts until the last of them closes it. Its messages lie in one log in shared memory.

    A bus with callbacks, links or roles lives until close(), or to the end of the interpreter, also without a reference
    to it.

    Args:
        name: 1 to 64 of a-z 0-9 . _ -. None: a private bus.
        max_topics: Topics at a time; idle ones make room for new ones. 0: 1,000,000.
        max_payload: Bytes of a message, at most 256 MiB. 0: 1 MiB.
        directory: Directory of a named bus's log. None: /dev/shm/libbus-UID.
        log_bytes: Size of the log, 4 MiB to 16 GiB, if this is the first process on the bus. 0: 16 MiB, or a quarter of
            the free space if that is less. A message takes at most 1/16 of the log.
        will: A libbus.Will, published if this process dies. A process has one will on a bus: the last one given.
        on_fork: What happens in a child that os.fork() or multiprocessing makes. "reopen": the child opens a bus with the
            same arguments and registers the callbacks again, without start=; subscriptions, publishers, links and roles
            stay with the parent. "close": calls on the bus raise ForkError in the child, and callbacks are not called
            there; the child may open another bus. None: like "close", and an error is logged if the bus has callbacks.

    Raises:
        ArgumentError: The name, or a number, is out of its range.
        TransportError: There is no room for the log, the log is damaged, or its directory belongs to another user.
        LimitError: 1,022 processes are already on the bus.

    Threads: any. Blocks: a private bus never; a named bus up to 5 s, while another process joins or leaves.
    """

    name: str | None
    """The name of the bus; None: it is private."""
    on_fork: OnFork | None
    """The argument on_fork."""

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
        """Opens a topic for many messages; a send() is cheaper than a publish().

        Args:
            topic: As in publish().
            wait: Seconds that send() waits for room when a subscription with full="refuse" is full. Such a subscription
                loses nothing; it slows its publishers down. None: no limit; 0: FullError at once.
            retain: As in publish(), of each message.
            ttl: As in publish(), of each message.
            headers: As in publish(), of each message.

        Raises:
            TopicError: The topic is malformed.
            NotSupportedError: wait is not 0 on a named bus, where no reader blocks a writer.
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
        """Publishes the progress of a job as the retained value of a topic: a dict of state, done, total, elapsed, rate, eta,
        note and error (libbus.ProgressValue).

            for item in bus.progress("job/42", items): ...

            with bus.progress("job/42", 100) as job:
                job.note("reading")
                job.advance(10)

        The state is running, then done, failed or stopped. A with block reports an exception as failed; a loop without a with
        block that ends early is stopped, for any reason.

        Args:
            topic: As in publish().
            work: The total, or an iterable for a for or async for loop.
            total: The total. None: the len() of the iterable, if it has one.
            interval: Least number of seconds between two messages. Changes in between are published when it is over; the end
                is published at once.

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
        """Subscribes to filters. You drain the subscription's mailbox, or callback is called for each message.

        Kept values of the topics are delivered first, with msg.kept True. The subscription is active when the call returns.

        Args:
            filters: Topics, in which + matches one level and # all levels that follow.
            callback: A function of one argument, the message. An async function runs as a task of the running loop.
            full: The policy of a full mailbox: drop_oldest, drop_newest, latest (keep the newest of each topic) or
                refuse (publish raises FullError). A named bus has drop_oldest and latest.
            max_bytes: Room for waiting messages, in bytes; 0: 256 KiB. On a named bus messages wait in the log.
            start: On a named bus, the first message to deliver: libbus.last(count), libbus.since(moment),
                libbus.after(position, epoch) or libbus.oldest(). With start, kept values are not delivered as well.
            type: The type of msg.value: a dataclass, TypedDict, msgspec.Struct, list[int] and so on. msg.value raises
                DecodeError if the payload does not match it.
            workers: The number of threads, 1 to 256, that call the callback at the same time. Messages of one topic are
                handled in order, one after the other. Without it all callbacks of the bus share one thread. For an async
                function it is the number of tasks, 1 by default.
            group: Subscriptions of a private bus with the same group share one mailbox, and one of them gets each
                message: for threads and tasks that share work. Give all of them the same filters, full and max_bytes: a
                message that one of them takes without a matching filter is lost (unsubscribed). stats() counts the group.

        Returns:
            A Subscription, or with callback a Callback, whose close() ends the calls.

        Raises:
            FilterError: A filter is malformed.
            NotSupportedError: This kind of bus does not support this full, group or start.
            StateError: start belongs to an earlier life of the bus, or callback is async and no event loop runs.
            ClosedError: The bus is closed.

        Threads: any; also callbacks and signal handlers. Blocks: never.
        """
        if callback is not None and group is not None:
            raise TypeError(
                "group= is for subscriptions that you drain: use workers= with a callback"
            )
        if callback is not None:
            return self._callbacks.add(
                self, filters, callback, full, max_bytes, start, type, workers
            )
        if workers is not None:
            raise TypeError(
                "workers= needs callback=: without one, let several threads drain the Subscription"
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

        All callbacks of a bus run on one thread, one after the other, except those with workers=. An async function runs as
        a task of the event loop in which it is registered, and ends with the loop. An exception is logged under "libbus", and
        the next message is handled. To be able to end a callback, use subscribe(..., callback=function), which returns a
        Callback.

        Args:
            filters: As in subscribe(), and last the function, unless it is a decorator.
            full: As in subscribe().
            max_bytes: As in subscribe().
            start: As in subscribe().
            type: As in subscribe().
            workers: As in subscribe().

        Returns:
            The function; without one, the decorator. A decorator without a function below it warns (RuntimeWarning).

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
        """Returns the kept message of a topic: the last one published with retain=True, or the newest of keep().

        Args:
            topic: One topic, without wildcards.
            default: Returned if the topic keeps no message.
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
        """Waits for one message of the filter and returns it.

        Args:
            topic_filter: As in subscribe().
            timeout: Seconds to wait. None: no limit; 0: do not wait.
            kept: A kept value counts too: a topic that has one returns at once.
            type: As in subscribe().

        Raises:
            BusTimeoutError: No message arrived in time.
            StateError: The wait would block a callback or a running event loop.
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
        """Sends a request on a topic and waits for the first reply, a Message. In a running event loop await it:
        `reply = await bus.request("a", 1)`.

        Args:
            topic: As in publish().
            value: The question; the serving function gets it as msg.value.
            timeout: Seconds to wait. None: no limit.
            headers: A dict to send with the question.

        Raises:
            NobodyError: The topic has no subscription. A named bus cannot know this, and the request times out.
            BusTimeoutError: No reply arrived in time.
            ReplyError: The serving function raised an exception; the text names it.
            StateError: The wait would block a callback. A callback with workers= may wait.
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
        """Calls the function below for each request and replies with its result: @bus.serve("a"), or bus.serve("a", function).

        An exception in the function is logged, and request() raises it as ReplyError. Messages that are not requests are
        ignored. The function runs as callbacks do: on their thread, one after the other, or on its workers; an async function
        as a task of the running loop.

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
                raise TypeError(f"a callback must be a function, not {function.__class__.__name__}")
            reply = answer_later if is_async(function) else answer
            call = functools.partial(reply, self, function)
            self._callbacks.add(self, names, call, full, max_bytes, start, type, workers)
            return function

        return _decorator("serve", filters, register)

    # --- links: the bus keeps a reference to each -----------------------------------------------------------

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
        """Opens an address that other buses dial.

        Args:
            url: inproc://name, ipc:///absolute/path, tcp://host:port or tls://host:port. Port 0 takes a free port; link.url has it.
                For other machines use tls://, or allow_lan.
            heartbeat: Seconds, at least 0.1. A peer that is silent for three heartbeats is disconnected. None: 5.
            max_peers: Connections at a time. 0: 1,024.
            max_bytes: Room for messages that wait for one peer, in bytes. 0: 1 MiB.
            peer_bytes: Limit of the other memory that one peer may cause this bus to use, in bytes. 0: 32 MiB.
            users: Users file, as `libbus user` writes it. Peers then log in with a user and a password. None: peers need no login.
            acl: ACL file, with the topics that each user may read and write. None: all topics.
            ca: For tls://: PEM file of a CA. Peers then need a certificate that it signed.
            cert: For tls://: PEM file of this machine's certificate. None: server.pem of `libbus cert`.
            key: For tls://: PEM file of the key of that certificate. None: server-key.pem of `libbus cert`.
            psk: For tls://: file of pre-shared keys, in place of certificates.
            allow_lan: Accepts peers of this network on tcp://, which is not encrypted. Needs users.
            allow_insecure_remote: Accepts peers from anywhere on tcp://. For networks that are protected by other means, such as a VPN.
            relays: Makes the bus a hub: it forwards messages of this link to its other links with relays.

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
        """Keeps a connection to an address. It retries until a listener is there, and reconnects after a break.

        Args:
            url: As in listen().
            heartbeat: As in listen().
            max_peers: As in listen().
            max_bytes: As in listen().
            peer_bytes: As in listen().
            user: User to log in as. The other side must prove that it knows the password, too.
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
            StateError: The two buses are already linked, or are the same bus.
            LimitError: There are no more threads or descriptors.
            ClosedError: The bus is closed.

        Threads: any. Blocks: never; link.state and link.stats() show the state.
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
        """Adds the bus first, then checks closed. close() marks the bus closed before it discards it, so one of the two removes it."""
        _with_links.add(self)
        if self.closed:
            _with_links.discard(self)

    def _let_go(self) -> None:
        """Called when a link or a role has ended."""
        if not self._has_links():
            _with_links.discard(self)
            if self._has_links():  # another thread has opened a link or role since
                self._live()

    def _has_links(self) -> bool:
        links = any(not each.closed for each in list(self._links))
        return links or any(not each.closed for each in list(self._roles))

    # --- roles: the bus keeps a reference to each, as to links ----------------------------------------------

    def role(self, name: str, *, timeout: float | None = None) -> Role:
        """Takes a role on a named bus: only one holder at a time has it, and does the role's work.

        Waits while another holder, in this process or another one, has the role. The role is free again after close(), the end
        of a with block, the close of the bus or the death of the process.

        Args:
            name: A name with the rules of a topic.
            timeout: Seconds to wait. None: no limit; 0: do not wait.

        Raises:
            BusTimeoutError: Another holder still has the role.
            StateError: The wait would block a callback or a running event loop.
            NotSupportedError: The bus is private.
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
        """Waits until callbacks have handled all earlier messages, and links that are up have sent them.

        Args:
            timeout: Seconds to wait. None: no limit.

        Raises:
            BusTimeoutError: They did not finish in time.
            StateError: The wait would block a callback or a running event loop.
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

        After close() no callback begins; one that still runs continues on its thread. A callback may close its bus; no other
        callback is called then.

        Args:
            timeout: Seconds for callbacks and links to finish. None: no limit.

        Returns:
            The number of undelivered messages, without those still unread in the log of a named bus. 0 if the bus was closed
            already, and in a forked child.

        Threads: any; also callbacks, signal handlers and finalizers. Blocks: up to timeout.
        """
        if self.closed:
            # In a forked child, or after an interrupted close().
            with_callbacks.discard(self)
            _with_links.discard(self)
            return 0
        if not threading.main_thread().is_alive():  # called from an atexit function
            way().hush()
        deadline = _deadline(timeout)
        self._end_jobs()
        # ClosedError: another thread closes the bus at the same time.
        with contextlib.suppress(_core.ClosedError):
            if not self._callbacks.inside():
                self._callbacks.flush(deadline)
        try:
            undelivered = self._callbacks.stop()
            # Only links still have to finish.
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
        """Closes the bus in a forked child."""
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
        """Lets callbacks finish, also those of this loop, which keeps running."""
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
    """Registers the function, if it is the last argument, and returns it; otherwise returns a decorator."""
    if not filters:
        raise TypeError(f"{method}(): give at least one filter, like @bus.{method}('sensors/#')")
    *names, function = filters
    if not callable(function):
        return _Decorator(method, filters, register)
    if not names:
        raise TypeError(
            f"{method}() has no filter: write @bus.{method}('sensors/#') above the function, with parentheses"
        )
    return register(tuple(names), function)


class _Decorator:
    """Registers the function below it. Without a function it warns, since nothing is called for the filters."""

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
    """Appends an object and drops closed ones. Changes the list in place: a signal handler may append at the same time."""
    held.append(one)
    for other in [other for other in list(held) if other.closed]:
        with contextlib.suppress(ValueError):
            held.remove(other)


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)):
        raise TypeError(
            f"timeout={timeout!r}: give seconds, or None for no limit, not {type(timeout).__name__}"
        )
    return time.monotonic() + timeout


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


_open: weakref.WeakSet[Bus] = weakref.WeakSet()

# Buses with links or roles: these keep a bus alive, as a reference does.
_with_links: set[Bus] = set()


def _after_fork() -> None:
    """Runs in a forked child, which has none of the parent's threads."""
    with_callbacks.clear()
    _with_links.clear()
    silent = []
    for bus in list(_open):
        if bus._callbacks._stopped:  # closed before the fork
            continue
        if bus.on_fork == "reopen":
            try:
                bus._reopen()
            except Exception:  # noqa: BLE001 - logged
                log.exception("%s could not be reopened in this forked process", _named(bus))
        elif bus.on_fork is None and bus._callbacks._functions:
            silent.append(_named(bus))
    if silent:
        log.error(
            "the callbacks of %s are not called in this forked process: open the bus with on_fork='reopen' to"
            " register them again, or with on_fork='close' to silence this message",
            ", ".join(silent),
        )


def _named(bus: Bus) -> str:
    return f"bus {bus.name!r}" if bus.name else "a bus without a name"


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _close_all() -> None:
    """Closes all open buses while Python can still run callbacks; it has one second for all of them.

    Daemon threads and greenlets still run then. Their calls on a bus raise ClosedError, which ends them.
    """
    way().hush()
    deadline = _deadline(1.0)
    for bus in list(_open):
        bus.close(_left(deadline))
