"""Client managers for Flask-SocketIO and python-socketio: an emit in any process reaches the clients of every process.

    from flask import Flask
    from flask_socketio import SocketIO
    from libbus.socketio import Manager

    app = Flask(__name__)
    socketio = SocketIO(app, client_manager=Manager("home"))

Each worker opens the bus at its first client or emit, so `gunicorn --preload` works. A program without clients emits with

    Manager("home", write_only=True).emit("tick", {"n": 1})

The processes use the topic socketio/CHANNEL. Its messages are packed values and are never unpickled.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import re
import threading
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import libbus
from libbus import _core

__all__ = ["AsyncManager", "Manager"]

# Earlier managers take no json module, or have bytes in their messages.
OLDEST = (5, 16, 1)

RETRY_S = 2.0  # between attempts to open a bus that cannot be opened
DROPPED = "an emit of this process failed, so it reopens the bus"
TELL_S = 1.0  # between log records of losses
NAME = re.compile(r"[a-z0-9._-]{1,64}")
TURN = 64  # messages of a burst before other greenlets get a turn

CLOSED, NOT_SUPPORTED = (
    next(code for code, name, *_ in _core.ERRORS if name == wanted)
    for wanted in ("BUS_E_CLOSED", "BUS_E_NOTSUP")
)


if TYPE_CHECKING:

    class PubSubBase:
        """The interface of python-socketio, which has no type hints."""

        server: Any
        logger: Any
        json: Any
        channel: str
        write_only: bool
        host_id: str

        def __init__(self, channel: str, write_only: bool, logger: Any, json: Any) -> None: ...
        def set_server(self, server: Any) -> None: ...
        def initialize(self) -> None: ...
        def _generate_ack_id(self, sid: str, callback: Callable[..., Any]) -> int: ...
        def _get_logger(self) -> Any: ...

    class PubSubManager(PubSubBase):
        def emit(
            self,
            event: str,
            data: Any,
            namespace: str | None = None,
            room: Any = None,
            skip_sid: Any = None,
            callback: Callable[..., Any] | None = None,
            to: Any = None,
            **kwargs: Any,
        ) -> None: ...
        def disconnect(self, sid: str, namespace: str | None = None, **kwargs: Any) -> None: ...
        def enter_room(
            self, sid: str, namespace: str, room: Any, eio_sid: str | None = None
        ) -> None: ...
        def leave_room(self, sid: str, namespace: str, room: Any) -> None: ...
        def close_room(self, room: Any, namespace: str | None = None) -> None: ...
        def pre_connect(self, eio_sid: str, namespace: str) -> str: ...
        def connect(self, sid: str, namespace: str) -> Any: ...
        def _thread(self) -> None: ...

    class AsyncPubSubManager(PubSubBase):
        async def emit(
            self,
            event: str,
            data: Any,
            namespace: str | None = None,
            room: Any = None,
            skip_sid: Any = None,
            callback: Callable[..., Any] | None = None,
            to: Any = None,
            **kwargs: Any,
        ) -> None: ...
        async def disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None: ...
        async def enter_room(
            self, sid: str, namespace: str, room: Any, eio_sid: str | None = None
        ) -> None: ...
        async def leave_room(self, sid: str, namespace: str, room: Any) -> None: ...
        async def close_room(self, room: Any, namespace: str | None = None) -> None: ...
        async def _thread(self) -> None: ...

else:
    try:
        import socketio  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "socketio":
            raise
        raise ModuleNotFoundError(
            "libbus.socketio needs python-socketio: pip install 'libbus[socketio]'", name="socketio"
        ) from None
    _found = importlib.metadata.version("python-socketio")
    if tuple(int(part) for part in re.findall(r"\d+", _found)[:3]) < OLDEST:
        raise ImportError(
            f"libbus.socketio needs python-socketio {'.'.join(map(str, OLDEST))}, and {_found} is installed:"
            " pip install -U 'libbus[socketio]'"
        )
    from socketio.async_pubsub_manager import AsyncPubSubManager
    from socketio.pubsub_manager import PubSubManager

    PubSubBase = object


class _Ended(BaseException):
    """The bus is closed. Ends the listener without python-socketio's handlers, which would log a failure."""


