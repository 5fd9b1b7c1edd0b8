"""Publishers: many messages on one topic, slowed down by a subscription that loses nothing."""

import asyncio
import contextlib
import itertools
import signal
import threading
import time

import pytest
from patience import WATCHDOG

import libbus

SMALLEST = 4096  # bytes of the smallest mailbox


@pytest.fixture
def refusing(bus):
    """A subscription that loses nothing and holds little."""
    return bus.subscribe("jobs", full="refuse", max_bytes=SMALLEST)


def fill(bus):
    with bus.publisher("jobs") as jobs, pytest.raises(libbus.FullError) as caught:
        jobs.send_many(itertools.count())
    return caught.value.sent


@pytest.fixture
def ringing():
    """Calls a function in a signal handler, again and again."""
    before = signal.getsignal(signal.SIGALRM)

    def start(function):
        signal.signal(signal.SIGALRM, lambda number, frame: function())
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("named", [False, True])
def test_a_publisher_sends_values_in_order(tmp_path, named):
    place = {"name": "test", "directory": tmp_path} if named else {}
    with libbus.Bus(**place) as bus, bus.publisher("room/lamp") as lamp:
        assert (lamp.topic, lamp.bus, lamp.wait, lamp.closed) == ("room/lamp", bus, 0, False)
        with bus.subscribe("room/#") as rooms:
            lamp.send({"on": True})
            assert lamp.send_many(n for n in range(100)) == 100
            assert lamp.send_many([]) == 0
            got = [rooms.recv(WATCHDOG) for _ in range(101)]
    assert [msg.value for msg in got] == [{"on": True}, *range(100)]
    assert {msg.topic for msg in got} == {"room/lamp"}


def test_sends_that_wait_lose_nothing(bus, refusing):
    sent, got = 3000, []
    reader = threading.Thread(target=lambda: got.extend(msg.value for msg in refusing))
    reader.start()
    with bus.publisher("jobs", wait=None) as jobs:
        for n in range(sent):
            jobs.send(n)
        assert jobs.send_many(range(sent, 2 * sent)) == sent
    while refusing.stats()["pending"]:
        time.sleep(0.001)
    refusing.close()
    reader.join(WATCHDOG)
    assert got == list(range(2 * sent))
    assert bus.stats()["refused"] == bus.stats()["lost"] == 0


def test_threads_may_share_a_publisher(bus, refusing):
    sent, got = 1000, []
    with bus.publisher("jobs", wait=WATCHDOG) as jobs:
        threads = [
            threading.Thread(target=lambda who=who: [jobs.send([who, n]) for n in range(sent)])
            for who in range(4)
        ]
        for thread in threads:
            thread.start()
        while len(got) < 4 * sent:
            got.append(refusing.recv(WATCHDOG).value)
        for thread in threads:
            thread.join(WATCHDOG)
    for who in range(4):
        assert [n for sender, n in got if sender == who] == list(range(sent))


def test_a_send_without_room_in_time_raises_once_and_counts_once(bus, refusing):
    held = fill(bus)
    assert refusing.stats()["refused"] == 1
    with bus.publisher("jobs", wait=0.2) as jobs:
        start = time.monotonic()
        with pytest.raises(libbus.FullError, match=r"^jobs: ") as caught:
            jobs.send("late")
        assert time.monotonic() - start >= 0.2
        assert caught.value.topic == "jobs"
    assert refusing.stats()["refused"] == 2
    assert [msg.value for msg in refusing.iter(timeout=0)] == list(range(held))


def test_the_exception_of_send_many_has_the_number_sent(bus):
    with bus.subscribe("jobs") as got, bus.publisher("jobs") as jobs:
        with pytest.raises(TypeError, match="jobs: cannot publish range") as caught:
            jobs.send_many([1, 2, range(3), 4])
        assert caught.value.sent == 2

        def failing():
            yield from range(100)
            raise LookupError("no more")

        with pytest.raises(LookupError, match="no more") as caught:
            jobs.send_many(failing())
        assert caught.value.sent == 100
        assert [msg.value for msg in got.iter(timeout=0)] == [1, 2, *range(100)]


