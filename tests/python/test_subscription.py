"""Subscriptions: loops, timeouts, loss, threads, selectors, asyncio."""

import asyncio
import gc
import os
import re
import select
import threading
import time
import warnings

import pytest
from patience import WATCHDOG

import libbus


def test_a_loop_ends_when_the_subscription_is_closed(bus):
    sub, seen = bus.subscribe("a"), []

    def listen():
        seen.extend(msg.value for msg in sub)

    thread = threading.Thread(target=listen)
    thread.start()
    for n in range(3):
        bus.publish("a", n)
    while sub.stats()["delivered"] < 3:
        time.sleep(0.001)
    sub.close()
    thread.join(WATCHDOG)
    assert not thread.is_alive()
    assert seen == [0, 1, 2]


def test_a_loop_ends_when_the_bus_is_closed(bus):
    sub = bus.subscribe("a")
    threading.Timer(0.05, bus.close).start()
    assert list(sub) == []


def test_iter_ends_when_no_message_arrives_in_time(bus):
    sub = bus.subscribe("a")
    for n in range(3):
        bus.publish("a", n)
    assert [msg.value for msg in sub.iter(timeout=0)] == [0, 1, 2]
    sub.close()
    assert list(sub.iter()) == []


def test_recv_times_out_after_the_given_time_and_not_before(bus):
    sub = bus.subscribe("a")
    for timeout in (0, 0.05):
        start = time.monotonic()
        with pytest.raises(libbus.BusTimeoutError) as caught:
            sub.recv(timeout=timeout)
        assert time.monotonic() - start >= timeout
        assert caught.value.name == "BUS_E_TIMEDOUT"


def test_a_message_that_matches_two_filters_is_delivered_once(bus):
    sub = bus.subscribe("a/#", "+/b")
    bus.publish("a/b", 1)
    assert [msg.value for msg in sub.iter(timeout=0)] == [1]
    assert sub.filters == ("a/#", "+/b")


def test_a_filter_may_be_added_later(bus):
    sub = bus.subscribe("a")
    sub.subscribe("b")
    bus.publish("b", 1)
    assert sub.recv(timeout=WATCHDOG).topic == "b"


@pytest.mark.parametrize("full", ["drop_oldest", "drop_newest"])
def test_drops_of_a_full_mailbox_are_counted_on_messages_and_in_stats(bus, full):
    sent = 1000
    with bus.subscribe("a", full=full, max_bytes=4096) as sub:
        for n in range(sent):
            bus.publish("a", n)
        if full == "drop_newest":  # the next message with room has the count of the gap
            first = [sub.recv(timeout=WATCHDOG)]
            bus.publish("a", sent)
            sent += 1
        else:
            first = []
        got = first + list(sub.iter(timeout=0))
        stats = sub.stats()
    assert got[-1].value == sent - 1
    assert 0 < len(got) < sent
    assert sum(msg.lost for msg in got) == sent - len(got)
    assert [msg.value for msg in got] == sorted(msg.value for msg in got)
    assert stats == {
        "offered": sent,
        "delivered": len(got),
        "pending": 0,
        "refused": 0,
        "lost": sent - len(got),
        "late_replies": 0,
        "lost_by": {
            "full": sent - len(got),
            "replaced": 0,
            "expired": 0,
            "unsubscribed": 0,
            "closed": 0,
            "lapped": 0,
            "link": 0,
        },
    }


def test_latest_keeps_the_newest_of_each_topic(bus):
    with bus.subscribe("room/+", full="latest") as rooms:
        for n in range(100):
            bus.publish("room/kitchen", n)
        bus.publish("room/hall", "bright")
        kitchen, hall = rooms.iter(timeout=0)
        assert (kitchen.value, kitchen.lost) == (99, 99)
        assert (hall.value, hall.lost) == ("bright", 0)
        assert rooms.stats()["lost_by"]["replaced"] == 99


