from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from os import PathLike
from types import GenericAlias, TracebackType
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypedDict,
    final,
    overload,
    type_check_only,
)
from uuid import UUID

from _typeshed import DataclassInstance
from typing_extensions import Buffer, Self, TypeVar

_T = TypeVar("_T")
_V_co = TypeVar("_V_co", covariant=True, default=Any)

PAGE_FILTERS_MAX: int
TRANSPORTS: str
VERSION: str
ERRORS: tuple[tuple[int, str, str, type[Exception]], ...]

def error(code: int, subject: str | None = None, /) -> Exception: ...
def _wait_with(
    modules: tuple[str, ...], function: Callable[[int, float | None], bool], /
) -> None: ...
def packb(value: Value, /) -> bytes:
    """Packs a value into the msgpack bytes that publish() sends.

    Raises:
        TypeError: An element cannot be packed; the text names its path.
        ValueError: The value is too deep, too large or malformed.
        OverflowError: An int has more than 64 bits.

    Threads: any. Blocks: never.
    """

def unpackb(data: Buffer, /) -> Any:
    """Returns the value of msgpack bytes, as msg.value does.

    Raises:
        DecodeError: The bytes are not exactly one value, or the value is deeper than 32 or has more than 65,536 elements.

    Threads: any. Blocks: never.
    """

def filter_check(topic_filter: str, /) -> None:
    """Checks a filter: raises the FilterError that subscribing to it would raise, else returns None."""

def filter_covers(topic_filter: str, other: str, /) -> bool:
    """True if the first filter matches every topic that the other matches: 'a/#' covers 'a/+/b'.

    Wildcards in the first level match no topic that begins with $: '#' does not cover '$bus/#'.

    Raises:
        FilterError: One of the two is malformed.
    """

class BusError(Exception):
    """The base of all errors of libbus. code and name are those of libbus/error.h; topic and address
    name the object of the error, or are None.
    """

    code: int
    """The negative BUS_E_* of libbus/error.h."""
    name: str
    """The name of the code, such as "BUS_E_FULL"."""
    topic: str | None
    """The topic or filter that caused the error; None: no topic did."""
    address: str | None
    """The address that caused the error; None: no address did."""
    sent: int  # only of Publisher.send_many()

class ClosedError(BusError):
    """The bus, subscription or link has ended."""

class FullError(BusError):
    """A mailbox that refuses instead of dropping has no room."""

class BusTimeoutError(BusError, TimeoutError):
    """The timeout ran out."""

class StateError(BusError, RuntimeError):
    """The call is not possible here or now."""

class ForkError(BusError, RuntimeError):
    """The bus belongs to the parent process."""

class LimitError(BusError):
    """A configured limit is reached."""

class NotSupportedError(BusError):
    """This kind of bus, or this version, does not support the call."""

class ArgumentError(BusError, ValueError):
    """A value is out of its range."""

class TopicError(BusError, ValueError):
    """The topic is malformed, or reserved."""

class FilterError(BusError, ValueError):
    """The filter is malformed."""

class TooBigError(BusError, ValueError):
    """The payload is above the limit of the bus."""

class AddressError(BusError, ValueError):
    """The address is malformed, or not allowed."""

class TransportError(BusError, OSError):
    """The system or the peer refused."""

class NobodyError(BusError):
    """No subscriber listens to the topic of the request."""

class DecodeError(BusError, ValueError):
    """The payload does not match its type."""

@type_check_only
class LostBy(TypedDict):
    """Lost messages, by cause."""

    full: int
    """Dropped by drop_oldest or drop_newest in a full mailbox."""
    replaced: int
    """Replaced by a newer message of the topic, with latest."""
    expired: int
    """Their ttl ran out."""
    unsubscribed: int
    """Their filter was unsubscribed first."""
    closed: int
    """The subscription or the bus was closed first."""
    lapped: int
    """Overwritten in the log of the named bus before they were read."""
    link: int
    """In transit on a connection that broke."""

@type_check_only
class Stats(TypedDict):
    """Counters, in messages. offered == delivered + lost + refused + pending, exactly."""

    offered: int
    """Messages that matched a filter."""
    delivered: int
    """Messages received, or passed to a callback."""
    pending: int
    """Messages waiting; on a named bus without those still unread in the log."""
    refused: int
    """Publishes that raised FullError because of this mailbox."""
    lost: int
    """The sum of lost_by."""
    late_replies: int
    """On a bus: replies that arrived after their request had ended."""
    lost_by: LostBy
    """Lost messages by cause."""