class _OnBus(PubSubBase):
    """The base of both managers: the bus of this process, and its messages."""

    name: str = "libbus"

    def __init__(
        self,
        name: str,
        channel: str = "socketio",
        write_only: bool = False,
        logger: Any = None,
        json: Any = None,
        *,
        directory: str | os.PathLike[str] | None = None,
        log_bytes: int = 0,
        max_payload: int = 0,
    ) -> None:
        super().__init__(channel=channel, write_only=write_only, logger=logger, json=json)
        self.bus_name = name
        self._topic = f"socketio/{channel}"
        self._check(name)
        self._options: Any = {
            "directory": directory,
            "log_bytes": log_bytes,
            "max_payload": max_payload,
            "on_fork": "close",  # a child makes its own
        }
        self._closed = False
        self._lost = self._untold = 0
        self._tell_at = 0.0
        self._forget()
        _managers.add(self)

    def _check(self, name: str) -> None:
        """Reports mistakes here rather than at the first emit."""
        if not isinstance(name, str):
            raise TypeError(f"name must be the name of a bus, a str, not {type(name).__name__}")
        if not NAME.fullmatch(name):
            libbus.Bus(name).close()  # raises if the channel is malformed
        libbus.filter_check(self._topic)
        if "+" in self._topic or "#" in self._topic:
            raise ValueError(f"channel={self.channel!r}: choose a channel without + and #")

    def _forget(self) -> None:
        """Sets up a new process. A forked child does not own the parent's bus, and python-socketio needs a new host id for it."""
        self._bus: libbus.Bus | None = None
        self._messages: libbus.Subscription[Any] | None = None
        self._opening, self._starting = threading.Lock(), threading.Lock()
        self._started = False
        self._missing_since: float | None = None
        self.host_id: str = uuid.uuid4().hex

    @property
    def lost(self) -> int:
        """The number of the bus's messages, of any topic, overwritten before this process read them."""
        return self._lost

    def set_server(self, server: Any) -> None:
        """python-socketio calls it with the server.

        Raises:
            NotSupportedError: The server runs on eventlet.
        """
        if not self.write_only and getattr(server.eio, "async_mode", None) == "eventlet":
            raise _not_supported(
                "eventlet's hub cannot wait for a bus: give the server async_mode='threading' or 'gevent'"
            )
        super().set_server(server)

    def initialize(self) -> None:
        """python-socketio calls it in each process, before its first client is connected."""
        with self._starting:  # held to the end, so that a second client waits
            if self._started:
                return
            if not self.write_only:
                # Here, not in the listener: the first client must miss nothing. The listener tries again.
                with contextlib.suppress(libbus.BusError):
                    self._subscribed()
            super().initialize()
            self._started = True

    def _generate_ack_id(self, sid: str, callback: Callable[..., Any]) -> int:
        """Called for each callback. A process without clients listens from here on: another process sends the answer."""
        if self.server is not None:
            self.initialize()
        return super()._generate_ack_id(sid, callback)

    def close(self) -> None:
        """Leaves the bus. A later emit raises ClosedError. The end of the process closes it too.

        Threads: any. Blocks: never.
        """
        with self._opening:
            self._closed = True
            bus = self._bus
        if bus is not None:
            bus.close(0)

    # --- the bus of this process -----------------------------------------------------------------------------

    def _opened(self) -> libbus.Bus:
        bus = self._bus
        return self._open() if bus is None else bus

    def _open(self) -> libbus.Bus:
        with self._opening:
            if self._closed:
                raise _core.error(CLOSED, self.bus_name)
            if self._bus is None:
                self._bus = libbus.Bus(self.bus_name, **self._options)
            return self._bus

    def _subscribed(self) -> libbus.Subscription[Any]:
        """Opens one subscription for all threads: a second one would take messages away from the first."""
        bus = self._opened()
        try:
            with self._opening:
                if self._messages is None or self._messages.bus is not bus:
                    self._messages = bus.subscribe(self._topic)
                return self._messages
        except libbus.ClosedError:
            raise
        except libbus.BusError:
            self._drop(bus)
            raise

    def _end_if_closed(self) -> None:
        """Called after the end of a subscription: the bus has ended too, or only the subscription was dropped."""
        bus = self._bus
        if self._closed or (bus is not None and bus.closed):
            raise _Ended

    def _failed(self, error: libbus.BusError, messages: libbus.Subscription[Any] | None) -> None:
        """Lets the next attempt reopen the bus: its log is damaged, or there was no room for it."""
        if messages is not None:
            self._drop(messages.bus)
        self._miss(str(error))

    def _miss(self, reason: str) -> None:
        """Logs a failure once, even if later attempts fail too."""
        if self._missing_since is None:
            self._missing_since = time.monotonic()
            self._get_logger().error(
                "this process gets no Socket.IO events of other processes, and tries again every %g s: %s",
                RETRY_S,
                reason,
            )

    def _hear_again(self) -> None:
        began, self._missing_since = self._missing_since, None
        if began is not None:
            self._get_logger().error(
                "Socket.IO events of other processes arrive here again; those of %.1f s were missed: let clients of this"
                " process reload their data",
                time.monotonic() - began,
            )

    def _drop(self, failed: libbus.Bus) -> None:
        """Closes this bus only: another thread may have opened the next one."""
        with self._opening:
            if self._bus is failed:
                self._bus = self._messages = None
        failed.close(0)

    # --- messages ----------------------------------------------------------------------------------------------

    def _send(self, message: dict[str, Any]) -> None:
        try:
            text = self.json.dumps(message)  # the caller learns now that no client could get it
        except TypeError as error:
            raise TypeError(
                f"{message.get('event', message['method'])!r} cannot be sent to other processes: {error}; convert it first,"
                " or give the server a json module that does"
            ) from None
        if self.json.dumps is not json.dumps:
            message = json.loads(text)
        bus = self._opened()
        try:
            bus.publish(self._topic, message)
        except libbus.TransportError:
            self._drop(bus)
            raise
        except libbus.BusError:
            raise
        except (
            OverflowError,
            TypeError,
            ValueError,
        ):  # more elements, levels or digits than a packed value may have
            bus.publish_raw(self._topic, text, encoding="json")

    def _read(self, msg: libbus.Message) -> dict[str, Any] | None:
        """Reads a message of a manager; None: it is not one."""
        if msg.lost:
            self._lost += msg.lost
            self._untold += msg.lost
        if self._untold and (now := time.monotonic()) >= self._tell_at:
            self._tell_at = now + TELL_S
            untold, self._untold = self._untold, 0
            self._get_logger().error(
                "%d messages of bus %r, possibly Socket.IO events, were overwritten before this process read them:"
                " emit less at once, or open the bus with a larger log_bytes",
                untold,
                self.bus_name,
            )
        try:
            value = json.loads(msg.data) if msg.encoding == "json" else msg.value
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


