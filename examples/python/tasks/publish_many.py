"""Publish many messages at once."""

import libbus

bus = libbus.Bus()
got = bus.subscribe("room/celsius")
values = range(1000)

# task
bus.publisher("room/celsius").send_many(values)
# end

assert [msg.value for msg in got.iter(0)] == list(values)
