"""Callbacks that are async functions, and async with: on the event loop in which they were registered."""

import asyncio
import collections
import gc
import logging
import threading
import time
import weakref

import pytest
from patience import WATCHDOG

import libbus
from libbus._callbacks import with_callbacks


@pytest.fixture(params=["private", "named"])
def bus(request, tmp_path):
    place = {} if request.param == "private" else {"name": "test", "directory": tmp_path}
    with libbus.Bus(**place) as bus:
        yield bus


async def becomes(condition):
    deadline = time.monotonic() + WATCHDOG
    while not condition():
        assert time.monotonic() < deadline, "never became true"
        await asyncio.sleep(0.001)


def test_an_async_callback_runs_on_the_loop_in_order_one_at_a_time(bus):
    async def main():
        seen, inside = [], 0

        @bus.on("a/#")
        async def handle(msg):
            nonlocal inside
            inside += 1
            assert inside == 1
            assert threading.current_thread() is threading.main_thread()
            await asyncio.sleep(0 if msg.value % 7 else 0.001)
            seen.append(msg.value)
            inside -= 1

        for n in range(200):
            bus.publish(f"a/{n % 3}", n)
        await asyncio.to_thread(bus.flush, WATCHDOG)
        assert seen == list(range(200))

    asyncio.run(main())


def test_with_workers_topics_are_handled_side_by_side_and_each_in_order(bus):
    async def main():
        seen, inside, together = collections.defaultdict(list), set(), 0

        async def handle(msg):
            nonlocal together
            assert msg.topic not in inside
            inside.add(msg.topic)
            together = max(together, len(inside))
            await asyncio.sleep(0.0001)
            seen[msg.topic].append(msg.value)
            inside.remove(msg.topic)

        async with bus.subscribe("a/+", callback=handle, workers=4) as handler:
            for n in range(50):
                for topic in range(5):
                    bus.publish(f"a/{topic}", n)
            await asyncio.to_thread(bus.flush, WATCHDOG)
            assert seen == {f"a/{topic}": list(range(50)) for topic in range(5)}
            assert together == 4
        assert handler.closed

    asyncio.run(main())


def test_a_slow_topic_does_not_delay_the_others(bus):
    async def main():
        go_on, seen = asyncio.Event(), []

        async def handle(msg):
            if msg.topic == "job/slow":
                await go_on.wait()
            seen.append(msg.topic)

        bus.on("job/+", handle, workers=2)
        for topic in ["slow"] * 3 + ["quick"] * 3:
            bus.publish(f"job/{topic}", None)
        await becomes(lambda: len(seen) == 3)
        assert seen == ["job/quick"] * 3
        go_on.set()
        await asyncio.to_thread(bus.flush, WATCHDOG)
        assert seen == ["job/quick"] * 3 + ["job/slow"] * 3

    asyncio.run(main())


def test_questions_are_answered_by_async_functions(bus, caplog):
    async def main():
        @bus.serve("double")
        async def double(msg):
            await asyncio.sleep(0)
            return 2 * msg.value

        @bus.serve("fails")
        async def fails(msg):
            raise LookupError("no such room")

        @bus.serve("both")
        async def both(msg):
            return (await bus.request("double", msg.value, timeout=WATCHDOG)).value + 1

        assert (await bus.request("both", 4, timeout=WATCHDOG)).value == 9
        assert (await asyncio.to_thread(bus.request, "double", 4, timeout=WATCHDOG)).value == 8
        with pytest.raises(libbus.ReplyError, match="LookupError: no such room"):
            await bus.request("fails", 1, timeout=WATCHDOG)

    asyncio.run(main())
    assert "no such room" in caplog.text


def test_an_exception_is_logged_and_the_next_message_is_handled(bus, caplog):
    async def main():
        seen = []

        @bus.on("a")
        async def handle(msg):
            seen.append(msg.value)
            if msg.value == 1:
                raise LookupError("no such room")
            if msg.value == 2:
                task = asyncio.ensure_future(asyncio.sleep(WATCHDOG))
                task.cancel()
                await task

        for n in range(4):
            bus.publish("a", n)
        with caplog.at_level(logging.ERROR, "libbus"):
            await asyncio.to_thread(bus.flush, WATCHDOG)
        if hasattr(asyncio.Task, "cancelling"):
            assert seen == [0, 1, 2, 3]

    asyncio.run(main())
    assert "no such room" in caplog.text


