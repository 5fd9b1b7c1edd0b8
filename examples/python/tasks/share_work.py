"""Several workers of a program share the messages of a topic."""

import libbus

bus = libbus.Bus()
done = []


def work(msg):
    done.append(msg.value)


# task
bus.on("job", work, workers=4)
# end

for n in range(100):
    bus.publish("job", n)
bus.flush(60)
assert sorted(done) == list(range(100))
bus.close()
