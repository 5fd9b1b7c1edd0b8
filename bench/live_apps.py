"""The programs that live.py compares: each serves pages at /live and an ordinary page at /plain.

LIVE_BUS names the bus, which lies in the folder LIVE_PLACE; LIVE_REDIS is the address of a Redis server.
"""

import os

CHANNEL = "live/all"


def with_libbus():
    from flask import Flask

    from libbus.flask import Bus

    app = Flask(__name__)
    place = {"name": os.environ["LIVE_BUS"], "directory": os.environ["LIVE_PLACE"]}
    bus = Bus(app, max_pages=20000, **place)
    app.add_url_rule("/live", "live", lambda: bus.sse(CHANNEL))
    app.add_url_rule("/plain", "plain", lambda: "plain")
    return app


def with_flask_sse():
    from flask import Flask
    from flask_sse import sse

    app = Flask(__name__)
    app.config["REDIS_URL"] = os.environ["LIVE_REDIS"]
    app.register_blueprint(sse, url_prefix="/live")
    app.add_url_rule("/plain", "plain", lambda: "plain")
    return app


def with_socketio():
    from flask import Flask
    from flask_socketio import SocketIO

    app = Flask(__name__)
    SocketIO(app, async_mode="threading", message_queue=os.environ["LIVE_REDIS"])
    app.add_url_rule("/plain", "plain", lambda: "plain")
    return app


def with_sse_starlette():
    import redis.asyncio
    from sse_starlette.sse import EventSourceResponse
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def events():
        async with redis.asyncio.from_url(os.environ["LIVE_REDIS"]).pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    yield {"data": message["data"].decode()}

    async def live(request):
        return EventSourceResponse(events())

    async def plain(request):
        return PlainTextResponse("plain")

    return Starlette(routes=[Route("/live", live), Route("/plain", plain)])
