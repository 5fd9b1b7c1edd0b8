import os

import redis

r = redis.Redis(port=int(os.environ["REDIS_PORT"]))
r.set("room/celsius", 21.5)

# task
celsius = float(r.get("room/celsius"))
# end

assert celsius == 21.5
