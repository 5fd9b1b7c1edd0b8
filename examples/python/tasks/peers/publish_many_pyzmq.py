import time

import zmq

context = zmq.Context()
pub = context.socket(zmq.PUB)
pub.bind("inproc://rooms")
sub = context.socket(zmq.SUB)
sub.connect("inproc://rooms")
sub.subscribe(b"room/celsius")
time.sleep(0.1)
values = range(1000)

# task
for value in values:
    pub.send_multipart([b"room/celsius", b"%d" % value])
# end

assert [int(sub.recv_multipart()[1]) for _ in values] == list(values)
context.destroy(linger=0)
