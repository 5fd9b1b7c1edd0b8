import asyncio
import os

import nats


async def main():
    nc = await nats.connect(f"nats://127.0.0.1:{os.environ['NATS_PORT']}")

    # task
    async def double(msg):
        await msg.respond(b"%d" % (2 * int(msg.data)))

    await nc.subscribe("double", cb=double)
    reply = int((await nc.request("double", b"4")).data)
    # end

    assert reply == 8
    await nc.close()


asyncio.run(main())
