"""libbus.asgi under uvicorn: Starlette, FastAPI and no framework at all."""

import contextlib
import http.client
import importlib.util
import json
import os
import subprocess
import sys
from textwrap import dedent

import pytest
from patience import WATCHDOG
from webserver import messages, stream

import libbus

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(each) for each in ("uvicorn", "fastapi")),
        reason="uvicorn and FastAPI are not installed: ./dev web",
    ),
]

APPS = {
    "starlette": """
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Mount, Route

        async def mine(request):
            answer = pages.sse("a", raw=True, event="reading")
            answer.set_cookie("seen", "1")
            return answer

        async def publish(request):
            bus.publish("a", request.query_params["value"])
            return PlainTextResponse("published")

        app = Starlette(routes=[Mount("/bus", pages), Route("/mine", mine), Route("/publish", publish)])
    """,
    "fastapi": """
        from fastapi import FastAPI

        app = FastAPI()
        app.mount("/bus", pages)

        @app.get("/mine")
        async def mine():
            answer = pages.sse("a", raw=True, event="reading")
            answer.set_cookie("seen", "1")
            return answer

        @app.get("/publish")
        def publish(value: str):
            bus.publish("a", value)
            return "published"
    """,
}
HEAD = """
    import os
    import libbus
    from libbus.asgi import Pages

    bus = libbus.Bus("test", directory=os.path.dirname(os.path.abspath(__file__)), on_fork="reopen")
    pages = Pages(bus, allow=["a/#"], heartbeat=0.5, max_pages=20)
"""


class Site:
    def __init__(self, folder, source, stderr):
        (folder / "app.py").write_text(dedent(HEAD) + dedent(source))
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--log-level", "info"]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"NO_COLOR": "1"},
        )
        for line in self.process.stderr:
            stderr.append(line)
            if "running on" in line:
                self.port = int(line.split("http://127.0.0.1:")[1].split()[0])
                return
        raise AssertionError("".join(stderr))

    @contextlib.contextmanager
    def page(self, path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WATCHDOG)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            with answer:
                yield answer


@pytest.fixture(params=sorted(APPS))
def site(request, tmp_path):
    log = []
    site = Site(tmp_path, APPS[request.param], log)
    try:
        yield site
    finally:
        site.process.terminate()
        log += site.process.stderr
        assert site.process.wait(WATCHDOG) in (0, -15)
        assert "Traceback" not in "".join(log)


def test_a_page_gets_events_and_resumes_behind_its_last_one(site, tmp_path):
    with site.page("/bus/events?filter=a/%23") as page:
        assert page.headers["Content-Type"] == "text/event-stream"
        assert page.headers["X-Accel-Buffering"] == "no"
        found = stream(page)
        assert next(found).name == "hb"
        with site.page("/publish?value=x") as answer:
            assert b"published" in answer.read()
        event = next(event for event in found if event.name == "message")
        assert json.loads(event.data) == {"topic": "a", "value": "x", "kept": False}
    with libbus.Bus("test", directory=tmp_path) as bus:
        bus.publish("a", "missed")
    with site.page("/bus/events", **{"Last-Event-ID": event.id}) as page:
        assert next(messages(page))["value"] == "missed"


def test_a_view_returns_events_as_its_response(site):
    with site.page("/mine") as page:
        assert page.headers["Set-Cookie"].startswith("seen=1")
        found = stream(page)
        next(found)
        with site.page("/publish?value=x") as answer:
            answer.read()
        event = next(event for event in found if event.name != "hb")
        assert (event.name, event.data) == ("reading", "x")


def test_pages_that_leave_free_their_places(site):
    for _ in range(3):
        with contextlib.ExitStack() as stack:
            pages = []
            while len(pages) < 20:
                page = stack.enter_context(site.page("/bus/events"))
                if page.status == 200:  # else one before it has not left yet
                    pages.append(page)
            with site.page("/bus/events") as refused:
                assert refused.status == 503
                assert json.load(refused)["error"]["code"] == "TOO_MANY_PAGES"


def test_the_pages_of_a_stopping_server_reconnect_elsewhere(site):
    with site.page("/bus/events") as page:
        found = stream(page)
        next(found)
        site.process.terminate()
        assert [event.name for event in found][-1] == "end"
        site.process.wait(WATCHDOG)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("filter=b", 403, "NOT_ALLOWED"),
        ("filter=a/%23/b", 400, "FILTER"),
        ("filter=a&last=x", 400, "START"),
    ],
)
def test_a_refused_request_gets_the_reason(site, query, status, code):
    with site.page(f"/bus/events?{query}") as answer:
        assert (answer.status, json.load(answer)["error"]["code"]) == (status, code)


def test_the_client_is_served_and_a_trial_request_takes_no_place(site):
    with site.page("/bus/static/libbus.js") as answer:
        assert answer.headers["Content-Type"].startswith("text/javascript")
        assert b"EventSource" in answer.read()
    with site.page("/bus/events?filter=a&libbus-ask") as answer:
        assert (answer.status, answer.read()) == (200, b"")
    with site.page("/bus/other") as answer:
        assert answer.status == 404