@type_check_only
class Member(TypedDict):
    """A process on a named bus."""

    number: int
    """The number N in its topic $bus/members/N."""
    pid: int
    """Its process id, as the process itself wrote it."""
    this: bool
    """True: it is the calling process."""
    alive: bool
    """False: it died, and no other process has noticed yet."""

@type_check_only
class LogStats(TypedDict):
    """The log of a named bus. The numbers are read one after another, not at one moment."""

    log_bytes: int
    """Size of the log, in bytes."""
    segments: int
    """Number of segments. The log frees its oldest segment as a whole."""
    messages: int
    """Messages published so far: the position of the last one."""
    messages_left: int
    """Messages still in the log."""
    oldest: int
    """The position of the oldest message still in the log."""
    values_bytes: int
    """Bytes of retained messages."""
    values_most: int
    """The most bytes that retained messages may take."""
    values_count: int
    """Retained messages."""
    values_count_most: int
    """The limit of this number."""
    readers: int
    """Processes with a subscription, or with a pending request."""
    readers_most: int
    """The limit of this number."""
    processes: int
    """Processes on the bus."""
    processes_most: int
    """The limit of this number."""
    members: list[Member]
    """The processes on the bus."""

@type_check_only
class LinkEnds(TypedDict):
    """Connections that ended, by cause."""

    closed: int
    """This side closed it."""
    gone: int
    """The peer closed it or died."""
    silent: int
    """No heartbeat arrived in time, or no handshake within 5 s."""
    not_libbus: int
    """The peer spoke another protocol."""
    version: int
    """The peer speaks another version."""
    protocol: int
    """The peer sent a frame that it may not send."""
    too_big: int
    """The peer sent a frame above the limit."""
    denied: int
    """The peer belongs to another user, or the link has too many peers."""
    auth: int
    """The user or password was wrong or missing."""
    tls: int
    """The TLS handshake failed."""

@type_check_only
class LinkStats(TypedDict):
    """The state and the counters of a link."""

    state: Literal["up", "down"]
    """up: connected (dialling) or open (listening)."""
    peers: int
    """Connections that finished their handshake."""
    last_error: str | None
    """The error of the last failed attempt or ended connection, as BUS_E_*; None: no error yet."""
    sent: int
    """Messages."""
    received: int
    """Messages."""
    lost: int
    """Messages for peers that this side dropped, or that did not arrive."""
    lost_by_peers: int
    """Messages from peers that were lost, as far as this side knows."""
    refused: int
    """Messages that arrived and could not be published here."""
    ended: LinkEnds
    """Ended connections, by cause."""
    repeated: int
    """On links with a hub: messages dropped because they had already arrived by another path."""
    late: int
    """On links with a hub: messages dropped because 1,024 newer ones of the same bus had arrived; some may be repeats."""
    too_far: int
    """On links with a hub: messages dropped because they passed 8 hubs."""

class Ext(NamedTuple):
    """A msgpack extension: its number, -128 to 127, and its bytes."""

    code: int
    data: bytes

Policy: TypeAlias = Literal["drop_oldest", "drop_newest", "latest", "refuse"]
PagePolicy: TypeAlias = Literal["drop_oldest", "latest", "disconnect"]
Encoding: TypeAlias = Literal["untagged", "msgpack", "bytes", "json", "text"]

@type_check_only
class _Struct(Protocol):
    """A msgspec.Struct."""

    __struct_fields__: ClassVar[tuple[str, ...]]

Value: TypeAlias = (
    bool
    | int
    | float
    | str
    | bytes
    | Buffer
    | datetime
    | date
    | Decimal
    | UUID
    | AbstractSet[Any]
    | Ext
    | Enum
    | DataclassInstance
    | _Struct
    | Sequence[Any]
    | Mapping[Any, Any]
    | None
)

