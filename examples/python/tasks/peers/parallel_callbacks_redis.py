import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import redis

r = redis.Redis(port=int(os.environ["REDIS_PORT"]))
pubsub = r.pubsub()
together = threading.Barrier(5)


def work(msg):
    together.wait(5)


# task
pool = ThreadPoolExecutor(4)
pubsub.psubscribe(**{"job/*": lambda msg: pool.submit(work, msg)})
thread = pubsub.run_in_thread(daemon=True)
# end

time.sleep(0.3)
for n in range(4):
    r.publish(f"job/{n}", n)
together.wait(5)
thread.stop()
