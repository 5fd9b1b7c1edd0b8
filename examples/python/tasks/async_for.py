"""Loop over messages in an event loop."""

import asyncio

import libbus

got = []


async def main():
    async with libbus.Bus() as bus:
        asyncio.get_running_loop().call_later(0.01, bus.publish, "room/door", "open")

        # task
        async for msg in bus.subscribe("room/#"):
            got.append((msg.topic, msg.value))
            # end
            break


asyncio.run(main())
assert got == [("room/door", "open")]
