import contextlib
import os
import signal
import threading

import redis

port = int(os.environ["REDIS_PORT"])
got = []
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

# task
with contextlib.suppress(KeyboardInterrupt), redis.Redis(port=port) as r, r.pubsub() as pubsub:
    pubsub.psubscribe("*")
    for msg in pubsub.listen():
        got.append(msg["data"])
# end