class Message(Generic[_V_co]):
    """A message that arrived.

    Its fields are read-only. numpy.asarray(msg) and memoryview(msg) read the payload in place, without a copy.
    """

    @property
    def topic(self) -> str:
        """The topic of the message."""
    @property
    def data(self) -> bytes:
        """The payload, as bytes."""
    @property
    def value(self) -> _V_co:
        """The value of the payload, decoded at the first use.
        Untagged bytes: JSON, else text, else bytes. With type=, an object of that type.
        DecodeError: the payload does not match its type.
        """
    @property
    def headers(self) -> dict[Any, Any]:
        """The dict of headers that its publisher sent; empty: none. DecodeError: the headers are not a dict."""
    @property
    def encoding(self) -> Encoding:
        """The type of the payload: untagged, msgpack, bytes, json or text."""
    @property
    def lost(self) -> int:
        """The number of messages lost by this subscription right before this one."""
    @property
    def lost_unknown(self) -> bool:
        """True: `lost` is a lower bound, since the peer of a link restarted."""
    @property
    def kept(self) -> bool:
        """True: the topic's kept value, not a new event."""
    @property
    def time(self) -> float | None:
        """The time of publication, in seconds since 1970: on a named bus, and for a retained value.
        None: unknown.
        """
    @property
    def position(self) -> int | None:
        """Its position in the log of a named bus, for libbus.after(); None: it has none."""
    @property
    def ttl(self) -> float | None:
        """The seconds of its ttl that were left when it was received; None: no limit."""
    @property
    def question(self) -> bool:
        """True: the sender waits for a reply; send it with bus.reply()."""
    def json(self) -> str:
        """Returns the value as JSON text on one line, for pages and logs.

        bytes become {"$bytes": base64}; numbers that JSON lacks become null; docs/payloads.md has all types.

        Raises:
            DecodeError: The payload does not match its type.
        """
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def _plain(self) -> Any: ...
    def _as(self, reader: Callable[[Message], Any] | None, /) -> Message: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

class Reply(Message[_V_co]):
    def __new__(cls, topic: str) -> Self: ...
    @property
    def answered(self) -> bool:
        """True: the reply has arrived. False: await it first."""
    def _fill(self, message: Message, /) -> None: ...

@final
class Question:
    def fileno(self) -> int: ...
    def take(self) -> Message | None: ...
    def close(self) -> None: ...

