"""The bus: publish, callbacks, links, and the end."""

import gc
import importlib.metadata
import logging
import threading
import time
import weakref

import pytest
from patience import WATCHDOG

import libbus
from libbus import _core


def test_a_published_value_arrives(bus):
    with bus.subscribe("room/#") as rooms:
        bus.publish("room/kitchen", 21.5)
        msg = rooms.recv(timeout=WATCHDOG)
    assert (msg.topic, msg.value, msg.lost, msg.kept) == ("room/kitchen", 21.5, 0, False)


def test_publishing_without_a_subscriber_is_no_error(bus):
    bus.publish("nobody/here", 1)
    assert bus.stats()["offered"] == 0


def test_a_late_joiner_gets_the_retained_value(bus):
    before = time.time()
    bus.publish("room/kitchen", 20, retain=True)
    bus.publish("room/kitchen", 21, retain=True)
    msg = bus.subscribe("room/+").recv(timeout=WATCHDOG)
    assert (msg.value, msg.kept) == (21, True)
    assert before - 1 < msg.time < time.time() + 1


def test_a_retained_value_is_forgotten_by_empty_data(bus):
    bus.publish("room/kitchen", 20, retain=True)
    bus.publish_raw("room/kitchen", b"", retain=True)
    assert bus.subscribe("room/+").recv_nowait() is None


def test_raw_data_keeps_its_bytes_and_its_type(bus):
    with bus.subscribe("#") as all_of_it:
        for kind, data in [
            ("untagged", b"21.5"),
            ("json", '{"a": 1}'),
            ("bytes", memoryview(b"\0\1")),
        ]:
            bus.publish_raw("t", data, encoding=kind)
        got = [all_of_it.recv(timeout=WATCHDOG) for _ in range(3)]
    assert [msg.encoding for msg in got] == ["untagged", "json", "bytes"]
    assert [msg.value for msg in got] == [21.5, {"a": 1}, b"\0\1"]
    assert got[1].data == b'{"a": 1}'


# --- callbacks ----------------------------------------------------------------------------------------


def test_callbacks_run_in_order_on_one_thread_of_their_own(bus):
    seen = []

    @bus.on("a/#")
    def first(msg):
        seen.append(("first", msg.value, threading.get_ident()))

    bus.on("a/+", lambda msg: seen.append(("second", msg.value, threading.get_ident())))
    for n in range(100):
        bus.publish("a/b", n)
    bus.flush(timeout=WATCHDOG)
    assert [n for who, n, _ in seen if who == "first"] == list(range(100))
    assert [n for who, n, _ in seen if who == "second"] == list(range(100))
    (thread,) = {thread for _, _, thread in seen}
    assert thread != threading.get_ident()


def test_a_callback_with_filters_that_overlap_is_called_once(bus):
    seen = []
    bus.on("a/#", "a/b", "+/b")(seen.append)
    bus.publish("a/b", 1)
    bus.flush(timeout=WATCHDOG)
    assert len(seen) == 1


def test_callbacks_of_one_message_share_it(bus):
    seen = []
    bus.on("a", seen.append)
    bus.on("a", lambda msg: seen.append(msg))
    bus.publish("a", [1])
    bus.flush(timeout=WATCHDOG)
    assert seen[0] is seen[1]


def test_an_exception_in_a_callback_is_logged_and_stops_nothing(bus, caplog):
    seen = []

    @bus.on("a")
    def fails(msg):
        seen.append(msg.value)
        raise SystemExit if msg.value == 1 else ValueError("no good")

    with caplog.at_level(logging.ERROR, "libbus"):
        for n in range(3):
            bus.publish("a", n)
        bus.flush(timeout=WATCHDOG)
    assert seen == [0, 1, 2]
    assert len(caplog.records) == 3
    assert "fails" in caplog.text and "on a" in caplog.text and "no good" in caplog.text


def test_only_the_new_callback_gets_a_kept_value(bus):
    old, new = [], []
    bus.on("a", old.append)
    bus.publish("a", 1, retain=True)
    bus.flush(timeout=WATCHDOG)
    bus.on("a", new.append)
    bus.flush(timeout=WATCHDOG)
    assert [msg.kept for msg in old] == [False]
    assert [msg.kept for msg in new] == [True]


def test_a_callback_may_publish_subscribe_and_close(bus, eventually):
    heard = bus.subscribe("answer")

    @bus.on("question")
    def answer(msg):
        bus.publish("answer", msg.value + 1)
        bus.subscribe("later", callback=print).close()
        with pytest.raises(libbus.StateError, match="wrong place"):
            bus.flush()
        bus.close()

    bus.publish("question", 41)
    assert eventually(lambda: bus.closed)
    with pytest.raises(libbus.ClosedError):
        while True:  # the answer may be there until the close is through
            assert heard.recv(timeout=WATCHDOG).value == 42


