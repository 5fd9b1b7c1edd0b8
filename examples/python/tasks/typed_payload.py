"""Messages as objects of a class."""

from dataclasses import dataclass

import libbus


@dataclass
class Reading:
    celsius: float


bus = libbus.Bus()
got = []
bus.publish("room", Reading(21.5), retain=True)

# task
for msg in bus.subscribe("room", type=Reading):
    got.append(msg.value.celsius)
    # end
    break

assert got == [21.5]