def test_the_options_of_a_callback_are_those_of_an_async_one(tmp_path):
    async def main():
        with libbus.Bus("test", directory=tmp_path) as bus:
            for n in range(5):
                bus.publish("a", n)
            seen = []

            async def handle(msg):
                seen.append(msg.value)

            handler = bus.subscribe("a", callback=handle, start=libbus.last(3), type=float)
            assert repr(handler).startswith("<libbus.Callback test_the_options")
            await asyncio.to_thread(bus.flush, WATCHDOG)
            assert seen == [2.0, 3.0, 4.0]
            assert handler.stats()["delivered"] == 3
            handler.close()
            assert handler.stats()["delivered"] == 3
            with pytest.raises(ValueError, match="workers=0"):
                bus.on("a", handle, workers=0)
            with pytest.raises(libbus.FilterError):
                bus.on("a/#/b", handle)
            assert bus not in with_callbacks

    asyncio.run(main())


@pytest.mark.parametrize("where", ["inside", "beside", "on another thread"])
def test_close_of_the_callback_ends_its_calls(bus, where):
    async def main():
        seen = []

        async def handle(msg):
            seen.append(msg.value)
            if where == "inside":
                handler.close()

        handler = bus.subscribe("a", callback=handle)
        bus.publish("a", 1)
        await becomes(lambda: seen)
        if where == "beside":
            handler.close()
        elif where == "on another thread":
            await asyncio.to_thread(handler.close)
        await becomes(lambda: len(asyncio.all_tasks()) == 1)
        assert handler.closed
        bus.publish("a", 2)
        await asyncio.sleep(0)
        assert seen == [1]

    asyncio.run(main())


def test_a_callback_ends_with_its_loop_and_the_next_loop_has_its_own(bus):
    async def main(value):
        seen = []

        async def handle(msg):
            seen.append(msg.value)

        handler = bus.subscribe("a", callback=handle)
        bus.publish("a", value)
        await becomes(lambda: seen == [value])
        return handler

    for value in range(3):
        handler = asyncio.run(main(value))
        assert handler.closed
        assert bus not in with_callbacks
        bus.publish("a", "nobody")
        bus.flush(WATCHDOG)


def test_async_with_lets_callbacks_finish():
    async def main():
        seen = []

        async def handle(msg):
            await asyncio.sleep(0.001)
            seen.append(msg.value)

        async with libbus.Bus() as bus:
            bus.on("a", handle)
            async with bus.subscribe("a") as sub, bus.publisher("a") as jobs:
                for n in range(10):
                    jobs.send(n)
                assert (await anext(sub)).value == 0
            assert sub.closed
            assert jobs.closed
        assert bus.closed
        assert seen == list(range(10))

    asyncio.run(main())


def test_a_role_ends_with_async_with(tmp_path):
    async def main():
        async with libbus.Bus("test", directory=tmp_path) as bus:
            async with bus.role("a", timeout=0) as role:
                assert not role.closed
            assert role.closed

    asyncio.run(main())


def test_close_on_the_thread_of_the_loop_does_not_wait_for_its_callbacks(bus):
    async def main():
        go_on, seen = asyncio.Event(), []

        async def handle(msg):
            seen.append(msg.value)
            await go_on.wait()

        bus.on("a", handle, workers=2)
        for n in range(5):
            bus.publish("a", n)
        await becomes(lambda: seen)
        left = bus.close(None)  # with no limit: it must not wait for what this thread would do
        go_on.set()
        await becomes(lambda: len(asyncio.all_tasks()) == 1)
        assert seen == [0]
        assert left in (0, 1, 4)  # on a named bus what waits in the log is not counted

    asyncio.run(main())


def test_a_busy_topic_leaves_other_tasks_their_turn(bus):
    async def main():
        seen, ticks = 0, 0

        async def handle(msg):
            nonlocal seen
            seen += 1
            bus.publish("a", None)  # never empty

        handler = bus.subscribe("a", callback=handle)
        bus.publish("a", None)
        while ticks < 50:
            await asyncio.sleep(0)
            ticks += 1
        handler.close()
        assert 0 < seen <= 64 * 60

    asyncio.run(main())


def test_a_bus_with_an_async_callback_lives_and_one_without_is_collected():
    async def main():
        seen = []

        async def handle(msg):
            seen.append(msg.value)

        bus = libbus.Bus()
        handler = bus.subscribe("a", callback=handle)
        gone = weakref.ref(bus)
        del bus, handler
        gc.collect()
        gone().publish("a", 1)
        await becomes(lambda: seen)
        gone().close()
        await becomes(lambda: len(asyncio.all_tasks()) == 1)
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None

    asyncio.run(main())


def test_an_interpreter_that_ends_with_async_callbacks_is_silent(python):
    python("""if True:
        import asyncio, libbus
        bus = libbus.Bus()
        async def main():
            @bus.on("a")
            async def handle(msg):
                await asyncio.sleep(0.001)
            for n in range(10):
                bus.publish("a", n)
            await asyncio.sleep(0.003)
        asyncio.run(main())
        """)
