"""Parallel callbacks: a slow one does not delay the others."""

import threading

import libbus

bus = libbus.Bus()
together = threading.Barrier(4)


def work(msg):
    together.wait(60)


# task
bus.on("job/#", work, workers=4)
# end

for n in range(4):
    bus.publish(f"job/{n}", n)
bus.flush(60)
assert not together.broken
bus.close()