@final
class Link:
    """An address that a bus listens on or dials. Lives as long as its bus, or until close()."""

    @property
    def url(self) -> str:
        """The address. Port 0 is replaced by the port that the system chose."""
    @property
    def state(self) -> Literal["up", "down"]:
        """up: connected (dialling) or open (listening); down: neither."""
    @property
    def closed(self) -> bool:
        """True after close(), and in a forked child."""
    def stats(self) -> LinkStats:
        """Returns state, peers and counters of the link.

        Threads: any. Blocks: never.
        """
    def reload(self) -> None:
        """Reloads the files of users, ACL and certificates. Connections are made again under the new files; a bad file changes nothing.

        Raises:
            ArgumentError: A line of a file is malformed; the text names it.
            TransportError: A file cannot be read, or other accounts may read it.
            ClosedError: The link or its bus has ended.

        Threads: any. Blocks: for the files.
        """
    def close(self) -> None:
        """Ends the link and its connections. Messages that still wait to be sent are counted as lost.

        Threads: any. Blocks: never.
        """
    def _then(self, function: Callable[[], None], /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

@final
class Role:
    def __new__(cls, bus: Bus, name: str, *, timeout: float | None = None) -> Self: ...
    @property
    def closed(self) -> bool:
        """True after close(), and in a forked child."""
    def close(self) -> None:
        """Gives the role back."""

@final
class Push:
    def __new__(
        cls,
        bus: Bus,
        *,
        heartbeat: float = ...,
        retry: float = ...,
        max_pages: int = ...,
        history: int = ...,
        remember: Sequence[str] = ...,
    ) -> Self: ...
    @property
    def closed(self) -> bool:
        """True after close(), and in a forked child."""
    def add(
        self,
        fd: int,
        filters: Sequence[str],
        /,
        *,
        new: Sequence[str] = (),
        head: bytes = b"",
        last_id: str | None = None,
        start: tuple[str, int, int] | None = None,
        full: PagePolicy = "drop_oldest",
        max_bytes: int = 0,
        interval: float = 0.0,
        raw: bool = False,
        event: str | None = None,
        ask: bool = False,
    ) -> int:
        """Serves a page on a connected socket and takes the socket over. After an exception the caller still owns it.

        Returns:
            The number of the page.

        Threads: any. Blocks: until the thread of all pages has done it, a moment; without the GIL.
        """
    def questions(self, timeout: float | None = None, /) -> list[tuple[int, str | None]]:
        """Takes the questions for answer(): [(page, topic), ...]. (page, None): this page has left; it may have had no question.
        Empty: none arrived in that time.

        Raises:
            ClosedError: close() was called.
            MemoryError: The next call gets the questions.

        Threads: any; one takes each question. Blocks: up to timeout, without the GIL; a greenlet lets others run.
        """
    def answer(self, page: int, topic: str, may: bool, message: str | None = None, /) -> None:
        """Says whether a page may get messages of a topic from now on. Ignores a page that has left.

        Threads: any. Blocks: never.
        """
    def remove(self, page: int, /) -> None:
        """Ends a page. Ignores a page that has left.

        Threads: any. Blocks: never.
        """
    def stats(self) -> dict[str, int]:
        """Returns the counters of all pages so far.

        Threads: any. Blocks: never.
        """
    def page_stats(self, page: int, /) -> dict[str, int] | None:
        """Returns the counters of one open page; None: it has left.

        Threads: any. Blocks: until the thread of all pages has done it, a moment; without the GIL.
        """
    def close(self, timeout: float | None = 1.0, /) -> int:
        """Ends all pages and tells them to connect again.

        Returns:
            The number of open pages; 0 the second time, and in a forked child.

        Threads: any. Blocks: up to timeout, without the GIL.
        """

class Publisher:
    def __new__(
        cls,
        bus: Bus,
        topic: str,
        *,
        wait: float | None = 0.0,
        retain: bool = False,
        ttl: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> Self: ...
    @property
    def topic(self) -> str:
        """The topic it publishes on."""
    @property
    def closed(self) -> bool:
        """True after close(), and in a forked child."""
    def send(self, value: Value, /) -> Awaitable[None]:
        """Publishes a value on the topic, as bus.publish() does.

        In a running event loop `await publisher.send(value)` waits for room and leaves the loop to other tasks. A value with room
        is published when you call it, also without await.

        Raises:
            FullError: A subscription with full="refuse" had no room for `wait` seconds; no subscription got the value. In a
                callback it does not wait.
            TypeError: The value cannot be published.
            TooBigError: The payload is too large.
            ClosedError: The publisher or its bus is closed.

        Threads: any. Blocks: up to `wait` seconds, without the GIL; Ctrl-C ends it.
        """
    def send_many(self, values: Iterable[Value], /) -> int:
        """Publishes each value of an iterable, in order. Cheaper than one send() for each value.

        Waits for room as send() does. An exception, also one of the iterable, ends it; the exception's `sent` is the number of
        published values. In a running event loop await the call.

        Returns:
            The number of values.

        Threads: any. Blocks: up to `wait` seconds for each value, without the GIL; Ctrl-C ends it.
        """
    def close(self) -> None:
        """Ends the publisher. A send() that waits on another thread raises ClosedError.

        Threads: any. Blocks: never.
        """
    def _pack(self, value: Value, /) -> bytes: ...
    def _try(self, packed: Sequence[bytes], last: bool, /) -> int: ...
    def _may_wait(self) -> bool | None: ...

class Mailbox(Generic[_V_co]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def __new__(
        cls,
        bus: Bus,
        *,
        full: Policy = ...,
        max_bytes: int = ...,
        start: tuple[str, int, int] | None = None,
        group: str | None = None,
        reader: Callable[[Message], Any] | None = None,
    ) -> Self: ...
    @property
    def closed(self) -> bool:
        """True after close(), and in a forked child."""
    def subscribe(self, topic_filter: str, /) -> None: ...
    def recv(self, timeout: float | None = None) -> Message[_V_co]:
        """Waits for the next message and returns it.

        Args:
            timeout: Seconds to wait. None: no limit; 0: do not wait.

        Raises:
            BusTimeoutError: No message arrived in time.
            ClosedError: The subscription or its bus has ended.
            StateError: The wait would block a running event loop: use `await anext(subscription)`.
            TransportError: The log of the named bus is damaged.

        Threads: any; of several threads in recv() one gets the message. Blocks: up to timeout, without the GIL; Ctrl-C ends the wait.
        """
    def recv_nowait(self) -> Message[_V_co] | None:
        """Returns the next message, or None if none waits.

        Raises:
            ClosedError: The subscription or its bus has ended.

        Threads: any. Blocks: never.
        """
    def fileno(self) -> int:
        """Returns a descriptor for select, poll and event loops: readable while a message waits, and after the end.

        Only wait on it: do not read, write or close it. Then call recv_nowait() until it returns None.

        Threads: any. Blocks: never.
        """
    def stats(self) -> Stats:
        """Returns the counters: offered == delivered + lost + refused + pending, exactly; lost_by has the causes.

        Threads: any; also after close(). Blocks: never.
        """
    def close(self) -> None:
        """Ends the subscription. Messages it still holds are counted as lost. recv() on other threads raises ClosedError; loops over it end.

        Threads: any; also signal handlers and finalizers. Blocks: never.
        """
    def __iter__(self) -> Self: ...
    def __next__(self) -> Message[_V_co]: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, Message[_V_co]]: ...
    def unsubscribe(self, topic_filter: str, /) -> None:
        """Ends a filter of subscribe(). Its messages that still wait are counted as lost (unsubscribed).

        Raises:
            ValueError: The subscription has no such filter.

        Threads: any. Blocks: never.
        """
    def _attach(self, topic_filter: str, key: int, /) -> None: ...
    def _detach(self, key: int, /) -> None: ...
    def _take(self) -> list[Message]: ...
    def _goal(self) -> int: ...
    def _reached(self) -> tuple[int, bool]: ...

@final
class Work:
    def __new__(cls, mailbox: Mailbox, workers: int) -> Self: ...
    def next(self, worker: int, /) -> Message | None: ...
    def flush(self, due: int, timeout: float | None, /) -> bool: ...
    def close(self) -> int: ...

@final
class Calls:
    def __new__(
        cls,
        functions: dict[int, Callable[[Message], Any]],
        readers: dict[int, Callable[[Message], Any]],
        failed: Callable[[Callable[[Message], Any], Message, BaseException], object],
    ) -> Self: ...
    def run(self, mailbox: Mailbox, /) -> None: ...
    def stop(self) -> int: ...

class Bus:
    def __new__(
        cls,
        name: str | None = None,
        *,
        max_topics: int = 0,
        max_payload: int = 0,
        directory: str | PathLike[str] | None = None,
        log_bytes: int = 0,
        will: tuple[Any, ...] | None = None,
        on_fork: str | None = None,
    ) -> Self: ...
    @property
    def closed(self) -> bool:
        """True after close(), and in a forked child."""
    @property
    def epoch(self) -> int:
        """Identifies this life of a named bus; positions are valid within it. 0 on a private bus."""
    def publish(
        self,
        topic: str,
        value: Value,
        *,
        retain: bool = False,
        ttl: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> None:
        """Publishes a value to every subscription whose filter matches the topic.

        A value without a subscription is discarded without an error. A full mailbox drops by its own policy and counts the loss.

        Args:
            topic: Levels joined by /, such as room/kitchen/lamp; 1 to 1,024 bytes of UTF-8 and 32 levels at most, no wildcards.
            value: None, a bool, number, text, bytes, date, list, dict, dataclass, array and more (docs/payloads.md); a
                Message with an array is forwarded as it is.
            retain: Keep it as the topic's last value, for get() and for later subscriptions.
            ttl: Seconds until it expires; an expired message is not delivered, kept values included. None: no limit.
            headers: A dict to send with the value.

        Raises:
            TypeError: The value, or an element of it, cannot be published; the text names its path.
            ValueError: The value is too deep, too large or malformed.
            OverflowError: An int has more than 64 bits.
            TopicError: The topic is malformed.
            TooBigError: The payload is larger than max_payload, or than 1/16 of the log of a named bus.
            FullError: A subscription with full="refuse" has no room; no subscription got the message.
            LimitError: There is no room for another topic or, with retain, for another value.
            ClosedError: The bus is closed.

        Threads: any; also callbacks, signal handlers and finalizers. Blocks: never for a reader; on a named bus up to
        0.1 s if another process was stopped while it published.
        """
    def publish_raw(
        self,
        topic: str,
        data: Buffer | str,
        *,
        encoding: Encoding = "untagged",
        retain: bool = False,
        ttl: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> None:
        """Publishes bytes as they are, with the type that readers decode them by.

        Args:
            topic: As in publish().
            data: Bytes, or any object with a contiguous buffer; a str is sent as UTF-8.
            encoding: The type for msg.value: untagged, msgpack, bytes, json or text.
            retain: Keep it as the topic's last value. With empty data: delete that value.
            ttl: Seconds until it expires; an expired message is not delivered. None: no limit.
            headers: A dict to send with the bytes.

        Raises:
            TopicError: The topic is malformed.
            TooBigError: The payload is too large.
            FullError: A subscription with full="refuse" has no room.
            LimitError: There is no room for another topic or value.
            ClosedError: The bus is closed.

        Threads: any. Blocks: as publish().
        """
    @overload
    def get(self, topic: str, /) -> Message | None: ...
    @overload
    def get(self, topic: str, /, default: _T) -> Message | _T: ...
    def keep(self, topic_filter: str, /, *, last: int = 1, max_bytes: int = 0) -> None:
        """Keeps the last messages of every topic that the filter matches, now or later, retained or not. A new subscription gets
        them first, with msg.kept True.

        Lasts as long as the bus. If several filters match a topic, the largest numbers count. Publishing on such a topic
        costs more, also without a subscriber.

        Args:
            topic_filter: The topics.
            last: Messages to keep of each topic, at most 10,000.
            max_bytes: Bytes of payload to keep of each topic. 0: 1 MiB. The newest message stays, whatever its size.

        Raises:
            FilterError: The filter is malformed.
            LimitError: A number is above its limit, or the bus already keeps 256 filters.
            NotSupportedError: The bus is a named one, whose log keeps messages: subscribe with start=.

        Threads: any. Blocks: never.
        """
    def request(
        self,
        topic: str,
        value: Value,
        *,
        timeout: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> Message: ...
    def _ask(
        self,
        topic: str,
        value: Value,
        *,
        timeout: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> Question: ...
    def reply(
        self, question: Message, value: Value, *, headers: dict[Any, Any] | None = None
    ) -> None:
        """Replies to a request, once or more often. @bus.serve replies by itself.

        Args:
            question: A Message with `question` True.
            value: As in publish().
            headers: A dict to send with the reply.

        Raises:
            ArgumentError: The message is not a request.
            TypeError: The value cannot be published.
            ClosedError: The bus is closed.

        A reply to a request that has ended is counted in stats() as late_replies.

        Threads: any. Blocks: never.
        """
    def listen(
        self,
        url: str,
        *,
        heartbeat: float | None = None,
        max_peers: int = 0,
        max_bytes: int = 0,
        peer_bytes: int = 0,
        users: str | PathLike[str] | None = None,
        acl: str | PathLike[str] | None = None,
        ca: str | PathLike[str] | None = None,
        cert: str | PathLike[str] | None = None,
        key: str | PathLike[str] | None = None,
        psk: str | PathLike[str] | None = None,
        allow_lan: bool = False,
        allow_insecure_remote: bool = False,
        relays: bool = False,
    ) -> Link: ...
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
        ca: str | PathLike[str] | None = None,
        cert: str | PathLike[str] | None = None,
        key: str | PathLike[str] | None = None,
        psk: str | PathLike[str] | None = None,
        allow_lan: bool = False,
        allow_insecure_remote: bool = False,
        relays: bool = False,
    ) -> Link: ...
    def flush(self, timeout: float | None = None) -> None: ...
    def close(self, timeout: float | None = 1.0) -> int: ...
    def _adopt(self, other: Bus, /) -> None: ...
    def stats(self) -> Stats:
        """Returns the counters of all mailboxes so far, closed ones and those of links included.

        Threads: any. Blocks: never.
        """
    def log_stats(self) -> LogStats:
        """Returns the size and fill of a named bus's log, and the processes on the bus.

        Raises:
            NotSupportedError: The bus has no name.
            TransportError: The log is damaged.

        Threads: any. Blocks: never.
        """
    def explain(self, topic: str, /) -> str:
        """Lists the subscriptions that get a message on the topic, those that nearly match, and why: one fact per line, for people.

        On a named bus it covers all processes, also stopped ones. The words may change between versions. Nothing is
        sent. The topic may be one of the bus's own, $bus/...

        Raises:
            TopicError: The topic is malformed.

        Threads: any. Blocks: never, but it reads every filter and, on a named bus, a file of each process.
        """
    def explain_peers(self) -> str:
        """Lists the connected peers and the latest refusals, with reasons: one fact per line, for people.

        It covers the last 32 refusals: the reason, the remedy, the count and the time (UTC). On a named bus it covers the
        links of all processes, up to a second old. The words may change between versions; programs subscribe to $bus/refused.

        Threads: any. Blocks: never.
        """
    def describe(self) -> str:
        """Describes a named bus for people: its log, how full that is, and the processes on it.

        The words may change between versions; log_stats() is for programs.

        Threads: any. Blocks: never.
        """
