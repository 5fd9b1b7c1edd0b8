"""Wait for one message."""

import threading

import libbus

bus = libbus.Bus()
threading.Timer(0.05, bus.publish, ("door", "open"), {"retain": True}).start()

# task
state = bus.wait("door", timeout=60).value
# end

assert state == "open"