def test_refuse_raises_full_at_the_publisher_and_loses_nothing(bus):
    with bus.subscribe("a", full="refuse", max_bytes=4096) as sub:
        sent = 0
        with pytest.raises(libbus.FullError, match=r"^a: .*drain it or raise its bytes"):
            while True:
                bus.publish("a", sent)
                sent += 1
        assert [msg.value for msg in sub.iter(timeout=0)] == list(range(sent))
        assert sub.stats()["refused"] == 1
        bus.publish("a", "there is room again")


def test_a_closed_subscription_raises_closed(bus):
    with bus.subscribe("a") as sub:
        assert repr(sub) == "<libbus.Subscription a>"
    sub.close()
    assert sub.closed and repr(sub) == "<libbus.Subscription a closed>"
    for call in (sub.recv, sub.recv_nowait, sub.fileno, sub.stats, lambda: sub.subscribe("b")):
        with pytest.raises(libbus.ClosedError, match="closed"):
            call()


@pytest.fixture(params=["private", "named"])
def either(request, tmp_path):
    name = None if request.param == "private" else "test"
    with libbus.Bus(name, directory=tmp_path) if name else libbus.Bus() as bus:
        yield bus


def test_a_filter_ends_with_unsubscribe_and_the_others_go_on(either):
    with either.subscribe("a/#", "b", "a/#") as sub:
        either.publish("a/1", 1)
        sub.unsubscribe("a/#")
        assert sub.filters == ("b",)
        assert repr(sub) == "<libbus.Subscription b>"
        either.publish("a/2", 2)
        either.publish("b", 3)
        assert [msg.value for msg in sub.iter(timeout=0)] == [3]
        sub.subscribe("a/2")
        assert sub.filters == ("b", "a/2")
        either.publish("a/2", 4)
        assert sub.recv(timeout=WATCHDOG).value == 4
        sub.unsubscribe("b")
        sub.unsubscribe("a/2")
        either.publish("b", 5)
        assert sub.recv_nowait() is None


def test_waiting_messages_of_an_ended_filter_are_lost_as_unsubscribed(bus):
    with bus.subscribe("a", "b") as sub:
        bus.publish("a", 1)
        bus.publish("b", 2)
        sub.unsubscribe("a")
        assert sub.recv(timeout=WATCHDOG).value == 2
        assert sub.stats()["lost_by"]["unsubscribed"] == 1


def test_only_filters_of_the_subscription_can_end(bus):
    with bus.subscribe("a/#") as sub:
        for other in ("a", "a/+", "#"):
            with pytest.raises(ValueError, match=f"'{re.escape(other)}': not a filter of this sub"):
                sub.unsubscribe(other)
        with pytest.raises(TypeError, match="a filter is a str"):
            sub.unsubscribe(1)
        assert sub.filters == ("a/#",)
    with pytest.raises(libbus.ClosedError):
        sub.unsubscribe("a/#")


def test_threads_may_subscribe_and_unsubscribe_while_another_receives(bus):
    stop = threading.Event()

    def change(name):
        while not stop.is_set():
            sub.subscribe(name)
            sub.unsubscribe(name)

    with bus.subscribe("mark") as sub:
        threads = [threading.Thread(target=change, args=(f"t/{n}",)) for n in range(2)]
        for thread in threads:
            thread.start()
        try:
            for n in range(300):
                bus.publish("t/0", n)
                bus.publish("mark", n)
                while (msg := sub.recv(timeout=WATCHDOG)).topic != "mark":
                    pass
                assert msg.value == n
        finally:
            stop.set()
            for thread in threads:
                thread.join(WATCHDOG)
        assert sub.filters == ("mark",)


def test_a_subscription_keeps_its_bus_open():
    def listen():
        bus = libbus.Bus()
        bus.publish("a", 1, retain=True)
        return bus.subscribe("a")

    sub = listen()
    assert sub.recv(timeout=WATCHDOG).value == 1
    sub.bus.close()