def test_a_closed_callback_is_not_called_again(bus):
    seen = []
    with bus.subscribe("a", callback=seen.append, full="drop_newest", max_bytes=4096) as handle:
        bus.publish("a", 1)
        bus.flush(timeout=WATCHDOG)
        assert handle.stats()["delivered"] == 1
    bus.publish("a", 2)
    bus.flush(timeout=WATCHDOG)
    handle.close()
    assert [msg.value for msg in seen] == [1]


@pytest.fixture(params=["private", "named"])
def either(request, tmp_path):
    with (
        libbus.Bus()
        if request.param == "private"
        else libbus.Bus("test", directory=tmp_path) as bus
    ):
        yield bus


def test_repr_of_a_callback_shows_its_function_and_closed(bus):
    with bus.subscribe("a/#", "b", callback=print) as handle:
        assert repr(handle) == "<libbus.Callback print on a/# b>"
        assert not handle.closed
    assert repr(handle) == "<libbus.Callback a/# b closed>"
    assert handle.closed
    other = bus.subscribe("a", callback=print)
    bus.close()
    assert other.closed


def test_a_flush_does_not_wait_for_a_first_message(either):
    either.publish("a", 1)
    seen = []
    either.on("a", seen.append)
    either.flush(timeout=WATCHDOG)
    assert seen == []


@pytest.mark.parametrize("filters", [("a", "b/#/c"), ("b/#/c", "a")])
def test_a_callback_with_one_bad_filter_gets_nothing_and_blocks_no_flush(either, filters):
    seen = []
    with pytest.raises(libbus.FilterError):
        either.on(*filters)(seen.append)
    either.publish("a", 1)
    either.flush(timeout=WATCHDOG)
    assert seen == []


def test_flush_waits_for_slow_callbacks_or_times_out(bus):
    let_go = threading.Event()
    bus.on("a", lambda msg: let_go.wait())
    bus.publish("a", 1)
    with pytest.raises(libbus.BusTimeoutError, match="timed out"):
        bus.flush(timeout=0.01)
    let_go.set()
    bus.flush(timeout=WATCHDOG)


# --- links --------------------------------------------------------------------------------------------


@pytest.fixture(params=["inproc", "ipc", "tcp"])
def url(request, tmp_path_factory):
    return {
        "inproc": "inproc://test-bus",
        "ipc": f"ipc://{tmp_path_factory.mktemp('s')}/bus.sock",
        "tcp": "tcp://127.0.0.1:0",
    }[request.param]


def test_a_link_carries_the_messages_of_the_peers_filters(bus, url, eventually):
    with bus.listen(url) as link, libbus.Bus() as other:
        assert link.state == "up"
        dialled = other.dial(link.url, heartbeat=WATCHDOG)
        here, there = bus.subscribe("to/here"), other.subscribe("to/+")
        bus.publish("to/there", {"n": 1}, retain=True)
        assert there.recv(timeout=WATCHDOG).value == {"n": 1}
        eventually(lambda: link.stats()["peers"] == 1 and dialled.state == "up")

        def answered():
            other.publish("to/here", 2)
            return here.recv_nowait()

        assert eventually(answered).value == 2
        assert dialled.stats()["received"] >= 1


def test_the_memory_that_a_peer_can_cause_is_bounded(bus, eventually):
    link = bus.listen("tcp://127.0.0.1:0", peer_bytes=1 << 20)
    wanted = bus.subscribe("v/#", max_bytes=8 << 20)
    with libbus.Bus() as other:
        dialled = other.dial(link.url, heartbeat=WATCHDOG, max_bytes=8 << 20)
        eventually(lambda: dialled.state == "up")
        for n in range(40):
            other.publish_raw(f"v/{n}", bytes(64 << 10), retain=True)
        other.flush(WATCHDOG)
        eventually(lambda: link.stats()["received"] + link.stats()["refused"] == 40)
    assert 0 < link.stats()["refused"] < 40
    assert wanted.recv(timeout=WATCHDOG).topic == "v/0"


def test_a_link_without_references_stays(bus, tmp_path, eventually):
    url = bus.listen(f"ipc://{tmp_path}/s").url
    gc.collect()
    with libbus.Bus() as other:
        link = other.dial(url)
        eventually(lambda: link.state == "up")


def test_a_closed_link_shows_that_it_is_closed(bus):
    link = bus.listen("tcp://127.0.0.1:0")
    assert "tcp://127.0.0.1:" in repr(link)
    link.close()
    link.close()
    assert (link.closed, link.state, repr(link)) == (True, "down", "<libbus.Link closed>")
    with pytest.raises(libbus.ClosedError):
        link.stats()


# --- the end ------------------------------------------------------------------------------------------


def test_close_lets_callbacks_finish_and_may_be_called_again():
    seen = []
    bus = libbus.Bus()
    bus.on("a", lambda msg: (time.sleep(0.01), seen.append(msg.value)))
    for n in range(5):
        bus.publish("a", n)
    assert bus.close(timeout=WATCHDOG) == 0
    assert seen == [0, 1, 2, 3, 4]
    assert bus.close() == 0
    assert bus.closed and repr(bus) == "<libbus.Bus closed>"