def test_send_many_takes_several_values(bus):
    with bus.publisher("jobs") as jobs:
        for one in ("text", b"bytes", {"a": 1}, 7):
            with pytest.raises(TypeError):
                jobs.send_many(one)
        with pytest.raises(libbus.TooBigError):
            jobs.send(bytes(2 << 20))


def test_large_values_arrive_whole(bus):
    with bus.subscribe("jobs", max_bytes=32 << 20) as got, bus.publisher("jobs") as jobs:
        values = [bytes([n]) * 200_000 for n in range(50)]
        assert jobs.send_many(values) == 50
        assert [msg.value for msg in got.iter(timeout=0)] == values


def test_close_ends_a_send_that_waits(bus, refusing):
    fill(bus)
    for end in (libbus.Publisher.close, lambda jobs: jobs.bus.close()):
        jobs, raised = bus.publisher("jobs", wait=None), []

        def send(jobs=jobs, raised=raised):
            try:
                jobs.send("late")
            except libbus.ClosedError as error:
                raised.append(error.topic)

        thread = threading.Thread(target=send)
        thread.start()
        thread.join(0.05)
        end(jobs)
        thread.join(WATCHDOG)
        assert raised == ["jobs"]
        with pytest.raises(libbus.ClosedError):
            jobs.send(1)
        jobs.close()


