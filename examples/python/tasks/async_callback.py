"""An async callback that slows its publisher down."""

import asyncio

import libbus

done = []


async def work(msg):
    await asyncio.sleep(0)
    done.append(msg.value)


async def main():
    async with libbus.Bus() as bus:
        # task
        bus.on("job", work, full="refuse", max_bytes=4096)
        await bus.publisher("job", wait=None).send_many(range(1000))
        # end


asyncio.run(main())
assert done == list(range(1000))
