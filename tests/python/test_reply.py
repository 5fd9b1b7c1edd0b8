"""The result of request(): a Message, which is awaited in a running event loop."""

import asyncio
import gc
import os
import threading
import warnings

import pytest
from patience import WATCHDOG

import libbus


@pytest.fixture
def served(bus):
    """A bus on which double is served."""
    bus.serve("double", lambda msg: msg.value * 2)
    return bus


def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_outside_a_loop_it_is_the_message(served):
    reply = served.request("double", 21, timeout=WATCHDOG, headers={"a": 1})
    assert isinstance(reply, libbus.Message)
    assert isinstance(reply, libbus.Reply)
    assert (reply.value, reply.topic, reply.answered, reply.json()) == (42, "double", True, "42")
    assert repr(reply).startswith("<libbus.Message 'double'")


def test_in_a_loop_it_is_awaited_and_until_then_its_attributes_raise(served):
    async def main():
        reply = served.request("double", 21, timeout=WATCHDOG)
        assert not reply.answered
        assert repr(reply) == "<libbus.Reply 'double', to be awaited>"
        for name in [each for each in dir(libbus.Message) if not each.startswith("_")]:
            with pytest.raises(
                libbus.StateError, match=r"^double: .*`await bus\.request"
            ) as caught:
                getattr(reply, name)
            assert (caught.value.topic, caught.value.name) == ("double", "BUS_E_STATE")
        with pytest.raises(BufferError, match=r"`await bus\.request"):
            memoryview(reply)
        assert await reply is reply
        assert (await reply).value == reply.value == 42  # as often as you like
        assert reply.answered

    asyncio.run(main())


def test_a_reply_that_a_thread_got_may_be_awaited_too(served):
    async def main():
        reply = await asyncio.to_thread(served.request, "double", 1, timeout=WATCHDOG)
        assert reply.value == (await reply).value == 2

    asyncio.run(main())


def test_the_loop_runs_while_it_waits(bus):
    async def main():
        questions, ticks = bus.subscribe("q"), 0

        async def answer():
            nonlocal ticks
            while ticks < 100:
                await asyncio.sleep(0)
                ticks += 1
            bus.reply(questions.recv_nowait(), "at last")

        task = asyncio.create_task(answer())
        assert (await bus.request("q", 1, timeout=WATCHDOG)).value == "at last"
        await task
        assert ticks == 100

    asyncio.run(main())


def test_many_questions_are_under_way_at_once_and_each_gets_its_reply(served):
    async def main():
        asked = [served.request("double", n, timeout=WATCHDOG) for n in range(300)]
        replies = await asyncio.gather(*asked)
        assert [reply.value for reply in replies] == [2 * n for n in range(300)]

    before = descriptors()
    asyncio.run(main())
    assert descriptors() <= before


def test_awaiting_a_request_raises_its_exception(bus, caplog):
    bus.serve("fails", lambda msg: 1 / 0)
    bus.on("silent", lambda msg: None)

    async def main():
        with pytest.raises(libbus.NobodyError):
            await bus.request("nobody", 1)
        reply = bus.request("silent", 1, timeout=0.01)
        for _ in range(2):  # each time
            with pytest.raises(libbus.BusTimeoutError) as timeout:
                await reply
            assert timeout.value.topic == "silent"
        with pytest.raises(libbus.BusTimeoutError):
            await bus.request("silent", 1, timeout=0)
        with pytest.raises(libbus.ReplyError, match="ZeroDivisionError"):
            await bus.request("fails", 1, timeout=WATCHDOG)
        with pytest.raises(TypeError, match="cannot publish"):
            bus.request("silent", object())

    asyncio.run(main())


def test_a_reply_never_awaited_warns_and_ends_its_request(bus):
    async def main():
        questions = bus.subscribe("q")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            bus.request("q", 1, timeout=None)
            gc.collect()
        assert [str(each.message) for each in caught] == ["the reply to 'q' was never awaited"]
        await asyncio.sleep(0)  # the loop closes it
        bus.reply(questions.recv_nowait(), 2)
        assert bus.stats()["late_replies"] == 1

    before = descriptors()
    asyncio.run(main())
    assert descriptors() <= before


def test_a_cancelled_task_ends_the_request_that_it_alone_awaits(bus):
    async def main():
        questions = bus.subscribe("q")

        async def ask():
            await bus.request("q", 1, timeout=None)

        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ask(), 0.001)
        gc.collect()
        await asyncio.sleep(0)
        while (question := questions.recv_nowait()) is not None:
            bus.reply(question, 2)
        assert bus.stats()["late_replies"] == 20

    before = descriptors()
    asyncio.run(main())
    assert descriptors() <= before


def test_a_cancelled_task_leaves_the_reply_to_others(bus):
    async def main():
        questions = bus.subscribe("q")
        reply = bus.request("q", 1, timeout=WATCHDOG)

        async def wait():
            return (await reply).value

        tasks = [asyncio.create_task(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        bus.reply(questions.recv_nowait(), "here")
        assert await asyncio.gather(*tasks[1:]) == ["here", "here"]
        assert tasks[0].cancelled()

    asyncio.run(main())


def test_the_end_of_the_bus_ends_the_wait(bus):
    async def main():
        bus.subscribe("q", callback=lambda msg: None)
        reply = bus.request("q", 1, timeout=None)
        thread = threading.Thread(target=bus.close)
        thread.start()
        with pytest.raises(libbus.ClosedError):
            await reply
        thread.join(WATCHDOG)

    asyncio.run(main())


def test_a_loop_that_ends_takes_its_questions_along(bus):
    questions = bus.subscribe("q")

    async def main():
        task = asyncio.ensure_future(bus.request("q", 1, timeout=None))
        await asyncio.sleep(0)
        return task

    before = descriptors()
    for _ in range(3):
        assert asyncio.run(main()).cancelled()
    assert descriptors() <= before + 1  # of questions
    assert len(list(questions.iter(timeout=0))) == 3


def test_a_question_across_a_link_is_awaited(served):
    with libbus.Bus() as other, served.listen("tcp://127.0.0.1:0") as link:
        there = other.dial(link.url)
        while there.state != "up":
            pass

        async def main():
            return (await other.request("double", 21, timeout=WATCHDOG)).value

        assert asyncio.run(main()) == 42


def test_a_forked_child_leaves_the_questions_of_its_parent_alone(python):
    out = python("""if True:
        import asyncio, libbus, os
        bus = libbus.Bus(on_fork="close")
        bus.serve("double", lambda msg: 2 * msg.value)
        async def main():
            reply = bus.request("double", 1)
            if (child := os.fork()) == 0:
                del reply
                os._exit(0)
            os.waitpid(child, 0)
            print((await reply).value)
        import warnings
        warnings.simplefilter("ignore")
        asyncio.run(main())
        """)
    assert out == "2\n"
