"""In a running event loop no call waits: each names the async form, and refuses functions that would never run."""

import asyncio
import functools
import threading

import pytest
from patience import WATCHDOG

import libbus


def in_a_loop(function):
    async def main():
        return function()

    return asyncio.run(main())


@pytest.fixture
def named(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus:
        yield bus


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda bus: bus.subscribe("a").recv(), "anext"),
        (lambda bus: bus.subscribe("a").recv(WATCHDOG), "anext"),
        (lambda bus: next(bus.subscribe("a")), "async for msg in subscription"),
        (lambda bus: list(bus.subscribe("a")), "async for msg in subscription"),
        (lambda bus: list(bus.subscribe("a").iter(WATCHDOG)), "async for msg in subscription"),
        (lambda bus: bus.wait("a"), "anext"),
        (lambda bus: bus.flush(), "to_thread"),
        (lambda bus: bus.role("a"), "to_thread"),
    ],
)
def test_a_call_that_would_stop_the_loop_raises_and_names_the_other(named, call, says):
    with pytest.raises(libbus.StateError, match="event loop") as caught:
        in_a_loop(lambda: call(named))
    assert says in str(caught.value)
    assert caught.value.name == "BUS_E_STATE"


def test_calls_that_do_not_wait_are_fine_in_a_loop(named):
    def calls():
        sub = named.subscribe("a")
        named.publish("a", 1)
        named.publish("a", 2, retain=True)
        assert [sub.recv(WATCHDOG).value, sub.recv(0).value] == [1, 2]
        assert sub.recv_nowait() is None
        assert list(sub.iter(timeout=0)) == []
        with pytest.raises(libbus.BusTimeoutError):
            sub.recv(timeout=0)
        assert (named.get("a").value, named.wait("a", 0).value) == (2, 2)
        named.flush(0)
        named.role("b", timeout=0).close()

    in_a_loop(calls)


def test_the_remedies_named_by_errors_work(named):
    async def main():
        sub = named.subscribe("a")
        asyncio.get_running_loop().call_later(0.01, named.publish, "a", 1)
        assert (await anext(sub)).value == 1
        await asyncio.to_thread(named.flush, WATCHDOG)
        (await asyncio.to_thread(named.role, "b")).close()
        named.serve("q", lambda msg: msg.value + 1)
        assert (await named.request("q", 1)).value == 2

    asyncio.run(main())


def test_other_threads_may_wait_while_a_loop_runs(bus):
    async def main():
        sub = bus.subscribe("a")
        waits = asyncio.create_task(asyncio.to_thread(sub.recv, WATCHDOG))
        await asyncio.sleep(0.01)
        bus.publish("a", 1)
        assert (await waits).value == 1

    asyncio.run(main())


def test_an_async_callback_needs_a_running_loop_and_no_generator(bus):
    async def show(msg):
        raise AssertionError("never awaited")

    async def generate(msg):
        yield msg

    class Shows:
        async def __call__(self, msg):
            raise AssertionError("never awaited")

        async def method(self, msg):
            raise AssertionError("never awaited")

    registers = (bus.on, bus.serve, lambda name, f: bus.subscribe(name, callback=f))
    for register in registers:
        for function in (show, Shows(), Shows().method, functools.partial(show)):
            with pytest.raises(libbus.StateError, match="no event loop runs on this thread"):
                register("a", function)
        with pytest.raises(TypeError, match="async generator"):
            register("a", generate)
    for function in (print, len, functools.partial(print), Shows):
        bus.subscribe("a", callback=function).close()


def test_one_subscription_serves_several_loops_one_after_the_other(bus):
    sub = bus.subscribe("a")

    async def nothing():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(sub), 0.02)

    async def something(value):
        asyncio.get_running_loop().call_later(0.02, bus.publish, "a", value)
        return (await asyncio.wait_for(anext(sub), WATCHDOG)).value

    for n in range(3):
        asyncio.run(nothing())
        assert asyncio.run(something(n)) == n
    assert len(sub._rings) <= 1


def test_one_subscription_serves_several_loops_at_once(bus):
    sub, got = bus.subscribe("a"), []

    async def main():
        async for msg in sub:
            got.append(msg.value)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(300):
        bus.publish("a", n)
        while sub.stats()["pending"]:
            pass
    sub.close()
    for thread in threads:
        thread.join(WATCHDOG)
    assert sorted(got) == list(range(300))
