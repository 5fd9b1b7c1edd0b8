"""Unsubscribe from one of several filters."""

import libbus

bus = libbus.Bus()
subscription = bus.subscribe("room/#", "door/#")

# task
subscription.unsubscribe("door/#")
# end

bus.publish("door/front", "open")
bus.publish("room/celsius", 21.5)
assert [msg.topic for msg in subscription.iter(0)] == ["room/celsius"]
