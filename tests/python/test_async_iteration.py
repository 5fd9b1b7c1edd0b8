"""async for and await anext(): cancelled at any moment they lose nothing, and no task starves another."""

import asyncio
import random
import threading
import time

import pytest
from patience import WATCHDOG

import libbus


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    if request.param == "asyncio":
        return asyncio.run
    return pytest.importorskip("uvloop").run


@pytest.fixture(params=["private", "named"])
def bus(request, tmp_path):
    place = {} if request.param == "private" else {"name": "test", "directory": tmp_path}
    with libbus.Bus(**place) as bus:
        yield bus


def publish(bus, count):
    for n in range(count):
        bus.publish("a", n)
        if n % 50 == 0:
            time.sleep(0)


def test_thousands_of_cancelled_iterations_lose_no_message(bus, run):
    count, cancels = 4_000, 0

    async def main():
        nonlocal cancels
        got, chance = [], random.Random(1)
        with bus.subscribe("a", max_bytes=1 << 20) as sub:

            async def iterate():
                async for msg in sub:
                    got.append(msg.value)

            thread = threading.Thread(target=publish, args=(bus, count))
            thread.start()
            while len(got) < count or cancels < 3_000:
                task = asyncio.create_task(iterate())
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                cancels += 1
            thread.join(WATCHDOG)
            assert got == list(range(count))
            assert sub.stats()["pending"] == sub.stats()["lost"] == 0

    run(main())
    assert cancels >= 3_000


def test_a_wait_with_a_limit_loses_no_message(bus, run):
    count = 1_000

    async def main():
        got, late = [], 0
        with bus.subscribe("a", max_bytes=1 << 20) as sub:
            thread = threading.Thread(target=publish, args=(bus, count))
            thread.start()
            while len(got) < count or late < 200:
                try:
                    got.append((await asyncio.wait_for(anext(sub), 0.0001)).value)
                except asyncio.TimeoutError:
                    late += 1
            thread.join(WATCHDOG)
            assert got == list(range(count))

    run(main())


def test_tasks_that_share_a_subscription_and_are_cancelled_lose_no_message(bus, run):
    count = 3_000

    async def main():
        got, chance = [], random.Random(2)
        with bus.subscribe("a", max_bytes=1 << 20) as sub:

            async def iterate():
                async for msg in sub:
                    got.append(msg.value)

            tasks = [asyncio.create_task(iterate()) for _ in range(5)]
            thread = threading.Thread(target=publish, args=(bus, count))
            thread.start()
            while len(got) < count:
                at = chance.randrange(len(tasks))
                tasks[at].cancel()
                tasks[at] = asyncio.create_task(iterate())
                await asyncio.sleep(0)
            thread.join(WATCHDOG)
            assert sorted(got) == list(range(count))
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())


def test_a_busy_subscription_leaves_other_tasks_their_turn(bus, run):
    async def main():
        busy = quiet = ticks = 0
        with bus.subscribe("a") as a, bus.subscribe("b") as b:

            async def drain():
                nonlocal busy
                async for _ in a:
                    busy += 1
                    bus.publish("a", None)  # never empty

            async def listen():
                nonlocal quiet
                async for _ in b:
                    quiet += 1

            tasks = [asyncio.create_task(drain()), asyncio.create_task(listen())]
            bus.publish("a", None)
            while ticks < 50 or quiet < 10:
                bus.publish("b", None)
                await asyncio.sleep(0)
                ticks += 1
                assert ticks < 100_000
            assert 0 < busy <= 65 * (ticks + 1)
        await asyncio.gather(*tasks)

    run(main())


def test_one_bus_serves_several_loops_one_after_the_other(bus, run):
    sub = bus.subscribe("a")
    with bus.subscribe("jobs") as jobs, bus.publisher("jobs") as publisher:

        async def main(n):
            @bus.serve("double")
            async def double(msg):
                return 2 * msg.value

            assert (await bus.request("double", n, timeout=WATCHDOG)).value == 2 * n
            asyncio.get_running_loop().call_later(0.001, bus.publish, "a", n)
            assert (await anext(sub)).value == n
            await publisher.send(n)
            assert (await anext(jobs)).value == n

        for n in range(5):
            run(main(n))


def test_back_pressure_and_async_with_are_those_of_any_loop(run):
    async def main():
        got = []
        async with libbus.Bus() as bus, bus.subscribe("a", full="refuse", max_bytes=4096) as sub:

            async def drain():
                async for msg in sub:
                    got.append(msg.value)
                    if msg.value == 1_999:
                        return

            task = asyncio.ensure_future(drain())
            await bus.publisher("a", wait=None).send_many(range(2_000))
            await task
        assert got == list(range(2_000))

    run(main())
