import threading

import msgspec
import zmq


class Reading(msgspec.Struct):
    celsius: float


context = zmq.Context()
pub = context.socket(zmq.PUB)
pub.bind("inproc://rooms")
sub = context.socket(zmq.SUB)
sub.connect("inproc://rooms")
got = []
threading.Timer(
    0.2, lambda: pub.send_multipart([b"room", msgspec.msgpack.encode(Reading(21.5))])
).start()

# task
sub.subscribe(b"room")
while True:
    topic, data = sub.recv_multipart()
    got.append(msgspec.msgpack.decode(data, type=Reading).celsius)
    # end
    break

assert got == [21.5]
context.destroy(linger=0)
