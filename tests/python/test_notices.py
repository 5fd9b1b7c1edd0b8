"""Reports of a bus about itself: explain() and the topics $bus/…"""

import pytest
from patience import WATCHDOG

import libbus


def test_explain_lists_matching_and_nearly_matching_filters(bus):
    with bus.subscribe("room/+"), bus.subscribe("Room/#"):
        lines = bus.explain("room/kitchen").splitlines()
    assert "mailbox 1 gets it by room/+" in lines
    assert "mailbox 2 does not get it by Room/#: upper and lower case differ" in lines


def test_explain_takes_any_length_of_text_and_any_letters(bus):
    with bus.subscribe(*(f"küche/{n}/é" for n in range(50))):
        text = bus.explain("küche/7/é")
    assert "gets it by küche/7/é\n" in text
    assert "41 more filters differ in one level\n" in text


def test_explain_refuses_a_malformed_topic(bus):
    with pytest.raises(libbus.TopicError) as raised:
        bus.explain("room/+")
    assert raised.value.topic == "room/+"
    bus.close()
    with pytest.raises(libbus.ClosedError):
        bus.explain("room")


def test_a_topic_without_subscribers_causes_a_warning_of_the_bus(bus):
    with bus.subscribe("$bus/warnings") as warnings:
        for n in range(1000):
            bus.publish("room/kitchen", n)
        msg = warnings.recv(timeout=WATCHDOG)
    assert msg.value == {
        "warning": "unheard",
        "topic": "room/kitchen",
        "publishes": 1000,
        "text": "published 1,000 times without a subscriber",
    }
    assert "warning: published 1000 times without a subscriber\n" in bus.explain("room/kitchen")


def test_drops_of_a_mailbox_are_announced(bus, eventually):
    with (
        bus.subscribe("room/#", full="drop_newest", max_bytes=4096),
        bus.subscribe("$bus/#") as told,
    ):

        def drop_more():
            bus.publish("room/kitchen", "x" * 1000)
            return told.recv_nowait()

        loss = eventually(drop_more).value
    assert (loss["mailbox"], loss["kind"]) == (1, "mailbox")
    assert (loss["filter"], loss["policy"]) == ("room/#", "drop_newest")
    assert loss["full"] == loss["total"] > 0
