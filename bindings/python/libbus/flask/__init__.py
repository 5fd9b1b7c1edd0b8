"""libbus for Flask: publish from a view, see it on the page.

    from flask import Flask
    from libbus.flask import Bus

    app = Flask(__name__)
    bus = Bus(app, name="home", allow=["sensors/#"])    # topics that pages may listen to; by default none

In a template {{ bus.script() }}, then in the page

    const bus = libbus();
    bus.on("sensors/+/temp", (value, msg) => console.log(msg.topic, value));

An open page costs a socket. After Flask has answered the request, libbus takes the socket from the server, and one thread of the
process serves all pages. This works in gunicorn (sync, gthread and gevent workers) and in Flask's own server. Elsewhere
(waitress, uWSGI, TLS inside gunicorn) a page holds one thread of the server, and max_pages is small: three quarters of
gunicorn's threads, 64 under Flask's own server, 3 under an unknown server. Over HTTP/2 inside gunicorn a page fetches its events
every 2 seconds. The log says once which of these applies. A page over the limit gets 503 and retries by itself.

A refused page gets the reason as JSON, {"error": {"code": ..., "message": ...}}. The client shows it in the page's state and in
the browser's console. The app's logger gets the same text as a warning, once in each process.

allow= is the upper limit for every page. A function with @bus.authorize narrows it for each request:

    @bus.authorize
    def may(action, what):                              # "subscribe" a filter, "receive" or "publish" a topic
        return current_user.is_authenticated and what.startswith(f"users/{current_user.id}/")

On a named bus all worker processes share one bus with every other program of this user that opens the name: libbus.Bus("home"),
bus_open("home"), libbus sub home. Without a name every worker has a separate bus; to connect these, let each dial one program
that listens. The bus opens at its first use, or when the worker begins to serve if it has handlers.

The bus of an app ends with close(), or when the app is garbage collected; its thread, its descriptors and the app's handlers end
with it. In an app factory

    bus = Bus()                                         # outside the factory: one for all apps

    def create_app():
        app = Flask(__name__)
        bus.init_app(app, name="home")

        @bus.on("sensors/#", app=app)                   # belongs to this app and ends with it
        def heard(msg): ...

Without app= a function whose closure refers to one app of the bus belongs to that app too. Any other function is called in every
app of the bus, and lives as long as the bus object, with everything that it refers to.

If the bus cannot be opened, the log gets the reason once, handlers are not called, and a request tries again after two seconds.
Views that do not use the bus still work; views that use it raise the bus's exception.
"""

from libbus.flask._extension import Bus

__all__ = ["Bus"]
