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
    """The msgpack bytes that publish() sends of a value.

    Raises:
        TypeError: An element cannot be packed; the text has its path.
        ValueError: It is too deep, too large or malformed.
        OverflowError: An int has more than 64 bits.

    Threads: any. Blocks: never.
    """

def unpackb(data: Buffer, /) -> Any:
    """The value of msgpack bytes, as msg.value gives it.

    Raises:
        DecodeError: They are not one value, or it is beyond the limits of a payload: 32 deep, 65,536 elements.

    Threads: any. Blocks: never.
    """

def filter_check(topic_filter: str, /) -> None:
    """Raises the FilterError that subscribing to the filter would raise; returns None for a filter that is well formed."""

def filter_covers(topic_filter: str, other: str, /) -> bool:
    """True if the first filter matches every topic that the other matches: 'a/#' covers 'a/+/b'.

    Wildcards in the first level match no topic that begins with $: '#' does not cover '$bus/#'.

    Raises:
        FilterError: One of them is malformed.
    """

class BusError(Exception):
    """What libbus raises. code and name are those of libbus/error.h; topic and address say
    what it is about, or are None.
    """

    code: int
    """The negative BUS_E_* of libbus/error.h."""
    name: str
    """Its name, such as "BUS_E_FULL"."""
    topic: str | None
    """The topic or filter that it is about."""
    address: str | None
    """The address that it is about."""
    sent: int  # only of Publisher.send_many()

class ClosedError(BusError):
    """The bus, subscription or link has ended."""

class FullError(BusError):
    """A mailbox that may not lose has no room."""

class BusTimeoutError(BusError, TimeoutError):
    """It did not happen in the time given."""

class StateError(BusError, RuntimeError):
    """Not possible from here or now."""

class ForkError(BusError, RuntimeError):
    """The bus belongs to the parent process."""

class LimitError(BusError):
    """A configured limit is reached."""

class NotSupportedError(BusError):
    """This kind of bus or version cannot do it."""

class ArgumentError(BusError, ValueError):
    """A value is out of its range."""

class TopicError(BusError, ValueError):
    """The topic is malformed, or not one to publish on."""

class FilterError(BusError, ValueError):
    """The filter is malformed."""

class TooBigError(BusError, ValueError):
    """The payload is above the limit of the bus."""

class AddressError(BusError, ValueError):
    """The address is malformed, or not allowed."""

class TransportError(BusError, OSError):
    """The system or the peer refused."""

class NobodyError(BusError):
    """Nobody listens to the topic of the question."""

class DecodeError(BusError, ValueError):
    """The payload is not what its type says."""

@type_check_only
class LostBy(TypedDict):
    """Messages that were lost, by cause."""

    full: int
    """No room: dropped by drop_oldest or drop_newest."""
    replaced: int
    """A newer one of the topic came, with latest."""
    expired: int
    """Their ttl was over."""
    unsubscribed: int
    """Their filter was ended first."""
    closed: int
    """The subscription or the bus was closed first."""
    lapped: int
    """The log of the named bus was used again before they were read."""
    link: int
    """They were under way on a connection that broke."""

@type_check_only
class Stats(TypedDict):
    """Counters in messages. offered is delivered + lost + refused + pending, exactly."""

    offered: int
    """All that matched a filter."""
    delivered: int
    """Taken out, or handed to a callback."""
    pending: int
    """Waiting; on a named bus without what lies unread in the log."""
    refused: int
    """Publishes that raised FullError because of this mailbox."""
    lost: int
    """The sum of lost_by."""
    late_replies: int
    """Of a bus: replies to questions that were given up."""
    lost_by: LostBy
    """The causes."""

@type_check_only
class Member(TypedDict):
    """A process on a named bus."""

    number: int
    """N of its topic $bus/members/N."""
    pid: int
    """Its process id, as it said."""
    this: bool
    """It is the calling process."""
    alive: bool
    """False: it died, and no other process has noticed yet."""

@type_check_only
class LogStats(TypedDict):
    """The log of a named bus. Each number is of a moment of its own."""

    log_bytes: int
    """Size of the log, in bytes."""
    segments: int
    """Its parts. The oldest makes room as a whole."""
    messages: int
    """Messages so far: the position of the last one."""
    messages_left: int
    """How many of them are still there."""
    oldest: int
    """The position of the oldest of these."""
    values_bytes: int
    """Bytes of retained messages."""
    values_most: int
    """Bytes that they may take."""
    values_count: int
    """Retained messages."""
    values_count_most: int
    """How many there may be."""
    readers: int
    """Processes with a subscription, or with a question under way."""
    readers_most: int
    """How many there may be."""
    processes: int
    """Processes on the bus."""
    processes_most: int
    """How many there may be."""
    members: list[Member]
    """These processes."""