class Held:
    """Takes callbacks of the topic a; the one for 1 is held, and 2 to 20 are taken out behind it."""

    def __init__(self, bus):
        self.seen, self.begun, self.ready, self.go = [], *(threading.Event() for _ in range(3))
        bus.on("a", self.call)
        bus.publish("a", 0)
        for n in range(1, 21):
            bus.publish("a", n)
        self.ready.set()
        assert self.begun.wait(WATCHDOG)

    def call(self, msg):
        self.seen.append(msg.value)
        if msg.value == 0:
            self.ready.wait()
        elif msg.value == 1:
            self.begun.set()
            self.go.wait()


def callbacks_run():
    return any(thread.name == "libbus-callbacks" for thread in threading.enumerate())


def test_after_close_no_callback_begins_and_the_rest_is_counted(either, eventually):
    held = Held(either)
    assert either.close(timeout=0.05) == 19
    held.go.set()
    eventually(lambda: not callbacks_run())
    assert held.seen == [0, 1]


def test_a_message_counts_until_all_its_callbacks_are_called_and_for_those_that_are_open():
    bus = libbus.Bus()
    ended = bus.subscribe("b", callback=print)
    ready, begun, go = (threading.Event() for _ in range(3))
    bus.on("gate", lambda msg: ready.wait())
    bus.on("a", lambda msg: (begun.set(), go.wait()))
    bus.on("a", print)
    for topic in ("gate", "a", "b", "b"):
        bus.publish(topic, 1)
    ready.set()
    assert begun.wait(WATCHDOG)
    ended.close()
    assert bus.close(timeout=0) == 1
    go.set()


def test_a_flush_that_waits_while_the_bus_closes_raises_closed(either, eventually):
    held, errors = Held(either), []

    def flush():
        try:
            either.flush()
        except libbus.ClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=flush)
    thread.start()
    time.sleep(0.05)
    either.close(timeout=0)
    thread.join(WATCHDOG)
    held.go.set()
    assert len(errors) == 1


def test_a_callback_that_closes_its_bus_is_the_last_one(either, eventually):
    seen, counted, ready = [], [], threading.Event()

    @either.on("a")
    def heard(msg):
        seen.append(msg.value)
        ready.wait()
        if msg.value == 5:
            counted.append(either.close())

    either.publish("a", 0)
    for n in range(1, 21):
        either.publish("a", n)
    ready.set()
    eventually(lambda: not callbacks_run())
    assert (seen, counted) == ([0, 1, 2, 3, 4, 5], [15])


def test_close_counts_undelivered_messages():
    bus = libbus.Bus()
    keeps = bus.subscribe("a")
    for n in range(3):
        bus.publish("a", n)
    assert bus.close(timeout=0) == 3
    assert keeps.closed is True


def test_every_call_on_a_closed_bus_raises_closed():
    bus = libbus.Bus()
    sub, link = bus.subscribe("a"), bus.listen("tcp://127.0.0.1:0")
    bus.close()
    for call in [
        lambda: bus.publish("a", 1),
        lambda: bus.publish_raw("a", b""),
        lambda: bus.subscribe("a"),
        lambda: bus.on("a", print),
        lambda: bus.listen("tcp://127.0.0.1:0"),
        lambda: bus.dial("tcp://127.0.0.1:1"),
        bus.flush,
        bus.stats,
        sub.recv,
        sub.recv_nowait,
        link.stats,
    ]:
        with pytest.raises(libbus.ClosedError, match="closed"):
            call()


def test_a_bus_whose_callbacks_are_closed_is_collected():
    bus = libbus.Bus()
    callback = bus.subscribe("a", callback=lambda msg, bus=bus: bus.publish("b", msg.value))
    bus.publish("a", 1)
    bus.flush(timeout=WATCHDOG)
    gone = weakref.ref(bus)
    callback.close()
    del bus, callback
    gc.collect()
    assert gone() is None


def test_a_message_that_holds_itself_is_collected(bus):
    class Witness:
        pass

    sub = bus.subscribe("a")
    bus.publish("a", {})
    msg, witness = sub.recv(timeout=WATCHDOG), Witness()
    msg.value.update(msg=msg, witness=witness)
    gone = weakref.ref(witness)
    del msg, witness
    gc.collect()
    assert gone() is None


def test_threads_that_publish_while_the_bus_closes_see_closed():
    for _ in range(20):
        bus = libbus.Bus()
        sub, started = bus.subscribe("a/#"), threading.Barrier(4)

        def publish(bus=bus, started=started):
            started.wait()
            try:
                while True:
                    bus.publish("a/b", 1)
            except libbus.ClosedError:
                pass

        threads = [threading.Thread(target=publish) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        sub.recv(timeout=WATCHDOG)
        bus.close()
        for thread in threads:
            thread.join(WATCHDOG)
            assert not thread.is_alive()


def test_python_and_c_have_the_same_version():
    assert libbus.__version__ == _core.VERSION == importlib.metadata.version("libbus")