class Manager(_OnBus, PubSubManager):
    """The client manager of a socketio.Server, or of Flask-SocketIO, whose processes share a named bus.

    Servers and write-only managers with the same bus and channel exchange events. Room and client functions of the server,
    callbacks and call() work from every process.

    Args:
        name: The name of the bus.
        channel: Servers on one bus with different channels get no events of each other.
        write_only: Only emits: for a program that is not a server.
        logger: As in python-socketio. None: the server's.
        json: As in python-socketio: the encoder of a write-only manager. A server uses its own.
        directory: As in libbus.Bus.
        log_bytes: As in libbus.Bus. A message takes at most a sixteenth of it.
        max_payload: As in libbus.Bus.

    Raises:
        ValueError: The name is not a valid name of a bus, or the channel not a valid part of a topic.

    emit() and the other methods are those of python-socketio's managers. emit() raises TypeError for a value that JSON cannot hold,
    TooBigError for one that is too large for the bus, and TransportError if the bus cannot be opened; in these cases clients of this
    process still get the event. Emits of one thread reach each client in order.

    Threads: any. Blocks: never for a reader; the first emit as libbus.Bus() does.
    """

    # python-socketio does not call initialize() for the second client. The first may still be in it, on another thread.
    def pre_connect(self, eio_sid: str, namespace: str) -> str:
        self.initialize()
        return super().pre_connect(eio_sid, namespace)

    def connect(self, sid: str, namespace: str) -> Any:
        """Before python-socketio 5.18 there is no pre_connect()."""
        self.initialize()
        return super().connect(sid, namespace)

    def _publish(self, data: dict[str, Any]) -> None:
        self._send(data)

    def _listen(self) -> Iterator[dict[str, Any]]:
        while True:
            messages = None
            try:
                messages = self._subscribed()
                self._hear_again()
                for count, msg in enumerate(messages, 1):
                    if (message := self._read(msg)) is not None:
                        yield message
                    if not count % TURN:
                        self.server.sleep(0)
            except libbus.ClosedError:
                pass
            except libbus.BusError as error:
                self._failed(error, messages)
            self._end_if_closed()
            self._miss(DROPPED)
            self.server.sleep(RETRY_S)

    def _thread(self) -> None:
        with contextlib.suppress(_Ended):
            super()._thread()


class AsyncManager(_OnBus, AsyncPubSubManager):
    """The client manager of a socketio.AsyncServer. Arguments, errors and channel are those of Manager, and both kinds of servers
    may share a channel.

    Threads: that of the event loop. Blocks: never for a reader; the first emit as libbus.Bus() does.
    """

    async def _publish(self, data: dict[str, Any]) -> None:
        self._send(data)

    async def _listen(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            messages = None
            try:
                messages = self._subscribed()
                self._hear_again()
                async for msg in messages:
                    if (message := self._read(msg)) is not None:
                        yield message
            except libbus.ClosedError:
                pass
            except libbus.BusError as error:
                self._failed(error, messages)
            self._end_if_closed()
            self._miss(DROPPED)
            await asyncio.sleep(RETRY_S)

    async def _thread(self) -> None:
        with contextlib.suppress(_Ended):
            await super()._thread()


def _not_supported(text: str) -> Exception:
    error: Any = libbus.NotSupportedError(text)
    error.code, error.name = NOT_SUPPORTED, "BUS_E_NOTSUP"
    error.topic = error.address = None
    raised: Exception = error
    return raised


_managers: weakref.WeakSet[_OnBus] = weakref.WeakSet()


def _after_fork() -> None:
    """Runs in a forked child."""
    for manager in list(_managers):
        manager._forget()


os.register_at_fork(after_in_child=_after_fork)
