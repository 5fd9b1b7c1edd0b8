"""Chat rooms with a login. Members read a room and its last 30 messages, and write under their own names.

pip install 'libbus[flask]' gunicorn
export CHAT_SECRET_KEY=$(python -c "import secrets; print(secrets.token_hex())")
gunicorn --workers 2 app:app            # http://127.0.0.1:8000, as ann, bob or eve; the password is the name
"""

from flask import Flask, flash, redirect, render_template, request, session
from werkzeug.security import check_password_hash, generate_password_hash

from libbus.flask import Bus

PASSWORDS = {name: generate_password_hash(name) for name in ("ann", "bob", "eve")}
ROOMS = {"garden": ("ann", "bob", "eve"), "kitchen": ("ann", "bob"), "cellar": ("eve",)}

app = Flask(__name__)
app.config.from_mapping(BUS="chat", SESSION_COOKIE_SAMESITE="Lax")
app.config.from_prefixed_env("CHAT", loads=str)
bus = Bus(app, name=app.config["BUS"], allow=["chat/+/+"], allow_publish=["chat/+/+"])


@bus.authorize
def may(action, what):
    """Topics are chat/ROOM/NAME: a member may publish under its own name only."""
    _, room, name = what.split("/")
    user = session.get("user")
    return user in ROOMS.get(room, ()) and (action != "publish" or name == user)


@app.get("/")
@app.get("/<room>")
def chat(room=None):
    user = session.get("user")
    rooms = [each for each, members in ROOMS.items() if user in members]
    if user and room not in rooms:
        return redirect(f"/{rooms[0]}")
    return render_template("chat.html", user=user, room=room, rooms=rooms)


@app.post("/login")
def login():
    name = request.form["name"]
    if check_password_hash(PASSWORDS.get(name, ""), request.form["password"]):
        session["user"] = name
    else:
        flash("The name or the password is wrong: try again.")
    return redirect("/")


@app.post("/logout")
def logout():
    session.clear()
    return redirect("/")
