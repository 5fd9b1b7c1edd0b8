import os

import redis

r = redis.Redis(port=int(os.environ["REDIS_PORT"]))
pubsub = r.pubsub(ignore_subscribe_messages=True)
pubsub.psubscribe("room/*", "door/*")

# task
pubsub.punsubscribe("door/*")
# end

for _ in range(3):
    pubsub.get_message(timeout=0.2)
r.publish("door/front", "open")
r.publish("room/celsius", 21.5)
assert pubsub.get_message(timeout=1)["channel"] == b"room/celsius"