@type_check_only
class LinkEnds(TypedDict):
    """Connections that ended, by cause."""

    closed: int
    """This side closed it."""
    gone: int
    """The peer closed it or died."""
    silent: int
    """No heartbeat came, or no handshake within 5 s."""
    not_libbus: int
    """The peer spoke another protocol."""
    version: int
    """The peer speaks another version."""
    protocol: int
    """The peer sent a frame that it may not send."""
    too_big: int
    """The peer sent a frame above the limit."""
    denied: int
    """The peer is another user's, or one of too many."""
    auth: int
    """User or password were not accepted, or were not given."""
    tls: int
    """TLS refused."""

@type_check_only
class LinkStats(TypedDict):
    """A link, as it is now and has been."""

    state: Literal["up", "down"]
    """up: connected (dialling) or open (listening)."""
    peers: int
    """Connections that finished their handshake."""
    last_error: str | None
    """The last failed attempt or ended connection, as BUS_E_*; None: none."""
    sent: int
    """Messages."""
    received: int
    """Messages."""
    lost: int
    """Messages for peers that this side dropped, or that did not arrive."""
    lost_by_peers: int
    """The same in the other direction, as far as it is known here."""
    refused: int
    """Messages that came and could not be published here."""
    ended: LinkEnds
    """Why connections ended."""
    repeated: int
    """On links with a hub: messages dropped because they had come before, by another way."""
    late: int
    """On links with a hub: messages dropped because 1,024 newer ones of the same bus had come; perhaps repeated."""
    too_far: int
    """On links with a hub: messages dropped because they came through 8 hubs."""

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

    Its fields are read-only. numpy.asarray(msg) and memoryview(msg) look at the payload where it lies, without a copy.
    """

    @property
    def topic(self) -> str:
        """The topic it was published on."""
    @property
    def data(self) -> bytes:
        """The payload as it travelled."""
    @property
    def value(self) -> _V_co:
        """The payload read by its type, decoded at the first use.
        Untagged bytes: JSON, else text, else bytes. With type=, an object of that type.
        DecodeError: not what its type says.
        """
    @property
    def headers(self) -> dict[Any, Any]:
        """The dict that its publisher gave with it; empty: none. DecodeError: it was none."""
    @property
    def encoding(self) -> Encoding:
        """untagged, msgpack, bytes, json or text."""
    @property
    def lost(self) -> int:
        """How many were lost here right before this one."""
    @property
    def lost_unknown(self) -> bool:
        """True: more may have been lost than `lost` says, since the other side of a link has begun anew."""
    @property
    def kept(self) -> bool:
        """True: the topic's last value, not a new event."""
    @property
    def time(self) -> float | None:
        """When it was published, in seconds since 1970: on a named bus, and of a retained value.
        None: unknown.
        """
    @property
    def position(self) -> int | None:
        """Its number in the log of a named bus, for libbus.after(); None: it has none."""
    @property
    def ttl(self) -> float | None:
        """Seconds that were left of its life when it was taken; None: no limit."""
    @property
    def question(self) -> bool:
        """True: a reply is expected, by bus.reply()."""
    def json(self) -> str:
        """The value as JSON text on one line, for pages and logs.

        bytes become {"$bytes": base64}; numbers that JSON lacks become null; docs/payloads.md has all types.

        Raises:
            DecodeError: The payload is not what its type says.
        """
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def _plain(self) -> Any: ...
    def _as(self, reader: Callable[[Message], Any] | None, /) -> Message: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

