import threading

import zmq

context = zmq.Context()
pub = context.socket(zmq.PUB)
pub.bind("inproc://rooms")
sub = context.socket(zmq.SUB)
sub.connect("inproc://rooms")
got = []
threading.Timer(
    0.2, lambda: [pub.send_multipart([b"room/%d" % n, b"%d" % n]) for n in range(3)]
).start()

# task
sub.subscribe(b"room/")
while sub.poll(400):
    topic, data = sub.recv_multipart()
    got.append((topic.decode(), int(data)))
# end

assert got == [("room/0", 0), ("room/1", 1), ("room/2", 2)]
context.destroy(linger=0)
