"""A live page behind nginx: nginx.conf beside this file says how.

pip install 'libbus[flask]' gunicorn
gunicorn --workers 2 --bind 127.0.0.1:8001 app:app
nginx -c "$PWD/nginx.conf"              # in another terminal, as root: http://127.0.0.1:8000
"""

import time

from flask import Flask

from libbus.flask import Bus

app = Flask(__name__)
# hosts: the names of the site. Any other is refused; this machine's own and those of a local network are known.
bus = Bus(app, name="behind-nginx", allow=["room/#"], hosts=["example.com", "www.example.com"])


@app.get("/")
def page():
    return bus.page("room/#")


@bus.background()
def clock():
    while bus.running:
        bus.publish("room/clock", time.strftime("%H:%M:%S"), retain=True)
        time.sleep(1)