class Reply(Message[_V_co]):
    def __new__(cls, topic: str) -> Self: ...
    @property
    def answered(self) -> bool:
        """True: the reply is there. False: it is to be awaited first."""
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
        """The address, with the real port where 0 was asked for."""
    @property
    def state(self) -> Literal["up", "down"]:
        """up: connected (dialling) or open (listening); down: neither."""
    @property
    def closed(self) -> bool:
        """True after close(), and in a forked child."""
    def stats(self) -> LinkStats:
        """State, peers and counters of the link.

        Threads: any. Blocks: never.
        """
    def reload(self) -> None:
        """Reads the files of users, ACL and certificates again. Connections are made again under the new files; a bad file changes nothing.

        Raises:
            ArgumentError: A line of a file is malformed; the text names it.
            TransportError: A file cannot be read, or other accounts may read it.
            ClosedError: The link or its bus has ended.

        Threads: any. Blocks: for the files.
        """
    def close(self) -> None:
        """Ends the link and its connections. What still waits for the wire is counted as lost.

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
        """Gives it back."""

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
        """Serves a page on a connected socket, which is the library's from then on. An exception leaves it to the caller.

        Returns:
            The number of the page.

        Threads: any. Blocks: for a moment, until the thread of all pages looks; without the GIL.
        """
    def questions(self, timeout: float | None = None, /) -> list[tuple[int, str | None]]:
        """Takes the questions that answer() has to answer: [(page, topic), ...]; (page, None): a page has left, perhaps one without
        questions. Empty: there were none in that time.

        Raises:
            ClosedError: close() was called.
            MemoryError: The next call gets the questions.

        Threads: any; one takes each question. Blocks: up to timeout, without the GIL; a greenlet lets others run.
        """
    def answer(self, page: int, topic: str, may: bool, message: str | None = None, /) -> None:
        """Whether a page may get messages of a topic, from now on. A page that is gone is fine.

        Threads: any. Blocks: never.
        """
    def remove(self, page: int, /) -> None:
        """Ends a page. One that is gone is fine.

        Threads: any. Blocks: never.
        """
    def stats(self) -> dict[str, int]:
        """The counters of all pages so far.

        Threads: any. Blocks: never.
        """
    def page_stats(self, page: int, /) -> dict[str, int] | None:
        """The counters of one open page; None: it is gone.

        Threads: any. Blocks: for a moment, until the thread of all pages looks; without the GIL.
        """
    def close(self, timeout: float | None = 1.0, /) -> int:
        """Ends all pages, which are told to connect again.

        Returns:
            How many were open. 0 the second time, and in a forked child.

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
        """What it publishes on."""
    @property
    def closed(self) -> bool:
        """True after close(), and in a forked child."""
    def send(self, value: Value, /) -> Awaitable[None]:
        """Publishes a value on the topic, as bus.publish() does.

        In a running event loop `await publisher.send(value)` waits for room and leaves the loop to other tasks. What has room
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
        """Publishes each value of a list or another iterable, in order. Costs less than a send() for each.

        Waits for room as send() does. An exception ends it, also one of the iterable; its attribute `sent` is the number of
        values that were published. In a running event loop await it.

        Returns:
            The number of values.

        Threads: any. Blocks: up to `wait` seconds for each value, without the GIL; Ctrl-C ends it.
        """
    def close(self) -> None:
        """Ends it. A send() that waits on another thread raises ClosedError.

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
        """Waits for the next message and takes it out.

        Args:
            timeout: Seconds. None: no limit; 0: does not wait.

        Raises:
            BusTimeoutError: No message came in time.
            ClosedError: The subscription or its bus has ended.
            StateError: It would wait in a running event loop, where `await anext(subscription)` does.
            TransportError: The log of the named bus is damaged.

        Threads: any; of several threads in recv() one gets the message. Blocks: up to timeout, without the GIL; Ctrl-C ends it.
        """
    def recv_nowait(self) -> Message[_V_co] | None:
        """The next message if there is one, else None.

        Raises:
            ClosedError: The subscription or its bus has ended.

        Threads: any. Blocks: never.
        """
    def fileno(self) -> int:
        """A descriptor for select, poll and event loops: readable while there is a message, and after the end.

        Only wait on it: do not read, write or close it. Take messages by recv_nowait() until that returns None.

        Threads: any. Blocks: never.
        """
    def stats(self) -> Stats:
        """Counters of this mailbox: offered is delivered + lost + refused + pending, exactly; lost_by has the causes.

        Threads: any; also after close(). Blocks: never.
        """
    def close(self) -> None:
        """Ends it. What it still holds is counted as lost. recv() on other threads raises ClosedError, and loops over it end.

        Threads: any; also signal handlers and finalizers. Blocks: never.
        """
    def __iter__(self) -> Self: ...
    def __next__(self) -> Message[_V_co]: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, Message[_V_co]]: ...
    def unsubscribe(self, topic_filter: str, /) -> None:
        """Ends a filter of subscribe(). Messages of it that wait already are counted as lost, as unsubscribed.

        Raises:
            ValueError: It is not one of the filters.

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
        """What positions belong to: this life of a named bus; 0 on a private one."""
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

        A topic without a subscription is fine: the value goes nowhere. A full mailbox drops by its own policy and counts it.

        Args:
            topic: Levels joined by /, such as room/kitchen/lamp; 1 to 1,024 bytes of UTF-8 and 32 levels at most, no wildcards.
            value: None, a bool, number, text, bytes, date, list, dict, dataclass, array and so on (docs/payloads.md); a
                Message with an array is sent on as it is.
            retain: Keep it as the topic's last value, for get() and for later subscriptions.
            ttl: Seconds after which it is delivered no more, neither live nor as a kept value. None: no limit.
            headers: A dict that travels with the value.

        Raises:
            TypeError: The value, or an element of it, cannot be published; the text has its path.
            ValueError: It is too deep, too large or malformed.
            OverflowError: An int has more than 64 bits.
            TopicError: The topic is malformed.
            TooBigError: The payload is larger than max_payload, or than 1/16 of the log of a named bus.
            FullError: A subscription with full="refuse" has no room; no subscription got the message.
            LimitError: There is no room for another topic or, with retain, for another value.
            ClosedError: The bus is closed.

        Threads: any; also callbacks, signal handlers and finalizers. Blocks: never for a reader; on a named bus it may wait
        0.1 s for a process that was stopped while it published.
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
        """Publishes bytes as they are, and says what they are.

        Args:
            topic: As in publish().
            data: Bytes, or any object with a contiguous buffer; a str is sent as UTF-8.
            encoding: What msg.value reads them as: untagged, msgpack, bytes, json or text.
            retain: Keep it as the topic's last value. With empty data: delete that value.
            ttl: Seconds after which it is delivered no more. None: no limit.
            headers: A dict that travels with the bytes.

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
        """Every topic that the filter matches, now and later, keeps its last messages, retained or not. A new subscription gets
        them first, with msg.kept True.

        Lasts as long as the bus. Of several filters that match a topic the largest numbers count. Publishing on such a topic
        costs more, also without a subscriber.

        Args:
            topic_filter: Which topics.
            last: Messages of each topic, at most 10,000.
            max_bytes: Bytes of their payloads, of each topic. 0: 1 MiB. The newest stays, whatever its size.

        Raises:
            FilterError: The filter is malformed.
            LimitError: A number is above its bound, or 256 filters keep already.
            NotSupportedError: The bus has a name: its log keeps messages, for start=.

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
        """Replies to a question, as often as you like. @bus.serve does it by itself.

        Args:
            question: A Message whose `question` is True.
            value: As in publish().
            headers: A dict that travels with the reply.

        Raises:
            ArgumentError: The message asks nothing.
            TypeError: The value cannot be published.
            ClosedError: The bus is closed.

        A reply to a question that has been given up is counted in stats() as late_replies.

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
        """Counters of all mailboxes that the bus has had, those of links included.

        Threads: any. Blocks: never.
        """
    def log_stats(self) -> LogStats:
        """How full the log of a named bus is, and which processes are on the bus.

        Raises:
            NotSupportedError: The bus has no name.
            TransportError: The log is damaged.

        Threads: any. Blocks: never.
        """
    def explain(self, topic: str, /) -> str:
        """Who gets a message on the topic, who does not, and why: one fact a line, for people.

        On a bus with a name it tells of all processes, also of stopped ones. The words may change between versions. Nothing is
        sent. The topic may be one of the bus itself, $bus/...

        Raises:
            TopicError: The topic is malformed.

        Threads: any. Blocks: never, but it looks at every filter and, on a named bus, reads a file of each process.
        """
    def explain_peers(self) -> str:
        """Lists the connected peers, and the peers that were refused something, with reasons: one fact a line, for people.

        It covers the last 32 refused peers: the reason, what to do, how often and when (UTC). On a bus with a name it covers the
        links of all processes, up to a second old. The words may change between versions; programs subscribe to $bus/refused.

        Threads: any. Blocks: never.
        """
    def describe(self) -> str:
        """What a bus with a name is, for people: its log, how full that is, and the processes on it.

        The words may change between versions; log_stats() is for programs.

        Threads: any. Blocks: never.
        """
