"""A live page behind nginx, with the nginx.conf beside this file.

pip install 'libbus[flask]' gunicorn
gunicorn --workers 2 --bind 127.0.0.1:8001 app:app
nginx -c "$PWD/nginx.conf"              # in another terminal, as root: http://127.0.0.1:8000
"""

import time

from flask import Flask

from libbus.flask import Bus

app = Flask(__name__)
# hosts: the names of the site. Other names are refused, except those of this machine and of a local network.
bus = Bus(app, name="behind-nginx", allow=["room/#"], hosts=["example.com", "www.example.com"])


@app.get("/")
def page():
    return bus.page("room/#")


@bus.background()
def clock():
    while bus.running:
        bus.publish("room/clock", time.strftime("%H:%M:%S"), retain=True)
        time.sleep(1)
