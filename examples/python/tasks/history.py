"""The last messages of a topic."""

import tempfile

import libbus

with tempfile.TemporaryDirectory() as directory, libbus.Bus("home", directory=directory) as bus:
    for n in range(100):
        bus.publish("room/celsius", n)

    # task
    last = [msg.value for msg in bus.subscribe("room/celsius", start=libbus.last(10)).iter(0)]
    # end

assert last == list(range(90, 100))
