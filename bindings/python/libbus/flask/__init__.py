"""libbus for Flask: publish from a view, see it on the page.

    from flask import Flask
    from libbus.flask import Bus

    app = Flask(__name__)
    bus = Bus(app, name="home", allow=["sensors/#"])    # what pages may listen to; nothing unless you say so

In a template {{ bus.script() }}, then in the page

    const bus = libbus();
    bus.on("sensors/+/temp", (value, msg) => console.log(msg.topic, value));

An open page costs a socket. When Flask has answered the request, libbus takes the socket from the server and one thread of the
process serves all pages. This works in gunicorn (sync, gthread and gevent workers) and in Flask's own server. Elsewhere
(waitress, uWSGI, TLS inside gunicorn) a page holds one thread of the server, and max_pages is small: three quarters of
gunicorn's threads, 64 under Flask's own server, 3 under a server that libbus does not know. Over HTTP/2 inside gunicorn it comes
for its events every 2 seconds. The log names the way once. A page over the limit gets 503 and tries again by itself.

A refused page gets the reason as JSON, {"error": {"code": ..., "message": ...}}, and the client shows it in the page's
state and in the browser's console. The app's logger has the same sentence as a warning, once in each process.

allow= is the most that any page may listen to. A function with @bus.authorize narrows it for each request:

    @bus.authorize
    def may(action, what):                              # "subscribe" a filter, "receive" or "publish" a topic
        return current_user.is_authenticated and what.startswith(f"users/{current_user.id}/")

With a name all worker processes are on one bus, and so is every other program of this user that opens the
name: libbus.Bus("home"), bus_open("home"), libbus sub home. Without one every worker has a bus of its own;
to join those, let each dial one program that listens. The bus opens at its first use, or when the worker begins to serve if it has
handlers.

What ends when: the bus of an app ends with close(), or when the app is collected, with its thread, its descriptors and the
handlers that are the app's. In an app factory

    bus = Bus()                                         # outside: one for all apps

    def create_app():
        app = Flask(__name__)
        bus.init_app(app, name="home")

        @bus.on("sensors/#", app=app)                   # this app's: it ends with the app
        def heard(msg): ...

Without app= a function that refers to one app of the bus by its closure is that app's as well. Any other is called in every
app of the bus, and lives as long as the bus object does, with all that it refers to.

A bus that cannot be opened leaves views that do not use it alone: the log has the reason once, handlers are not called, and a
request tries again after two seconds. Views that use it raise the bus's exception.
"""

from libbus.flask._extension import Bus

__all__ = ["Bus"]
