"""A retained value is deleted on one bus while the link to another is down."""

import time

from patience import WATCHDOG

import libbus


def eventually(condition):
    deadline = time.monotonic() + WATCHDOG
    while not condition():
        assert time.monotonic() < deadline, "never became true"
        time.sleep(0.001)


def kept(bus):
    with bus.subscribe("room/#") as values:
        return [msg.value for msg in values.iter(timeout=0) if msg.kept]


def test_a_value_that_was_deleted_meanwhile_does_not_come_back(tmp_path):
    url = f"ipc://{tmp_path}/socket"
    with libbus.Bus() as a, libbus.Bus() as b, a.subscribe("room/#"), b.subscribe("room/#") as live:
        b.listen(url)
        link = a.dial(url)
        a.publish("room/alarm", "FIRE", retain=True)
        eventually(lambda: kept(b) == ["FIRE"])
        link.close()
        a.publish_raw("room/alarm", b"", retain=True)
        again = a.subscribe("room/#")
        a.dial(url)
        eventually(lambda: kept(b) == [])
        assert kept(a) == []
        assert again.recv_nowait() is None
        assert [live.recv(WATCHDOG).data, live.recv(WATCHDOG).data] == [b"\xa4FIRE", b""]
