import logging
import time

import zmq
from zmq.log.handlers import PUBHandler

context = zmq.Context()
pub = context.socket(zmq.PUB)
pub.bind("inproc://log")
sub = context.socket(zmq.SUB)
sub.connect("inproc://log")
sub.subscribe(b"")
time.sleep(0.1)

# task
logging.getLogger().addHandler(PUBHandler(pub))
# end

logging.getLogger("app").error("no answer from %s", "db1")
assert b"no answer from db1" in sub.recv_multipart()[1]
logging.getLogger().handlers.clear()
context.destroy(linger=0)
