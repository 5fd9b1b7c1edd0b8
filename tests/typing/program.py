"""Uses each public call of libbus, and says what a type checker has to make of it. It also runs.

tests/python/test_typing.py runs it, looks whether a public name is missing, and has mypy check it; `./dev types` has pyright do so.
"""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, TypedDict

from typing_extensions import assert_type

import libbus
import libbus.logging
import libbus.testing


@dataclass
class Reading:
    celsius: float


class Limits(TypedDict):
    low: float


def subscribe(bus: libbus.Bus) -> None:
    with bus.subscribe("a", "b", max_bytes=4096) as sub:
        assert_type(sub, libbus.Subscription[Any])
        bus.publish("a", {"n": [1, 2.5, None]}, retain=True)
        bus.publish_raw("b", b"text", encoding="text", headers={"k": 1}, ttl=60)
        for msg in sub.iter(timeout=0):
            assert_type(msg, libbus.Message[Any])
            look(msg)
        assert_type(sub.filters, tuple[str, ...])
        sub.unsubscribe("a")
        sub.subscribe("c")
        bus.publish("c", 1)
        assert_type(sub.recv(timeout=1).value, Any)
        assert_type(sub.recv_nowait(), libbus.Message[Any] | None)
        assert_type(sub.fileno(), int)
        assert_type(sub.closed, bool)
        assert_type(sub.bus, libbus.Bus)
        assert_type(sub.group, str | None)
        stats = sub.stats()
        assert_type(stats["lost_by"]["full"] + stats["lost_by"]["lapped"], int)
    with bus.subscribe("a", group="g", type=Reading, full="latest") as shared:
        assert_type(shared, libbus.Subscription[Reading])
    for _ in sub:
        raise AssertionError("it is closed")


def look(msg: libbus.Message) -> None:
    assert_type(msg.topic, str)
    assert_type(msg.data, bytes)
    assert_type(msg.value, Any)
    assert_type(msg.headers, dict[Any, Any])
    assert_type(msg.encoding, Literal["untagged", "msgpack", "bytes", "json", "text"])
    assert_type(msg.lost, int)
    assert_type(msg.lost_unknown, bool)
    assert_type(msg.kept, bool)
    assert_type(msg.time, float | None)
    assert_type(msg.position, int | None)
    assert_type(msg.ttl, float | None)
    assert_type(msg.question, bool)
    assert_type(msg.json(), str)


def typed(bus: libbus.Bus) -> None:
    bus.publish("t", Reading(1.5), retain=True)
    readings = bus.subscribe("t", type=Reading)
    assert_type(readings, libbus.Subscription[Reading])
    assert_type(readings.recv(), libbus.Message[Reading])
    for reading in readings.iter(0):
        assert_type(reading, libbus.Message[Reading])
    bus.publish("low", {"low": 0.5}, retain=True)
    assert_type(bus.subscribe("low", type=Limits).recv().value["low"], float)
    bus.publish("list", [1], retain=True)
    assert_type(bus.subscribe("list", type=list[int]).recv().value, list[int])
    assert_type(bus.wait("t", type=Reading).value, Reading)
    assert_type(bus.wait("t", 1, kept=True), libbus.Message[Any])
    if (kept := bus.get("t", type=Reading)) is not None:
        assert_type(kept.value.celsius, float)
    assert_type(bus.get("t"), libbus.Message[Any] | None)
    assert_type(bus.get("nothing", default=1), libbus.Message[Any] | int)
    bus.keep("k/#", last=2, max_bytes=1000)


def callbacks(bus: libbus.Bus) -> None:
    @bus.on("on/a", "on/b")
    def heard(msg: libbus.Message) -> int:
        return msg.lost

    assert_type(heard(bus.wait("t")), int)

    @bus.on("on/c", type=Reading, workers=2)
    def read(msg: libbus.Message[Reading]) -> float:
        return msg.value.celsius

    assert_type(bus.on("on/d", heard)(bus.wait("t")), int)
    handle = bus.subscribe("on/e", callback=heard)
    assert_type(handle, libbus.Callback)
    assert_type(handle.filters, tuple[str, ...])
    assert_type(handle.stats()["offered"], int)
    handle.close()
    assert_type(handle.closed, bool)
    assert_type(bus.subscribe("on/f", callback=heard, workers=2), libbus.Callback)
    with bus.subscribe("on/g", callback=read, type=Reading):
        bus.flush(timeout=10)


def requests(bus: libbus.Bus) -> None:
    @bus.serve("double")
    def double(msg: libbus.Message) -> int:
        return 2 * int(msg.value)

    @bus.serve("fail", type=int)
    def fail(msg: libbus.Message[int]) -> None:
        raise ValueError(msg.value)

    reply = bus.request("double", 4, timeout=60)
    assert_type(reply, libbus.Reply)
    assert_type(reply.answered, bool)
    asked: libbus.Message = reply
    assert asked.value == 8
    try:
        bus.request("fail", 1, timeout=60)
    except libbus.ReplyError as error:
        assert_type(error.reply, libbus.Message[Any])
    with bus.subscribe("by hand") as questions:
        # For a moment, so without a thread: nobody replies.
        try:
            bus.request("by hand", 1, timeout=0)
        except libbus.BusTimeoutError as error:
            assert_type(error.topic, str | None)
            assert_type(error.address, str | None)
            assert_type(error.code, int)
            assert_type(error.name, str)
        question = questions.recv_nowait()
        if question is not None and question.question:
            bus.reply(question, "late", headers={"k": 1})


