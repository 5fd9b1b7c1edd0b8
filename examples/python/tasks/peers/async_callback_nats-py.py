"""JetStream: its publish waits until the server has the message, and unread messages stay there."""

import asyncio
import os

import nats

done = []


async def work(msg):
    done.append(int(msg.data))


async def main():
    nc = await nats.connect(f"nats://127.0.0.1:{os.environ['NATS_PORT']}")
    js = nc.jetstream()
    await js.add_stream(name="jobs", subjects=["job"])

    # task
    await js.subscribe("job", cb=work)
    for n in range(1000):
        await js.publish("job", b"%d" % n)
    # end

    while len(done) < 1000:
        await asyncio.sleep(0.01)
    await js.delete_stream("jobs")
    await nc.close()


asyncio.run(main())
assert done == list(range(1000))
