"""Loop over the messages of a wildcard until none arrives for some seconds."""

import libbus

bus = libbus.Bus()
got = []
for n in range(3):
    bus.publish(f"room/{n}", n, retain=True)

# task
for msg in bus.subscribe("room/#").iter(timeout=0.1):
    got.append((msg.topic, msg.value))
# end

assert sorted(got) == [("room/0", 0), ("room/1", 1), ("room/2", 2)]
