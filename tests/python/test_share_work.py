"""Subscriptions of one group: threads and tasks that share work."""

import asyncio
import os
import threading
import time

import pytest
from patience import WATCHDOG

import libbus


def test_threads_share_work_and_each_message_goes_to_one(bus):
    sent, got = 3000, [[], [], []]
    subs = [bus.subscribe("job/#", group="workers") for _ in got]

    def work(sub, mine):
        mine.extend(msg.value for msg in sub)

    threads = [threading.Thread(target=work, args=each) for each in zip(subs, got, strict=True)]
    for thread in threads:
        thread.start()
    with bus.subscribe("job/#") as all_of_them:
        for n in range(sent):
            bus.publish("job/a", n)
            if n % 100 == 0:
                time.sleep(0.001)
        while subs[0].stats()["delivered"] < sent:
            time.sleep(0.001)
        assert len(list(all_of_them.iter(timeout=0))) == sent
    for sub in subs:
        sub.close()
    for thread in threads:
        thread.join(WATCHDOG)
    assert sorted(n for mine in got for n in mine) == list(range(sent))
    assert all(mine == sorted(mine) for mine in got)


def test_tasks_share_work(bus):
    async def work(mine):
        with bus.subscribe("job/#", group="tasks") as sub:
            async for msg in sub:
                if msg.value is None:
                    return
                mine.append(msg.value)
                await asyncio.sleep(0)

    async def main():
        got = [[], []]
        tasks = [asyncio.ensure_future(work(mine)) for mine in got]
        await asyncio.sleep(0)
        for n in range(500):
            bus.publish("job/a", n)
        for _ in tasks:
            bus.publish("job/a", None)
        await asyncio.wait_for(asyncio.gather(*tasks), WATCHDOG)
        return got

    got = asyncio.run(main())
    assert sorted(got[0] + got[1]) == list(range(500))
    assert got[0] and got[1]


def test_a_group_with_refuse_loses_nothing(bus):
    settings = {"group": "workers", "full": "refuse", "max_bytes": 4096}
    first, second = bus.subscribe("job", **settings), bus.subscribe("job", **settings)
    got = []

    def send():
        with bus.publisher("job", wait=WATCHDOG) as jobs:
            jobs.send_many(range(2000))

    thread = threading.Thread(target=send)
    thread.start()
    while len(got) < 2000:
        for sub in (first, second):
            if (msg := sub.recv_nowait()) is not None:
                got.append(msg.value)
    thread.join(WATCHDOG)
    assert got == list(range(2000))


def test_a_member_that_leaves_hands_its_work_to_the_others(bus):
    first, second = (bus.subscribe("job", group="workers") for _ in range(2))
    for n in range(10):
        bus.publish("job", n)
    assert first.recv(0).value == 0
    first.close()
    assert [msg.value for msg in second.iter(timeout=0)] == list(range(1, 10))


def test_recv_of_a_group_waits_times_out_and_ends_with_its_bus(bus):
    first, second = (bus.subscribe("job", group="workers") for _ in range(2))
    for sub in (first, second):
        with pytest.raises(libbus.BusTimeoutError):
            sub.recv(timeout=0.05)
    threading.Timer(0.05, bus.close).start()
    for sub in (first, second):
        with pytest.raises(libbus.ClosedError):
            sub.recv(WATCHDOG)


def test_a_member_without_a_filter_does_not_spin_on_messages_for_others(bus):
    idle, other = (bus.subscribe("job", group="workers") for _ in range(2))
    idle.unsubscribe("job")
    bus.publish("job", 1)
    begun = time.thread_time()
    with pytest.raises(libbus.BusTimeoutError):
        idle.recv(timeout=0.5)
    assert time.thread_time() - begun < 0.25
    assert other.recv(0).value == 1
    threading.Timer(0.02, idle.subscribe, ["job"]).start()
    threading.Timer(0.04, bus.publish, ["job", 2]).start()
    assert idle.recv(WATCHDOG).value == 2


def test_a_group_has_one_policy_one_bound_and_a_name(bus):
    sub = bus.subscribe("job", group="workers")
    assert sub.group == "workers"
    assert bus.subscribe("job").group is None
    for settings in ({"full": "refuse"}, {"max_bytes": 4096}):
        with pytest.raises(libbus.ArgumentError, match=r"^group workers: "):
            bus.subscribe("job", group="workers", **settings)
    for wrong in ("", "a/b", "x" * 65):
        with pytest.raises(libbus.ArgumentError, match=r"^group "):
            bus.subscribe("job", group=wrong)
    with pytest.raises(TypeError):
        bus.subscribe("job", group=3)
    with pytest.raises(TypeError, match="use workers= with a callback"):
        bus.subscribe("job", callback=print, group="workers")


def test_a_named_bus_has_no_groups_and_names_the_alternative(tmp_path):
    with (
        libbus.Bus("test", directory=tmp_path) as bus,
        pytest.raises(libbus.NotSupportedError, match=r"group='jobs': .*bus\.role\(\).*workers="),
    ):
        bus.subscribe("job", group="jobs")


def test_the_way_that_it_names_works(tmp_path):
    """On a named bus: the process with the role shares the work among its threads."""
    with libbus.Bus("test", directory=tmp_path) as bus, bus.role("jobs", timeout=0):
        sub, got = bus.subscribe("job"), []
        threads = [
            threading.Thread(target=lambda: got.extend(msg.value for msg in sub)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for n in range(500):
            bus.publish("job", n)
        while sub.stats()["delivered"] < 500:
            time.sleep(0.001)
        sub.close()
        for thread in threads:
            thread.join(WATCHDOG)
        assert sorted(got) == list(range(500))


def test_groups_leave_no_descriptors(bus):
    def once():
        with bus.subscribe("job", group="a") as first, bus.subscribe("job", group="a") as second:
            first.fileno(), second.fileno()

    once()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        once()
    assert len(os.listdir("/proc/self/fd")) == before
