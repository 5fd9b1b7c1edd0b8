"""Test the messages that a function publishes."""

import libbus.testing


def open_door(bus):
    bus.publish("door", "open")


# task
def test_open_door_publishes(bus):
    recorder = libbus.testing.record(bus, "door")
    open_door(bus)
    assert recorder.values() == ["open"]


# end
