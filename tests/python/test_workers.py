"""Callbacks with workers: parallel, and in order per topic."""

import collections
import gc
import logging
import threading
import time
import weakref

import pytest
from patience import WATCHDOG

import libbus


@pytest.fixture(params=["private", "named"])
def bus(request, tmp_path):
    place = {} if request.param == "private" else {"name": "test", "directory": tmp_path}
    with libbus.Bus(**place) as bus:
        yield bus


def test_callbacks_of_several_topics_run_side_by_side(bus):
    together = threading.Barrier(4)

    def meet(msg):
        together.wait(WATCHDOG)

    with bus.subscribe("job/+", callback=meet, workers=4):
        for n in range(8):
            bus.publish(f"job/{n % 4}", n)
        bus.flush(WATCHDOG)
    assert not together.broken


def test_messages_of_a_topic_are_handled_in_order_one_at_a_time(bus):
    seen, inside, topics, each = collections.defaultdict(list), set(), 7, 200

    def handle(msg):
        assert msg.topic not in inside
        inside.add(msg.topic)
        if msg.value % 50 == 0:
            time.sleep(0.001)
        seen[msg.topic].append(msg.value)
        inside.remove(msg.topic)

    bus.on("job/+", handle, workers=5)
    for n in range(each):
        for topic in range(topics):
            bus.publish(f"job/{topic}", n)
    bus.flush(WATCHDOG)
    assert seen == {f"job/{topic}": list(range(each)) for topic in range(topics)}


def test_a_slow_topic_does_not_delay_the_others(bus):
    go_on, seen = threading.Event(), []

    def handle(msg):
        if msg.topic == "job/slow":
            go_on.wait(WATCHDOG)
        seen.append(msg.topic)

    with bus.subscribe("job/+", callback=handle, workers=2):
        for _ in range(3):
            bus.publish("job/slow", None)
        for _ in range(3):
            bus.publish("job/quick", None)
        deadline = time.monotonic() + WATCHDOG
        while len(seen) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert seen == ["job/quick"] * 3
        go_on.set()
        bus.flush(WATCHDOG)
    assert seen == ["job/quick"] * 3 + ["job/slow"] * 3


def test_one_worker_leaves_the_other_callbacks_their_thread(bus):
    go_on, seen = threading.Event(), []
    bus.on("a", lambda msg: go_on.wait(WATCHDOG), workers=1)
    bus.on("a", lambda msg: (seen.append(msg.value), go_on.set()))
    bus.publish("a", 1)
    bus.flush(WATCHDOG)
    assert seen == [1]


def test_flush_waits_for_calls_of_workers_or_times_out(bus):
    go_on, began = threading.Event(), threading.Event()
    bus.on("a", lambda msg: (began.set(), go_on.wait(WATCHDOG)), workers=2)
    bus.flush(WATCHDOG)
    bus.publish("a", 1)
    began.wait(WATCHDOG)
    with pytest.raises(libbus.BusTimeoutError):
        bus.flush(0.05)
    go_on.set()
    bus.flush(WATCHDOG)


def test_a_worker_may_wait_for_what_others_do(bus):
    got = []

    @bus.serve("double")
    def double(msg):
        return 2 * msg.value

    @bus.on("job", workers=2)
    def job(msg):
        got.append(bus.request("double", msg.value, timeout=WATCHDOG).value)
        with pytest.raises(libbus.StateError):
            bus.flush(0)

    bus.publish("job", 4)
    bus.flush(WATCHDOG)
    assert got == [8]


def test_questions_are_answered_side_by_side(bus):
    together = threading.Barrier(3)

    @bus.serve("meet/+", workers=3)
    def meet(msg):
        together.wait(WATCHDOG)
        return msg.value

    answers = []
    threads = [
        threading.Thread(
            target=lambda n=n: answers.append(bus.request(f"meet/{n}", n, timeout=WATCHDOG).value)
        )
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG)
    assert sorted(answers) == [0, 1, 2]


def test_an_exception_of_a_worker_is_logged_and_it_continues(bus, caplog):
    seen = []

    def handle(msg):
        seen.append(msg.value)
        if msg.value == 1:
            raise SystemExit
        if msg.value == 2:
            raise LookupError("no such room")

    with caplog.at_level(logging.ERROR, "libbus"):
        bus.on("a", handle, workers=1)
        for n in range(4):
            bus.publish("a", n)
        bus.flush(WATCHDOG)
    assert seen == [0, 1, 2, 3]
    assert "no such room" in caplog.text


