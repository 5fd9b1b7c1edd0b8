"""A live page of this machine: host_sensors publishes, a browser shows the values.

host_sensors --bus sensors
flask --app app run

Settings, all from the environment: DASHBOARD_BUS, the name of the bus (sensors); DASHBOARD_TOKENS and DASHBOARD_SECRET_KEY, see Gate.
"""

import hashlib
import secrets
from pathlib import Path

from flask import Flask, redirect, render_template, request, session

from libbus.flask import Bus

bus = Bus()


def create_app(**config):
    app = Flask(__name__)
    app.config.from_mapping(BUS="sensors", TOKENS=None, SECRET_KEY=secrets.token_hex())
    app.config.from_prefixed_env("DASHBOARD", loads=str)
    app.config.from_mapping(config)

    bus.init_app(app, name=app.config["BUS"], allow=["host/#"], heartbeat=5)
    if app.config["TOKENS"]:
        Gate(app, Path(app.config["TOKENS"]))

    @app.get("/")
    def dashboard():
        return render_template("dashboard.html")

    @app.after_request
    def offline(response):
        # The page loads nothing from other sites, and the browser enforces it.
        response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return app


class Gate:
    """Admits a browser that opens a link with a token, once; after that its session cookie admits it.

    TOKENS is a directory that holds an empty file for each unused token, named by its SHA-256.
    """

    def __init__(self, app, tokens):
        self.tokens = tokens
        app.config.update(SESSION_COOKIE_SAMESITE="Lax")
        app.before_request(self.check)

    def check(self):
        if session.get("in") or request.endpoint == "static":
            return None
        if self.redeem(request.args.get("token", "")):
            session["in"] = True
            return redirect(request.path)  # removes the token from the address bar
        return render_template("locked.html"), 403

    def redeem(self, token):
        try:
            (self.tokens / hashlib.sha256(token.encode()).hexdigest()).unlink()
        except FileNotFoundError:
            return False
        return True  # another request with the same link removed the file first
