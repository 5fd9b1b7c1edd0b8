"""A page of another site in a real browser, which asks first, and keeps answers from pages that may not read them."""

from textwrap import dedent

import pytest
from webserver import Server

pytestmark = pytest.mark.xdist_group("sites")

# The same server under three names: three sites to a browser.
APP = """
    import os
    from flask import Flask, render_template_string
    from libbus.flask import Bus

    app = Flask(__name__)
    bus = Bus(app, allow=["#"], allow_publish=["#"], origins=os.environ["FRIEND"])
    app.add_url_rule("/", view_func=lambda: render_template_string("<!doctype html>{{ bus.script() }}"))
"""

LIVE = """
    const [prefix, done] = arguments;
    const bus = libbus(prefix);
    bus.on("room/a", value => done(value));
    bus.onstate = state => state === "live" && bus.publish("room/a", 7).catch(error => done(String(error)));
"""
FETCHED = """
    const [prefix, done] = arguments;
    const options = {method: "POST", headers: {"X-Libbus": "1"}, body: '{"topic": "room/a", "value": 1}'};
    Promise.allSettled([fetch(prefix + "/events?libbus-ask"), fetch(prefix + "/publish", options)])
        .then(each => done(each.map(({status}) => status)));
"""


def test_a_page_of_an_allowed_site_listens_and_publishes_and_another_one_cannot(browser, tmp_path):
    (tmp_path / "app.py").write_text(dedent(APP))
    server = Server(tmp_path, "--worker-class", "gthread", "--threads", "4")
    server.environ["FRIEND"] = f"http://localhost:{server.port}"
    with server:
        browser.get(f"http://localhost:{server.port}/")
        assert browser.execute_async_script(LIVE, server.url + "/bus") == 7
        browser.get(f"http://other.localhost:{server.port}/")
        assert browser.execute_async_script(FETCHED, server.url + "/bus") == ["rejected"] * 2
