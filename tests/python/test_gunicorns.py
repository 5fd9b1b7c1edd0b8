"""Pages under several versions of gunicorn, each in a folder of LIBBUS_GUNICORNS, made by ./dev web."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import pytest
from patience import WATCHDOG
from webserver import Server, events, messages, stream

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
            name, retry_ms = last
            assert (name, 2000 <= int(retry_ms) <= 6000) == ("end", True), last
            page.close()
            page.connection.close()
        assert server.process.wait(WATCHDOG) == 0
    text = (tmp_path / "log").read_text()
    assert text.count('"GET /bus/events?filter=a HTTP/1.1" 200') == 5, text
    assert not any(word in text for word in ("Traceback", "[ERROR]", "[WARNING]")), text


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_a_page_of_http_2_does_not_block_its_browser(tmp_path, certificate, worker):
    """curl sends its requests on one connection, as a browser does: the second is answered after the first."""
    (tmp_path / "app.py").write_text(dedent(APP))
    files = ["--certfile", certificate / "cert.pem", "--keyfile", certificate / "key.pem"]
    options = ["--worker-class", worker, "--threads", "2", "--http-protocols", "h2,h1", *files]
    curl = ["curl", "--silent", "--http2", "--cacert", certificate / "cert.pem"]
    with (
        open(tmp_path / "log", "w") as log,
        Server(tmp_path, *map(str, options), stderr=log) as server,
    ):
        site = f"https://localhost:{server.port}"

        def page_and_then(*paths, after=""):
            urls = [f"{site}/bus/events?filter=a", *(site + path for path in paths)]
            done = subprocess.run(
                [*curl, "--header", f"Last-Event-ID: {after}", *urls],
                check=True,
                stdout=subprocess.PIPE,
                timeout=WATCHDOG,
            )
            return done.stdout

        *lines, answer = page_and_then("/publish/x").splitlines(keepends=True)
        assert answer == b"x"
        *_, beat = stream(lines)
        assert beat.name == "hb"
        (message,) = messages([page_and_then(after=beat.id)])
        assert message["value"] == version("gunicorn")
    text = (tmp_path / "log").read_text()
    assert text.count("gunicorn answers the requests of an HTTP/2 connection") == 1, text
    assert "Traceback" not in text
