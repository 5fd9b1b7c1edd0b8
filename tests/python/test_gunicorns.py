"""Pages under gunicorn of several years: each version lies in a folder of LIBBUS_GUNICORNS, where ./dev web puts it."""

import os
from pathlib import Path
from textwrap import dedent

import pytest
from patience import WATCHDOG
from webserver import Server, events, messages

FOLDERS = sorted(Path(os.environ.get("LIBBUS_GUNICORNS", "/nowhere")).glob("gunicorn-*"))

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(not FOLDERS, reason="no other gunicorn is installed: ./dev web"),
]

APP = """
    import flask
    from libbus.flask import Bus

    app = flask.Flask(__name__)
    app.secret_key = "for sessions"
    bus = Bus(app, allow=["#"], heartbeat=0.5)

    @app.after_request
    def sign(answer):
        flask.session["seen"] = 1
        return answer

    @app.get("/publish/<value>")
    def publish(value):
        import gunicorn
        bus.publish("a", gunicorn.__version__)
        return value
"""


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize("folder", FOLDERS, ids=[each.name for each in FOLDERS])
def test_pages_hold_no_thread_and_the_log_has_one_line_for_each(tmp_path, folder, worker):
    if worker == "gevent":
        pytest.importorskip("gevent")
    (tmp_path / "app.py").write_text(dedent(APP))
    options = ("--worker-class", worker, "--threads", "2", "--access-logfile", "-")
    with (
        open(tmp_path / "log", "w") as log,
        Server(
            tmp_path, *options, level="debug", stderr=log, stdout=log, PYTHONPATH=str(folder)
        ) as server,
    ):
        pages = []
        for _ in range(5):
            page = server.get("/bus/events?filter=a")
            assert page.status == 200
            assert page.headers["Set-Cookie"].startswith("session=")
            pages.append(page)
        found = [messages(page) for page in pages]
        with server.page("/publish/x") as answer:
            assert answer.read() == b"x"
        assert [next(each)["value"] for each in found] == [
            folder.name.removeprefix("gunicorn-")
        ] * 5
        server.process.terminate()
        for page in pages:
            *_, last = events(page)
            assert last == ("end", "{}")
            page.close()
            page.connection.close()
        assert server.process.wait(WATCHDOG) == 0
    text = (tmp_path / "log").read_text()
    assert text.count('"GET /bus/events?filter=a HTTP/1.1" 200') == 5, text
    assert not any(word in text for word in ("Traceback", "[ERROR]", "[WARNING]")), text
