"""The last value of a topic."""

import libbus

bus = libbus.Bus()
bus.publish("room/celsius", 21.5, retain=True)

# task
celsius = bus.get("room/celsius").value
# end

assert celsius == 21.5
