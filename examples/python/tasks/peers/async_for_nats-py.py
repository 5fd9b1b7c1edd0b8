import asyncio
import os

import nats

got = []


async def main():
    nc = await nats.connect(f"nats://127.0.0.1:{os.environ['NATS_PORT']}")
    asyncio.get_running_loop().call_later(
        0.1, lambda: asyncio.ensure_future(nc.publish("room.door", b"open"))
    )

    # task
    sub = await nc.subscribe("room.>")
    async for msg in sub.messages:
        got.append((msg.subject, msg.data.decode()))
        # end
        break
    await nc.close()


asyncio.run(main())
assert got == [("room.door", "open")]