def test_close_of_the_callback_ends_its_threads_and_no_call_begins(bus, eventually):
    before, seen, go_on = threading.active_count(), [], threading.Event()

    def handle(msg):
        seen.append(msg.value)
        go_on.wait(WATCHDOG)

    handler = bus.subscribe("a", callback=handle, workers=3)
    assert threading.active_count() == before + 3
    bus.publish("a", 1)
    bus.publish("a", 2)
    eventually(lambda: seen)
    handler.close()
    handler.close()
    assert handler.closed
    assert handler.stats()["delivered"] >= 1
    go_on.set()
    eventually(lambda: threading.active_count() == before)
    bus.publish("a", 3)
    bus.flush(WATCHDOG)
    assert seen == [1]


def test_a_worker_may_close_its_callback_and_its_bus(bus, eventually):
    seen = []

    @bus.on("a", workers=2)
    def handle(msg):
        seen.append(msg.value)
        assert bus.close() >= 0

    bus.publish("a", 1)
    eventually(lambda: bus.closed)
    assert seen == [1]


def test_close_of_the_bus_counts_messages_that_workers_did_not_begin(eventually):
    go_on, seen = threading.Event(), []
    bus = libbus.Bus()

    def handle(msg):
        seen.append(msg.value)
        go_on.wait(WATCHDOG)

    bus.on("a", handle, workers=2)
    for n in range(10):
        bus.publish("a", n)
    eventually(lambda: seen)
    assert bus.close(timeout=0.05) == 9
    go_on.set()
    assert seen == [0]


def test_close_at_any_moment_accounts_for_every_message(eventually):
    for n in range(100):
        bus, seen = libbus.Bus(), []
        bus.on("a/+", lambda msg, seen=seen: seen.append(msg.value), workers=3)
        for value in range(n):
            bus.publish(f"a/{value % 5}", value)
        left = bus.close(timeout=0)  # a call that has begun is left to itself
        eventually(lambda left=left, seen=seen, n=n: left + len(seen) == n)


def test_a_full_mailbox_of_workers_keeps_its_policy():
    go_on = threading.Event()
    with libbus.Bus() as bus:
        handler = bus.subscribe(
            "a",
            callback=lambda msg: go_on.wait(WATCHDOG),
            workers=2,
            full="refuse",
            max_bytes=4096,
        )
        with pytest.raises(libbus.FullError), bus.publisher("a") as publisher:
            publisher.send_many(range(10_000))
        go_on.set()
        bus.flush(WATCHDOG)
        stats = handler.stats()
        assert stats["delivered"] + stats["refused"] == stats["offered"]
        assert stats["lost"] == 0


def test_workers_begin_in_the_past_and_read_their_type(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus:
        for n in range(5):
            bus.publish("a", n)
        seen = []
        bus.on(
            "a",
            lambda msg: seen.append(msg.value),
            workers=3,
            start=libbus.last(3),
            type=float,
        )
        bus.flush(WATCHDOG)
        assert seen == [2.0, 3.0, 4.0]
        assert {type(n) for n in seen} == {float}


def test_the_number_of_workers_is_checked(bus):
    before = threading.active_count()
    for wrong, kind in ((0, ValueError), (-1, ValueError), (257, ValueError), ("2", TypeError)):
        with pytest.raises(kind):
            bus.on("a", print, workers=wrong)
    with pytest.raises(TypeError, match="workers= needs callback="):
        bus.subscribe("a", workers=2)
    with pytest.raises(libbus.FilterError):
        bus.on("a/#/b", print, workers=2)
    assert threading.active_count() == before


def test_kept_values_and_new_messages_arrive_in_order():
    with libbus.Bus() as bus:
        bus.keep("a", last=10)
        for n in range(5):
            bus.publish("a", n)
        seen = []
        bus.on("a", lambda msg: seen.append(msg.value), workers=4)
        for n in range(5, 10):
            bus.publish("a", n)
        bus.flush(WATCHDOG)
    assert seen == list(range(10))


def test_an_app_that_drops_its_callbacks_leaves_nothing(bus, eventually):
    def handle(msg):
        pass

    gone = weakref.ref(handle)
    before = threading.active_count()
    for _ in range(20):
        bus.subscribe("a", callback=handle, workers=2).close()
    del handle
    eventually(lambda: threading.active_count() == before)
    gc.collect()
    assert gone() is None


def test_a_forked_child_has_no_workers_and_ends(python):
    out = python("""if True:
        import libbus, os
        bus = libbus.Bus(on_fork="close")
        bus.on("a", print, workers=2)
        if (child := os.fork()) == 0:
            bus.close()
            os.write(1, b"closed\\n")
            os._exit(0)
        os.waitpid(child, 0)
        bus.close()
        """)
    assert out == "closed\n"


def test_an_interpreter_that_ends_with_busy_workers_is_silent(python):
    python("""if True:
        import libbus, time
        bus = libbus.Bus()
        bus.on("#", lambda msg: time.sleep(0.0001), workers=4)
        for n in range(2000):
            bus.publish(f"a/{n % 10}", n)
        """)