def test_an_exception_in_a_signal_handler_ends_a_send_that_waits(bus, refusing, ringing):
    fill(bus)
    begun = []

    def interrupt():
        if begun:
            signal.setitimer(
                signal.ITIMER_REAL, 0
            )  # once: a second one would end the test, or pytest
            raise KeyboardInterrupt

    def values():
        begun.append(True)
        yield "late"

    with bus.publisher("jobs", wait=None) as jobs:
        ringing(interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            jobs.send_many(values())
        assert caught.value.sent == 0


def test_a_signal_handler_may_use_the_publisher_that_it_interrupts(bus, refusing, ringing):
    fill(bus)
    seen = []

    def handle():
        if len(seen) == 3:
            jobs.close()
        else:
            seen.append(refusing.recv_nowait().value)
            jobs.send("in between")

    jobs = bus.publisher("jobs", wait=None)
    ringing(handle)
    with pytest.raises(libbus.ClosedError):
        jobs.send_many(itertools.repeat("late"))
    assert seen == [0, 1, 2]


def test_a_callback_does_not_wait_for_itself(bus, refusing):
    raised = []
    with bus.publisher("jobs", wait=None) as jobs:

        @bus.on("start")
        def started(msg):
            try:
                jobs.send_many(itertools.count())
            except libbus.FullError as error:
                raised.append(error.sent)

        bus.publish("start", None)
        bus.flush(WATCHDOG)
    assert raised == [refusing.stats()["pending"]]


def test_a_send_in_a_loop_with_room_is_sent_before_it_is_awaited(bus):
    async def main():
        with bus.subscribe("a") as got, bus.publisher("a", wait=None) as publisher:
            assert await publisher.send(1) is None
            publisher.send(2)
            assert await publisher.send_many(range(3, 50)) == publisher.send_many([50]) + 46
            assert [msg.value for msg in got.iter(timeout=0)] == list(range(1, 51))

    asyncio.run(main())


def test_a_send_in_a_loop_waits_for_room_and_the_loop_runs(bus, refusing):
    async def main():
        got = []

        async def drain():
            async for msg in refusing:
                got.append(msg.value)
                if msg.value == "done":
                    return

        task = asyncio.create_task(drain())
        async with bus.publisher("jobs", wait=None) as jobs:
            assert await jobs.send_many(n for n in range(5_000)) == 5_000
            for n in range(5_000, 7_000):
                await jobs.send(n)
            await jobs.send("done")
        await task
        assert got == [*range(7_000), "done"]

    asyncio.run(main())
    assert refusing.stats()["refused"] == 0


def test_a_send_in_a_loop_waits_for_a_thread_that_makes_room(bus, refusing):
    got = []

    def drain():
        for msg in refusing:
            got.append(msg.value)
            if msg.value is None:
                return

    async def main():
        with bus.publisher("jobs", wait=WATCHDOG) as jobs:
            await asyncio.gather(*(jobs.send_many([n] * 300) for n in range(10)))
            await jobs.send(None)

    thread = threading.Thread(target=drain)
    thread.start()
    asyncio.run(main())
    thread.join(WATCHDOG)
    assert sorted(got[:-1]) == [n for n in range(10) for _ in range(300)]


def test_a_send_in_a_loop_without_room_in_time_raises_once_and_counts_once(bus, refusing):
    held = fill(bus)
    before = refusing.stats()["refused"]

    async def main():
        with bus.publisher("jobs", wait=0.02) as jobs:
            with pytest.raises(libbus.FullError, match=r"^jobs: ") as caught:
                await jobs.send("late")
            assert (caught.value.topic, caught.value.sent) == ("jobs", 0)
            refusing.recv_nowait()
            with pytest.raises(libbus.FullError) as caught:
                await jobs.send_many(itertools.count())
            assert caught.value.sent == refusing.stats()["pending"] - held + 1
        with bus.publisher("jobs") as jobs, pytest.raises(libbus.FullError):
            jobs.send("late")

    asyncio.run(main())
    assert refusing.stats()["refused"] == before + 3
    left = [msg.value for msg in refusing.iter(timeout=0)]
    assert left == [*range(1, held), *range(len(left) - held + 1)]


def test_a_cancelled_send_in_a_loop_reports_the_number_sent(bus, refusing):
    async def main():
        got, sent = [], 0
        with bus.publisher("jobs", wait=None) as jobs:
            for _ in range(500):
                task = asyncio.ensure_future(jobs.send_many(itertools.count(sent)))
                await asyncio.sleep(0)
                for _ in range(10):
                    got.append(refusing.recv_nowait().value)
                for _ in range(3):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                sent = len(got) + refusing.stats()["pending"]
        got += [msg.value for msg in refusing.iter(timeout=0)]
        assert got == list(range(sent))

    asyncio.run(main())


def test_the_number_of_a_cancelled_send_is_exact(bus, refusing):
    async def main():
        with bus.publisher("jobs", wait=None) as jobs:
            sending = jobs.send_many(itertools.count())

            async def send():
                await sending

            task = asyncio.create_task(send())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sending.sent == refusing.stats()["pending"]
            with pytest.raises(RuntimeError, match="already awaited"):
                await sending

    asyncio.run(main())


def test_in_a_loop_an_exception_of_the_values_follows_the_values_before(bus, refusing):
    def values(last):
        yield from range(1_000)
        raise last

    async def main():
        with bus.publisher("jobs", wait=None) as jobs:
            got = asyncio.create_task(drain())
            with pytest.raises(LookupError, match="no more") as caught:
                await jobs.send_many(values(LookupError("no more")))
            assert caught.value.sent == 1_000
            with pytest.raises(TypeError, match="jobs: cannot publish range") as caught:
                await jobs.send_many([*range(1_000), range(1)])
            assert caught.value.sent == 1_000
            await jobs.send("done")
            assert await got == [*range(1_000), *range(1_000), "done"]

    async def drain():
        got = []
        async for msg in refusing:
            got.append(msg.value)
            if msg.value == "done":
                return got

    asyncio.run(main())


def test_a_send_without_room_never_awaited_warns(bus, refusing):
    held = fill(bus)

    async def main():
        jobs = bus.publisher("jobs", wait=None)
        with pytest.warns(RuntimeWarning, match="send on 'jobs' was never awaited"):
            jobs.send("late")

    asyncio.run(main())
    assert refusing.stats()["pending"] == held


def test_close_ends_a_send_that_a_task_awaits(bus, refusing):
    fill(bus)

    async def main(end):
        jobs = bus.publisher("jobs", wait=None)

        async def send():
            await jobs.send("late")

        task = asyncio.create_task(send())
        await asyncio.sleep(0)
        end(jobs)
        with pytest.raises(libbus.ClosedError):
            await task

    for end in (libbus.Publisher.close, lambda jobs: bus.close()):
        asyncio.run(main(end))


def test_a_named_bus_refuses_wait_with_the_reason(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus:
        for wait in (1, None):
            with pytest.raises(libbus.NotSupportedError, match=r"^jobs: wait= is for a private"):
                bus.publisher("jobs", wait=wait)


def test_a_publisher_has_a_repr_and_refuses_bad_arguments(bus):
    jobs = bus.publisher("jobs", wait=5)
    assert repr(jobs) == "<libbus.Publisher jobs wait=5>"
    jobs.close()
    assert repr(jobs) == "<libbus.Publisher jobs wait=5 closed>"
    with pytest.raises(libbus.TopicError):
        bus.publisher("jobs/#")
    with pytest.raises(ValueError, match=r"^wait -1: "):
        bus.publisher("jobs", wait=-1)
    bus.close()
    with pytest.raises(libbus.ClosedError):
        bus.publisher("jobs")


def test_a_forked_child_cannot_send(python):
    out = python("""if True:
        import libbus, os
        with libbus.Bus() as bus, bus.publisher("a", wait=None) as pub:
            if (child := os.fork()) == 0:
                try:
                    pub.send(1)
                except libbus.ForkError:
                    os.write(1, b"fork\\n")
                pub.close()
                del pub
                os._exit(0)
            os.waitpid(child, 0)
            pub.send(1)
        """)
    assert out == "fork\n"


def test_a_publisher_keeps_its_bus_open_and_ends_with_it():
    import gc
    import weakref

    bus = libbus.Bus()
    bus.jobs = bus.publisher("jobs")
    gone = weakref.ref(bus)
    jobs = bus.jobs
    del bus
    gc.collect()
    jobs.send(1)
    del jobs
    gc.collect()
    assert gone() is None


# --- what publish() takes besides the value ---------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True])
def test_each_message_has_the_retain_ttl_and_headers_of_its_publisher(tmp_path, named):
    place = {"name": "test", "directory": tmp_path} if named else {}
    with (
        libbus.Bus(**place) as bus,
        bus.subscribe("room/#") as rooms,
        bus.publisher("room/lamp", retain=True, ttl=60, headers={"by": "lamp"}) as lamp,
    ):
        lamp.send(0)
        assert lamp.send_many(range(1, 100)) == 100 - 1
        got = [rooms.recv(WATCHDOG) for _ in range(100)]
        assert [msg.value for msg in got] == list(range(100))
        assert all(msg.headers == {"by": "lamp"} and 59 < msg.ttl <= 60 for msg in got)
        kept = bus.get("room/lamp")
        assert (kept.value, kept.headers, kept.kept) == (99, {"by": "lamp"}, True)


def test_retained_messages_wait_for_room_too(bus, refusing):
    sent, got = 500, []
    reader = threading.Thread(target=lambda: got.extend(msg.value for msg in refusing))
    with bus.publisher("jobs", wait=0.01, retain=True) as jobs:
        with pytest.raises(libbus.FullError) as caught:
            jobs.send_many(range(sent))
        held = caught.value.sent
        assert refusing.stats()["refused"] == 1
        assert bus.get("jobs").value == held - 1
        reader.start()
    with bus.publisher("jobs", wait=None, retain=True) as jobs:
        assert jobs.send_many(range(held, sent)) == sent - held
        assert bus.get("jobs").value == sent - 1
    while refusing.stats()["pending"]:
        time.sleep(0.001)
    refusing.close()
    reader.join(WATCHDOG)
    assert got == list(range(sent))


def test_retained_messages_wait_for_room_in_a_loop():
    async def main():
        async with (
            libbus.Bus() as bus,
            bus.subscribe("jobs", full="refuse", max_bytes=4096) as jobs,
        ):
            publisher = bus.publisher("jobs", wait=None, retain=True, headers={"n": 1})
            task = asyncio.ensure_future(publisher.send_many(range(300)))
            got = [await anext(jobs) for _ in range(300)]
            assert await task == 300
            assert [msg.value for msg in got] == list(range(300))
            assert all(msg.headers == {"n": 1} for msg in got)

    asyncio.run(main())


def test_a_publisher_refuses_the_values_that_publish_refuses(bus):
    with pytest.raises(ValueError, match=r"ttl=0: give seconds above 0"):
        bus.publisher("a", ttl=0)
    with pytest.raises(TypeError, match="a: headers must be a dict, not list"):
        bus.publisher("a", headers=[1])
    with pytest.raises(TypeError, match="a: cannot publish range at headers"):
        bus.publisher("a", headers={"x": range(3)})
    with bus.subscribe("a") as got, bus.publisher("a", headers={}, ttl=None) as publisher:
        publisher.send(1)
        assert (got.recv(0).headers, publisher.closed) == ({}, False)