def test_threads_that_share_a_subscription_share_the_messages(bus):
    sent, sub, got = 2000, bus.subscribe("a", max_bytes=1 << 20), []

    def listen():
        got.extend([msg.value for msg in sub])

    threads = [threading.Thread(target=listen) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(sent):
        bus.publish("a", n)
    while sub.stats()["delivered"] < sent:
        time.sleep(0.001)
    sub.close()
    for thread in threads:
        thread.join(WATCHDOG)
    assert sorted(got) == list(range(sent))


# --- descriptors --------------------------------------------------------------------------------------


def is_readable(fd):
    return bool(select.select([fd], [], [], 0)[0])


def test_the_descriptor_is_readable_while_there_are_messages_and_after_the_end(bus):
    sub = bus.subscribe("a")
    fd = sub.fileno()
    assert sub.fileno() == fd and not os.get_inheritable(fd)
    assert sub.recv_nowait() is None
    assert not is_readable(fd)
    bus.publish("a", 1)
    bus.publish("a", 2)
    assert is_readable(fd) and is_readable(fd)
    sub.recv()
    assert is_readable(fd)
    sub.recv()
    assert sub.recv_nowait() is None
    assert not is_readable(fd)
    sub.close()
    assert is_readable(fd)


def test_the_descriptor_is_readable_after_the_bus_has_ended(bus):
    sub = bus.subscribe("a")
    fd = sub.fileno()
    bus.close()
    assert is_readable(fd)


def test_closed_subscriptions_leave_no_descriptors(bus):
    def once():
        with bus.subscribe("a") as sub:
            sub.fileno()

    once()
    before = os.listdir("/proc/self/fd")
    for _ in range(50):
        once()
    assert len(os.listdir("/proc/self/fd")) == len(before)


# --- asyncio ------------------------------------------------------------------------------------------


def run(main):
    return asyncio.run(asyncio.wait_for(main, 30))


def test_async_for_waits_takes_and_ends(bus):
    async def main():
        sub, seen = bus.subscribe("a", max_bytes=1 << 20), []

        async def listen():
            async for msg in sub:
                seen.append(msg.value)

        task = asyncio.create_task(listen())
        for n in range(500):
            bus.publish("a", n)
            if n % 100 == 0:
                await asyncio.sleep(0.001)
        while len(seen) < 500:
            await asyncio.sleep(0.001)
        sub.close()
        await task
        return seen

    assert run(main()) == list(range(500))


def test_async_for_ends_when_another_thread_closes_the_bus(bus):
    async def main():
        sub = bus.subscribe("a")
        threading.Timer(0.05, bus.close).start()
        return [msg async for msg in sub]

    assert run(main()) == []


def test_a_cancelled_wait_loses_nothing(bus):
    async def main():
        sub = bus.subscribe("a")
        for n in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(sub), 0.001)
            bus.publish("a", n)
            assert (await anext(sub)).value == n

    run(main())


def test_tasks_that_share_a_subscription_share_the_messages(bus):
    async def main():
        sub = bus.subscribe("a")
        tasks = [asyncio.create_task(anext(sub)) for _ in range(5)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        for n in range(4):
            bus.publish("a", n)
        got = await asyncio.gather(*tasks[1:])
        return sorted(msg.value for msg in got)

    assert run(main()) == [0, 1, 2, 3]


def test_a_busy_topic_does_not_starve_the_loop(bus):
    async def main():
        sub, turns = bus.subscribe("a"), 0

        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        for n in range(1000):
            bus.publish("a", n)
            await anext(sub)
        task.cancel()
        return turns

    assert run(main()) >= 1000 // 64


def test_objects_of_a_closed_bus_are_closed(bus):
    sub, publisher, link = bus.subscribe("a"), bus.publisher("a"), bus.listen("inproc://closed")
    handle = bus.subscribe("a", callback=print)
    assert not any(each.closed for each in (sub, publisher, link, handle))
    bus.close()
    assert all(each.closed for each in (sub, publisher, link, handle))
    assert repr(sub) == "<libbus.Subscription a closed>"


@pytest.mark.parametrize("method", ["on", "serve"])
def test_decorator_without_a_function_warns(bus, method):
    with pytest.warns(RuntimeWarning, match=rf"bus\.{method}\('a'\) was given no function"):
        getattr(bus, method)("a")


@pytest.mark.parametrize("method", ["on", "serve"])
def test_decorator_that_gets_its_function_is_silent(bus, method):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @getattr(bus, method)("a")
        def function(msg):
            return None

        gc.collect()
