"""get() and wait(): the kept value of a topic and its next message, without a subscription."""

import os
import signal
import threading
import time

import pytest
from patience import WATCHDOG

import libbus


@pytest.fixture(params=["private", "named"])
def bus(request, tmp_path):
    place = {} if request.param == "private" else {"name": "test", "directory": tmp_path}
    with libbus.Bus(**place) as bus:
        yield bus


# --- get ------------------------------------------------------------------------------------------------


def test_get_gives_the_kept_message_and_leaves_it(bus):
    bus.publish("room/lamp", "off", retain=True)
    bus.publish("room/lamp", "on", retain=True)
    for _ in range(2):
        msg = bus.get("room/lamp")
        assert (msg.topic, msg.value, msg.kept) == ("room/lamp", "on", True)


def test_get_of_a_topic_without_a_kept_value_gives_the_default(bus):
    bus.publish("room/lamp", "on")
    assert bus.get("room/lamp") is None
    assert bus.get("room/lamp", "off") == "off"
    assert bus.get("room/door", default=3) == 3


def test_get_after_the_value_was_deleted_gives_the_default(bus):
    bus.publish("room/lamp", "on", retain=True)
    bus.publish_raw("room/lamp", b"", retain=True)
    assert bus.get("room/lamp") is None


def test_get_returns_no_expired_value(bus, eventually):
    bus.publish("room/lamp", "on", retain=True, ttl=0.001)
    eventually(lambda: bus.get("room/lamp") is None)


def test_get_gives_the_newest_of_the_messages_that_a_topic_keeps():
    with libbus.Bus() as bus:
        bus.keep("room/#", last=10_000)
        for n in range(10_000):
            bus.publish("room/lamp", n)
        assert bus.get("room/lamp").value == 9_999


def test_get_finds_a_kept_value_while_others_publish(bus):
    bus.publish("room/lamp", -1, retain=True)
    over = threading.Event()

    def flood():
        n = 0
        while not over.is_set():
            bus.publish("room/lamp", n, retain=n % 2 == 0)
            n += 1

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        got = [bus.get("room/lamp") for _ in range(200)]
    finally:
        over.set()
        for thread in threads:
            thread.join(WATCHDOG)
    assert all(msg is not None and msg.kept for msg in got)


def test_get_takes_one_topic(bus):
    for topic in ("room/+", "room/#", "", "a\0b"):
        with pytest.raises(libbus.TopicError) as caught:
            bus.get(topic)
        assert caught.value.topic == topic
    with pytest.raises(TypeError):
        bus.get(3)


def test_get_on_a_closed_bus_raises_closed(bus):
    bus.close()
    with pytest.raises(libbus.ClosedError):
        bus.get("room/lamp")


def test_get_reads_the_member_topics_of_a_named_bus(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus:
        (member,) = bus.log_stats()["members"]
        msg = bus.get(f"$bus/members/{member['number']}")
        assert msg.value["pid"] == os.getpid()


def test_a_forked_child_gets_nothing_of_its_parent(python):
    out = python("""if True:
        import libbus, os
        with libbus.Bus() as bus:
            bus.publish("a", 1, retain=True)
            if (child := os.fork()) == 0:
                for call in (lambda: bus.get("a"), lambda: bus.wait("a", 1)):
                    try:
                        call()
                    except libbus.ForkError:
                        os.write(1, b"fork\\n")
                os._exit(0)
            os.waitpid(child, 0)
        """)
    assert out == "fork\nfork\n"


# --- wait -----------------------------------------------------------------------------------------------


def test_wait_gives_a_kept_value_at_once(bus):
    bus.publish("room/lamp", "on", retain=True)
    assert bus.wait("room/#", 0).value == "on"


def test_wait_without_kept_values_returns_the_next_published_message(bus):
    bus.publish("room/lamp", "on", retain=True)
    bus.publish("room/door", "shut", retain=True)
    with pytest.raises(libbus.BusTimeoutError):
        bus.wait("room/#", 0, kept=False)
    got = []
    thread = threading.Thread(
        target=lambda: got.append(bus.wait("room/#", WATCHDOG, kept=False).value)
    )
    thread.start()
    while thread.is_alive():
        bus.publish("room/lamp", "off")
        thread.join(0.001)
    assert got == ["off"]


def test_wait_names_its_filter_when_it_times_out(bus):
    start = time.monotonic()
    with pytest.raises(libbus.BusTimeoutError, match=r"^room/\+: timed out") as caught:
        bus.wait("room/+", timeout=0.05)
    assert time.monotonic() - start >= 0.05
    assert (caught.value.topic, caught.value.name) == ("room/+", "BUS_E_TIMEDOUT")
    with pytest.raises(libbus.FilterError):
        bus.wait("room/#/x", 0)


def test_wait_ends_when_the_bus_is_closed(bus):
    threading.Timer(0.05, bus.close).start()
    with pytest.raises(libbus.ClosedError):
        bus.wait("room/#", WATCHDOG)


def test_an_exception_in_a_signal_handler_ends_wait(bus):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(
                signal.ITIMER_REAL, 0.05
            )  # once: a second one would end the test, or pytest
            bus.wait("room/#")
    finally:
        signal.signal(signal.SIGALRM, before)


def test_wait_in_a_callback_is_refused_unless_it_does_not_wait(bus):
    raised = []

    @bus.on("start")
    def started(msg):
        for timeout in (1, None, 0):
            try:
                bus.wait("room/#", timeout)
            except libbus.BusError as error:
                raised.append(type(error))

    bus.publish("start", None)
    bus.flush(WATCHDOG)
    assert raised == [libbus.StateError, libbus.StateError, libbus.BusTimeoutError]


def test_get_and_wait_leave_no_descriptor_and_no_mailbox(bus):
    bus.publish("a", 1, retain=True)
    bus.get("a"), bus.wait("a", 0)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        bus.get("a"), bus.wait("a", 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_timeout_that_is_not_a_number_is_refused_by_name(bus):
    for call in (
        lambda: bus.wait("a", "soon"),
        lambda: bus.flush("soon"),
        lambda: bus.close("soon"),
    ):
        with pytest.raises(
            TypeError, match=r"timeout='soon': give seconds, or None for no limit, not"
        ):
            call()
