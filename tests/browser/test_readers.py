"""One body, three readers: EventSource, htmx with its extension for events, and five lines of fetch() in its place.

./dev web puts htmx into the folder LIBBUS_HTMX.
"""

import os
import shutil
from pathlib import Path
from textwrap import dedent

import pytest
from page import until
from webserver import Server

HTMX = Path(os.environ.get("LIBBUS_HTMX", "/nowhere"))

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(not HTMX.exists(), reason="no htmx is there: ./dev web"),
]

APP = """
    import flask
    from libbus.flask import Bus

    app = flask.Flask(__name__)
    bus = Bus(app)

    READERS = {
        "EventSource": '''<ol id="list"></ol><script>
            const source = new EventSource("/rows");
            source.onmessage = (event) => list.insertAdjacentHTML("beforeend", event.data);
        </script>''',
        "htmx": '''<script src="/static/htmx.min.js"></script><script src="/static/sse.min.js"></script>
            <ol id="list" hx-ext="sse" sse-connect="/rows" sse-swap="message" hx-swap="beforeend"></ol>''',
        "polyfill": '''<ol id="list"></ol><script type="module">
            const body = (await fetch("/rows")).body.pipeThrough(new TextDecoderStream());
            let text = "";
            for await (const part of body)
                for (text += part; text.includes("\\\\n\\\\n"); text = text.slice(text.indexOf("\\\\n\\\\n") + 2))
                    list.insertAdjacentHTML("beforeend", text.match(/^data: (<li>.*)/m)?.[1] ?? "");
        </script>''',
    }

    @app.get("/<reader>")
    def page(reader):
        return "<!doctype html><title>rows</title>" + READERS[reader]

    @app.get("/rows")
    def rows():
        return bus.sse("row/#", raw=True)

    @app.get("/publish/<int:count>")
    def publish(count):
        for i in range(count):
            bus.publish(f"row/{i}", f"<li>row {i} \\N{THERMOMETER}</li>")
        return {}

    @app.get("/opened")
    def opened():
        return str(bus.pages()["opened"])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readers")
    (folder / "app.py").write_text(dedent(APP))
    shutil.copytree(HTMX, folder / "static")
    with Server(folder, "--threads", "4") as server:
        yield server


@pytest.mark.parametrize("reader", ["EventSource", "htmx", "polyfill"])
def test_each_shows_every_row_once_and_in_order(browser, site, reader):
    opened = int(site.get("/opened").read())
    browser.get(f"{site.url}/{reader}")
    until(browser, "fetch('/opened').then((answer) => answer.text())", str(opened + 1))
    site.get("/publish/100").read()
    until(browser, "list.children.length", 100)
    shown = browser.execute_script("return Array.from(list.children, (row) => row.textContent)")
    assert shown == [f"row {i} \N{THERMOMETER}" for i in range(100)]
