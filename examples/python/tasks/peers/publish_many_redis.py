import os

import redis

r = redis.Redis(port=int(os.environ["REDIS_PORT"]))
pubsub = r.pubsub(ignore_subscribe_messages=True)
pubsub.subscribe("room/celsius")
pubsub.get_message(timeout=1)
values = range(1000)

# task
with r.pipeline(transaction=False) as pipe:
    for value in values:
        pipe.publish("room/celsius", value)
    pipe.execute()
# end

assert [int(pubsub.get_message(timeout=1)["data"]) for _ in values] == list(values)
