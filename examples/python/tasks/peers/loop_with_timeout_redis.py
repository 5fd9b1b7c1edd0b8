import os
import threading

import redis

r = redis.Redis(port=int(os.environ["REDIS_PORT"]))
got = []
threading.Timer(0.2, lambda: [r.publish(f"room/{n}", n) for n in range(3)]).start()

# task
pubsub = r.pubsub()
pubsub.psubscribe("room/*")
while msg := pubsub.get_message(timeout=0.5):
    if msg["type"] == "pmessage":
        got.append((msg["channel"].decode(), int(msg["data"])))
# end

assert got == [("room/0", 0), ("room/1", 1), ("room/2", 2)]
