import asyncio
import os

import nats

done = []


async def work(msg):
    done.append(int(msg.data))


async def main():
    nc = await nats.connect(f"nats://127.0.0.1:{os.environ['NATS_PORT']}")

    # task
    for _ in range(4):
        await nc.subscribe("job", queue="workers", cb=work)
    # end

    for n in range(100):
        await nc.publish("job", b"%d" % n)
    await nc.drain()
    assert sorted(done) == list(range(100))


asyncio.run(main())