def publishers(bus: libbus.Bus) -> None:
    with bus.publisher("p", wait=None, retain=True, ttl=60, headers={"n": 1}) as publisher:
        assert_type(publisher, libbus.Publisher)
        publisher.send(1)
        sent: int = publisher.send_many(n for n in range(3))
        assert sent == 3
        assert_type(publisher.topic, str)
        assert_type(publisher.wait, float | None)
        assert_type(publisher.bus, libbus.Bus)
    assert_type(publisher.closed, bool)


def jobs(bus: libbus.Bus) -> None:
    for item in bus.progress("job/1", [1, 2]):
        assert_type(item, int)
    with bus.progress("job/2", total=3, interval=1) as job:
        assert_type(job, libbus.Progress[Any])
        job.advance()
        job.done = 2
        job.total = 4
        job.note("reading")
        assert_type(job.topic, str)
        assert_type(job.state, Literal["running", "done", "failed", "stopped"])
        assert_type(job.value(), libbus.ProgressValue)
        assert_type(job.value()["eta"], float | None)
    bus.progress("job/3", 3.5).close()
    bus.progress("job/4").fail("no file")


def around(bus: libbus.Bus) -> None:
    with libbus.testing.record(bus, "r/#") as heard:
        bus.publish("r/1", 1)
        assert_type(heard.wait(1), libbus.testing.Messages)
    libbus.logging.Handler(bus, topic="logs", level="INFO").close()


def links(bus: libbus.Bus) -> None:
    with bus.listen("inproc://typing", heartbeat=1, max_peers=2, max_bytes=4096) as link:
        assert_type(link, libbus.Link)
        assert_type(link.state == "up", bool)
        assert_type(link.url, str)
        assert_type(link.stats()["ended"]["gone"], int)
        link.reload()
        with libbus.Bus() as other:
            other.dial(
                link.url, peer_bytes=4096, user="me", password="word", allow_lan=True
            ).close()
    assert_type(link.closed, bool)


def named(folder: str) -> None:
    will = libbus.Will("w", 1, retain=True)
    with libbus.Bus("typing", directory=folder, will=will, on_fork="close") as bus:
        assert_type(bus.name, str | None)
        bus.publish("a", 1)
        moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
        starts = [libbus.oldest(), libbus.last(2), libbus.since(moment), libbus.since(1.7e9)]
        starts.append(libbus.after(1, bus.epoch))
        assert_type(starts, list[libbus.Start])
        for start in starts:
            with bus.subscribe("a", start=start) as past:
                assert_type(past.recv_nowait(), libbus.Message[Any] | None)
        assert_type(bus.log_stats()["messages_left"], int)
        assert_type(bus.log_stats()["members"][0]["alive"], bool)
        assert_type(bus.explain("a"), str)
        assert_type(bus.explain_peers(), str)
        assert_type(bus.describe(), str)
        with bus.role("typing", timeout=1) as role:
            assert_type(role, libbus.Role)
            assert_type(role.name, str)
            assert_type(role.bus, libbus.Bus)
        assert_type(role.closed, bool)


def values() -> None:
    assert_type(libbus.packb({"a": 1}), bytes)
    assert libbus.unpackb(bytearray(libbus.packb([1]))) == [1]
    assert_type(libbus.Ext(1, b"x").data, bytes)
    libbus.filter_check("a/#")
    assert_type(libbus.filter_covers("a/#", "a"), bool)
    assert_type(libbus.__version__, str)


def errors() -> Iterator[type[libbus.BusError]]:
    """All of them; which base each has."""
    timeout: type[TimeoutError] = libbus.BusTimeoutError
    system: type[OSError] = libbus.TransportError
    state: type[RuntimeError] = libbus.StateError
    value: type[ValueError] = libbus.ArgumentError
    assert issubclass(timeout, Exception) and issubclass(system, Exception)
    assert issubclass(state, Exception) and issubclass(value, Exception)
    yield from (libbus.AddressError, libbus.ClosedError, libbus.DecodeError, libbus.FilterError)
    yield from (libbus.ForkError, libbus.FullError, libbus.LimitError, libbus.NobodyError)
    yield from (libbus.NotSupportedError, libbus.TooBigError, libbus.TopicError, libbus.ReplyError)


async def in_a_loop() -> None:
    async with libbus.Bus() as bus, bus.publisher("p") as publisher, bus.subscribe("p") as sub:
        assert_type(sub, libbus.Subscription[Any])

        @bus.serve("triple")
        async def triple(msg: libbus.Message) -> int:
            return 3 * int(msg.value)

        async def show(msg: libbus.Message) -> None:
            look(msg)

        async with bus.subscribe("p", callback=show) as handle:
            assert_type(handle, libbus.Callback)
            await publisher.send(1)
            assert_type(await publisher.send_many([1]), int)
        async for msg in sub:
            assert_type(msg.lost, int)
            break
        assert_type(await anext(sub), libbus.Message[Any])
        reply = await bus.request("triple", 1)
        assert_type(reply, libbus.Reply)
        assert_type(reply.topic, str)


def main(folder: str) -> None:
    values()
    assert all(issubclass(kind, libbus.BusError) for kind in errors())
    with libbus.Bus(max_topics=100, max_payload=100_000) as bus:
        subscribe(bus)
        typed(bus)
        callbacks(bus)
        requests(bus)
        publishers(bus)
        jobs(bus)
        around(bus)
        links(bus)
        assert_type(bus.stats()["lost"], int)
        assert_type(bus.closed, bool)
    assert_type(bus.close(timeout=1), int)
    named(folder)
    asyncio.run(in_a_loop())


if __name__ == "__main__":
    main(sys.argv[1])
