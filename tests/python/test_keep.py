"""Topics that keep their last messages for late joiners."""

import pytest
from patience import WATCHDOG

import libbus


def test_the_last_messages_arrive_first_and_flagged(bus):
    bus.keep("room/#", last=3)
    for n in range(5):
        bus.publish("room/kitchen", n)
    with bus.subscribe("room/+") as rooms:
        bus.publish("room/kitchen", "live")
        got = [rooms.recv(timeout=WATCHDOG) for _ in range(4)]
    assert [(msg.value, msg.kept) for msg in got] == [
        (2, True),
        (3, True),
        (4, True),
        ("live", False),
    ]
    assert got[0].time <= got[2].time


def test_one_message_is_kept_by_default(bus):
    bus.keep("t")
    bus.publish("t", 1)
    bus.publish("t", 2)
    assert bus.subscribe("t").recv(timeout=WATCHDOG).value == 2
    assert "keeps 1 of the last 1 messages, 1 bytes, for new subscriptions\n" in bus.explain("t")


def test_empty_retained_data_deletes_the_kept_value(bus):
    bus.keep("t", last=10)
    bus.publish("t", 1)
    bus.publish_raw("t", b"", retain=True)
    assert bus.subscribe("t").recv_nowait() is None


def test_limits_are_named_with_the_filter(bus):
    with pytest.raises(libbus.LimitError) as raised:
        bus.keep("room/#", last=10_001)
    assert raised.value.topic == "room/#"
    with pytest.raises(libbus.FilterError):
        bus.keep("room/#/x")
    with pytest.raises(ValueError, match="last"):
        bus.keep("room", last=-1)
