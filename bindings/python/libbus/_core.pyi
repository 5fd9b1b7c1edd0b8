from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
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
)
from uuid import UUID

from _typeshed import DataclassInstance
from typing_extensions import Buffer, Self, TypeVar

_T = TypeVar("_T")
_V_co = TypeVar("_V_co", covariant=True, default=Any)

VERSION: str
ERRORS: tuple[tuple[int, str, str, type[Exception]], ...]

def error(code: int, subject: str | None = None, /) -> Exception: ...
def _wait_with(
    modules: tuple[str, ...], function: Callable[[int, float | None], bool], /
) -> None: ...
def packb(value: Value, /) -> bytes: ...
def unpackb(data: Buffer, /) -> Any: ...
def filter_check(topic_filter: str, /) -> None: ...
def filter_covers(topic_filter: str, other: str, /) -> bool: ...

class BusError(Exception):
    code: int
    name: str
    topic: str | None
    address: str | None
    sent: int  # only of Publisher.send_many()

class ClosedError(BusError): ...
class FullError(BusError): ...
class BusTimeoutError(BusError, TimeoutError): ...
class StateError(BusError, RuntimeError): ...
class ForkError(BusError, RuntimeError): ...
class LimitError(BusError): ...
class NotSupportedError(BusError): ...
class ArgumentError(BusError, ValueError): ...
class TopicError(BusError, ValueError): ...
class FilterError(BusError, ValueError): ...
class TooBigError(BusError, ValueError): ...
class AddressError(BusError, ValueError): ...
class TransportError(BusError, OSError): ...
class NobodyError(BusError): ...
class DecodeError(BusError, ValueError): ...

class LostBy(TypedDict):
    full: int
    replaced: int
    expired: int
    unsubscribed: int
    closed: int
    lapped: int
    link: int

class Stats(TypedDict):
    offered: int
    delivered: int
    pending: int
    refused: int
    lost: int
    late_replies: int
    lost_by: LostBy

class Member(TypedDict):
    number: int
    pid: int
    this: bool
    alive: bool

class LogStats(TypedDict):
    log_bytes: int
    segments: int
    messages: int
    messages_left: int
    oldest: int
    values_bytes: int
    values_most: int
    values_count: int
    values_count_most: int
    readers: int
    readers_most: int
    processes: int
    processes_most: int
    members: list[Member]

class LinkEnds(TypedDict):
    closed: int
    gone: int
    silent: int
    not_libbus: int
    version: int
    protocol: int
    too_big: int
    denied: int

class LinkStats(TypedDict):
    state: Literal["up", "down"]
    peers: int
    last_error: str | None
    sent: int
    received: int
    lost: int
    lost_by_peers: int
    refused: int
    ended: LinkEnds

class Ext(NamedTuple):
    """A msgpack extension: its number, -128 to 127, and its bytes."""

    code: int
    data: bytes

Policy: TypeAlias = Literal["drop_oldest", "drop_newest", "latest", "refuse"]
Encoding: TypeAlias = Literal["untagged", "msgpack", "bytes", "json", "text"]

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
    @property
    def topic(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def value(self) -> _V_co: ...
    @property
    def headers(self) -> dict[Any, Any]: ...
    @property
    def encoding(self) -> Encoding: ...
    @property
    def lost(self) -> int: ...
    @property
    def lost_unknown(self) -> bool: ...
    @property
    def kept(self) -> bool: ...
    @property
    def time(self) -> float | None: ...
    @property
    def position(self) -> int | None: ...
    @property
    def ttl(self) -> float | None: ...
    @property
    def question(self) -> bool: ...
    def json(self) -> str: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def _plain(self) -> Any: ...
    def _as(self, reader: Callable[[Message], Any] | None, /) -> Message: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

class Reply(Message[_V_co]):
    def __new__(cls, topic: str) -> Self: ...
    @property
    def answered(self) -> bool: ...
    def _fill(self, message: Message, /) -> None: ...

@final
class Question:
    def fileno(self) -> int: ...
    def take(self) -> Message | None: ...
    def close(self) -> None: ...

@final
class Link:
    @property
    def url(self) -> str: ...
    @property
    def state(self) -> Literal["up", "down"]: ...
    @property
    def closed(self) -> bool: ...
    def stats(self) -> LinkStats: ...
    def close(self) -> None: ...
    def _then(self, function: Callable[[], None], /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

class Role:
    def __new__(cls, bus: Bus, name: str, *, timeout: float | None = None) -> Self: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...

class Publisher:
    def __new__(cls, bus: Bus, topic: str, *, wait: float | None = 0.0) -> Self: ...
    @property
    def topic(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def send(self, value: Value, /) -> Awaitable[None]: ...
    def send_many(self, values: Iterable[Value], /) -> int: ...
    def close(self) -> None: ...
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
    def closed(self) -> bool: ...
    def subscribe(self, topic_filter: str, /) -> None: ...
    def recv(self, timeout: float | None = None) -> Message[_V_co]: ...
    def recv_nowait(self) -> Message[_V_co] | None: ...
    def fileno(self) -> int: ...
    def stats(self) -> Stats: ...
    def close(self) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Message[_V_co]: ...
    def unsubscribe(self, topic_filter: str, /) -> None: ...
    def _attach(self, topic_filter: str, key: int, /) -> None: ...
    def _detach(self, key: int, /) -> None: ...
    def _take(self) -> list[Message]: ...
    def _goal(self) -> int: ...
    def _reached(self) -> tuple[int, bool]: ...

class Work:
    def __new__(cls, mailbox: Mailbox, workers: int) -> Self: ...
    def next(self, worker: int, /) -> Message | None: ...
    def flush(self, due: int, timeout: float | None, /) -> bool: ...
    def close(self) -> int: ...

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
    def closed(self) -> bool: ...
    @property
    def epoch(self) -> int: ...
    def publish(
        self,
        topic: str,
        value: Value,
        *,
        retain: bool = False,
        ttl: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> None: ...
    def publish_raw(
        self,
        topic: str,
        data: Buffer | str,
        *,
        encoding: Encoding = "untagged",
        retain: bool = False,
        ttl: float | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> None: ...
    @overload
    def get(self, topic: str, /) -> Message | None: ...
    @overload
    def get(self, topic: str, /, default: _T) -> Message | _T: ...
    def keep(self, topic_filter: str, /, *, last: int = 1, max_bytes: int = 0) -> None: ...
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
    ) -> None: ...
    def listen(
        self,
        url: str,
        *,
        heartbeat: float | None = None,
        max_peers: int = 0,
        max_bytes: int = 0,
        peer_bytes: int = 0,
    ) -> Link: ...
    def dial(
        self,
        url: str,
        *,
        heartbeat: float | None = None,
        max_peers: int = 0,
        max_bytes: int = 0,
        peer_bytes: int = 0,
    ) -> Link: ...
    def flush(self, timeout: float | None = None) -> None: ...
    def close(self, timeout: float | None = 1.0) -> int: ...
    def _adopt(self, other: Bus, /) -> None: ...
    def stats(self) -> Stats: ...
    def log_stats(self) -> LogStats: ...
    def explain(self, topic: str, /) -> str: ...
    def describe(self) -> str: ...
