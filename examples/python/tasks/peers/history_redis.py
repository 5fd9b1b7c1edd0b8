import os

import redis

r = redis.Redis(port=int(os.environ["REDIS_PORT"]))
r.delete("room/history")
for n in range(100):
    r.xadd("room/history", {"value": n})

# task
last = [int(fields[b"value"]) for _, fields in r.xrevrange("room/history", count=10)][::-1]
# end

assert last == list(range(90, 100))
