"""Live pages of libbus.flask: the stream that a browser gets, from each server."""

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from textwrap import dedent

import flask
import pytest
from flask_site import opened, site, until
from patience import WATCHDOG
from sse import AWKWARD, one_end_of_lines
from webserver import Server, events, messages, stream
from werkzeug.serving import WSGIRequestHandler, make_server

import libbus
from libbus.flask import _detach


@pytest.fixture
def program(tmp_path):
    """Starts gunicorn with an app: the lines common to all apps here, then these."""
    head = """
        import os
        import flask
        import libbus
        from libbus.flask import Bus

        app = flask.Flask(__name__)
        app.secret_key = "for sessions"
        bus = Bus(app, allow=["#"], heartbeat=0.5)

        @app.after_request
        def sign(answer):
            answer.headers["Pid"] = str(os.getpid())
            flask.session["seen"] = 1
            return answer

        @app.get("/publish/<topic>/<value>")
        def publish(topic, value):
            bus.publish(topic, value)
            return "published"
    """
    with contextlib.ExitStack() as stack:

        def start(source, *options, bus="", **more):
            text = dedent(head).replace("heartbeat=0.5", f"heartbeat=0.5, {bus}") + dedent(source)
            (tmp_path / "app.py").write_text(text)
            return stack.enter_context(Server(tmp_path, *options, **more))

        yield start


def read(server, path, **headers):
    with server.page(path, **headers) as answer:
        return answer.status, answer.read().decode()


# --- what is in the stream --------------------------------------------------------------------------------


def test_any_text_arrives_as_it_was_by_a_strict_parser():
    app, bus = site()
    with opened(app, "/bus/events?filter=a") as answer:
        found = messages(answer.response)
        for text in AWKWARD:
            bus.publish("a", text)
        assert [next(found)["value"] for _ in AWKWARD] == AWKWARD
    bus.close()


def test_raw_text_arrives_as_it_was_but_for_the_ends_of_lines():
    app, bus = site()

    @app.get("/raw")
    def raw():
        return bus.sse("a", raw=True)

    with opened(app, "/raw") as answer:
        found = (event for event in stream(answer.response) if event.name == "message")
        for text in AWKWARD:
            bus.publish("a", text)
        assert [next(found).data for _ in AWKWARD] == list(map(one_end_of_lines, AWKWARD))
    bus.close()


def test_a_raw_page_gets_the_value_alone_under_the_name_of_the_view():
    app, bus = site()

    @app.get("/raw")
    def raw():
        return bus.sse("a", "b", raw=True, event="reading")

    with opened(app, "/raw") as answer:
        found = (event for event in stream(answer.response) if event.name != "hb")
        bus.publish("a", {"x": [1, None]})
        bus.publish("b", "text")
        first, second = next(found), next(found)
        assert (first.name, json.loads(first.data)) == ("reading", {"x": [1, None]})
        assert (second.name, second.data) == ("reading", "text")
    bus.close()


def test_a_raw_event_has_the_name_in_the_header_of_its_message():
    app, bus = site()
    with opened(app, "/bus/events?filter=a&raw") as answer:
        found = (event for event in stream(answer.response) if event.name != "hb")
        bus.publish("a", "x", headers={"event": "greeting"})
        bus.publish("a", "y")
        assert [(event.name, event.data) for event in (next(found), next(found))] == [
            ("greeting", "x"),
            ("message", "y"),
        ]
    bus.close()


def test_every_event_has_an_id_and_a_page_resumes_behind_it():
    app, bus = site()
    with opened(app, "/bus/events?filter=a") as answer:
        found = stream(answer.response)
        bus.publish("a", 1)
        seen = next(event for event in found if event.name == "message")
        assert seen.id
    bus.publish("a", 2)
    bus.publish("b", 0)
    bus.publish("a", 3)
    for path, headers in (
        (f"/bus/events?filter=a&after={seen.id}", {}),
        ("/bus/events?filter=a", {"Last-Event-ID": seen.id}),
        (f"/bus/events?filter=a&after={seen.id}", {"Last-Event-ID": "0-0"}),
    ):
        with opened(app, path, headers=headers) as answer:
            found = messages(answer.response)
            assert [next(found)["value"] for _ in range(2)] == [2, 3]
    bus.close()


@pytest.mark.parametrize("id", ["0-0", "ffffffff-ffffffff", "1-1k"])
def test_an_id_of_another_life_resets_the_page(id):
    app, bus = site()
    bus.publish("a", 1, retain=True)
    with opened(app, "/bus/events", query_string={"filter": "a", "after": id}) as answer:
        names = [name for name, _ in zip(events(answer.response), range(4), strict=False)]
        assert "reset" in [name for name, _ in names]
    bus.close()


@pytest.mark.parametrize("id", ["no id", "é", "a\0b", "x" * 5000])
def test_a_malformed_id_begins_a_new_page(id):
    app, bus = site()
    bus.publish("a", 1, retain=True)
    with opened(app, "/bus/events", query_string={"filter": "a", "after": id}) as answer:
        assert next(messages(answer.response))["value"] == 1
    bus.close()


@pytest.mark.parametrize(
    ("query", "wanted"), [("last=2", [2, 3]), ("since=3600", [0, 1, 2, 3]), ("last=0", [])]
)
def test_a_page_of_a_named_bus_may_begin_in_the_past(tmp_path, query, wanted):
    app, bus = site(name="test", directory=tmp_path)
    for number in range(4):
        bus.publish("a", number)
    with opened(app, f"/bus/events?filter=a&{query}") as answer:
        found = messages(answer.response)
        bus.publish("a", "live")
        assert [next(found)["value"] for _ in range(len(wanted) + 1)] == [*wanted, "live"]
    bus.close()


@pytest.mark.parametrize("query", ["last=x", "last=-1", "since=x", "since=nan", "last=1e3"])
def test_a_malformed_start_is_the_page_s_mistake(query):
    app, _ = site()
    answer = app.test_client().get(f"/bus/events?filter=a&{query}")
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "START")


@pytest.mark.parametrize(
    ("options", "said"), [({"full": "refuse"}, "choose one of"), ({"max_hz": 0}, "max_hz=0")]
)
def test_a_mistake_of_the_view_is_an_exception(options, said):
    app, bus = site()
    app.testing = True

    @app.get("/page")
    def page():
        return bus.sse("a", **options)

    with pytest.raises(ValueError, match=said):
        app.test_client().get("/page")
    bus.close()


def test_the_options_of_the_bus_pass_through(tmp_path):
    _, bus = site(
        name="test",
        directory=tmp_path,
        log_bytes=5 << 20,
        max_payload=100,
        will=libbus.Will("left", 1),
    )
    with pytest.raises(libbus.TooBigError):
        bus.publish("a", "x" * 101)
    assert list(tmp_path.iterdir())
    bus.close()


# --- servers ------------------------------------------------------------------------------------------------


def test_taking_a_socket_works_here():
    assert _detach.fails_because() == ""


WORKERS = [("sync",), ("gthread", "--threads", "2")]


@pytest.mark.parametrize("worker", WORKERS, ids=["sync", "gthread"])
def test_headers_of_the_app_arrive_and_the_server_logs_one_line(program, tmp_path, worker):
    with open(tmp_path / "log", "w") as log:
        server = program(
            "",
            "--worker-class",
            *worker,
            "--access-logfile",
            "-",
            level="debug",
            stdout=log,
            stderr=log,
        )
        with server.page("/bus/events?filter=a") as page:
            assert page.status == 200
            assert page.headers["Content-Type"].startswith("text/event-stream")
            assert page.headers["Connection"] == "close"
            assert page.headers["X-Accel-Buffering"] == "no"
            assert page.headers["Set-Cookie"].startswith("session=")
            assert page.headers["Pid"]
            assert "Content-Length" not in page.headers
            assert "Transfer-Encoding" not in page.headers
            found = messages(page)
            assert read(server, "/publish/a/1") == (200, "published")
            assert next(found)["value"] == "1"
        assert read(server, "/publish/a/2")[0] == 200
    text = (tmp_path / "log").read_text()
    assert text.count('"GET /bus/events?filter=a HTTP/1.1" 200') == 1
    assert "Traceback" not in text
    assert "[ERROR]" not in text
    assert "[WARNING]" not in text


@pytest.mark.parametrize("worker", WORKERS, ids=["sync", "gthread"])
def test_a_page_on_a_connection_that_was_used_before_is_taken_too(program, worker):
    server = program("", "--worker-class", *worker)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WATCHDOG)
    with contextlib.closing(connection):
        for path in ("/publish/a/1", "/publish/a/2"):
            connection.request("GET", path)
            assert connection.getresponse().read() == b"published"
        connection.request("GET", "/bus/events?filter=a")
        answer = connection.getresponse()
        found = messages(answer)
        assert read(server, "/publish/a/3")[0] == 200
        assert next(found)["value"] == "3"
        answer.close()


@pytest.mark.parametrize("worker", WORKERS, ids=["sync", "gthread"])
def test_the_pages_of_an_ending_worker_reconnect_elsewhere(program, tmp_path, worker):
    with open(tmp_path / "log", "w") as log:
        server = program("", "--worker-class", *worker, stderr=log)
        with server.page("/bus/events?filter=a") as page:
            seen = []
            for chunk in page:
                seen.append(chunk)
                if b"hb" in chunk:
                    break
            server.process.terminate()
            rest = b"".join([*seen, *page]).decode()
        assert server.process.wait(WATCHDOG) == 0
    *_, last = rest.strip("\n").split("\n\n")
    assert "event: end" in last.split("\n")
    assert any(line.startswith("retry: ") for line in last.split("\n"))
    assert "Traceback" not in (tmp_path / "log").read_text()


class Recording(WSGIRequestHandler):
    lines = None

    def log(self, type, message, *args):
        self.lines.append((type, message % args))


@contextlib.contextmanager
def werkzeug(app, **options):
    handler = type("Handler", (Recording,), {"lines": []})
    server = make_server("127.0.0.1", 0, app, request_handler=handler, **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.port, handler.lines
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def page_of(port, path="/bus/events?filter=a", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WATCHDOG)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.connection = connection
    return answer


@pytest.mark.parametrize("threaded", [True, False])
def test_flask_s_own_server_continues_without_a_log_line(threaded, capfd):
    app, bus = site()
    with werkzeug(app, threaded=threaded) as (port, lines):
        pages = [page_of(port) for _ in range(3)]
        found = [messages(page) for page in pages]
        bus.publish("a", 1)
        assert [next(each)["value"] for each in found] == [1, 1, 1]
        for page in pages:
            page.close()
            page.connection.close()
        bus.close()
    assert len(lines) == 3
    assert all(line[0] == "info" and '" 200 -' in line[1] for line in lines), lines
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err


def test_a_server_that_ends_tls_itself_holds_a_thread_for_each_page(program, certificate, tmp_path):
    options = ["--certfile", certificate / "cert.pem", "--keyfile", certificate / "key.pem"]
    with open(tmp_path / "log", "w") as log:
        server = program(
            "import logging; app.logger.setLevel(logging.INFO)",
            "--worker-class",
            "gthread",
            "--threads",
            "4",
            *map(str, options),
            stderr=log,
        )
        context = ssl.create_default_context(cafile=certificate / "cert.pem")

        def get(path):
            connection = http.client.HTTPSConnection(
                "localhost", server.port, timeout=WATCHDOG, context=context
            )
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.connection = connection
            return answer

        pages = [get("/bus/events?filter=a") for _ in range(3)]
        assert [page.status for page in pages] == [200] * 3
        refused = get("/bus/events?filter=a")
        assert refused.status == 503
        assert "--threads 4" in json.load(refused)["error"]["message"]
        found = [messages(page) for page in pages]
        assert get("/publish/a/1").read() == b"published"
        assert [next(each)["value"] for each in found] == ["1"] * 3
        server.process.terminate()
        assert [name for name, _ in events(pages[0]) if name != "hb"][-1:] in (["end"], [])
        assert server.process.wait(WATCHDOG) == 0
    text = (tmp_path / "log").read_text()
    assert text.count("TLS ends inside this server") == 1
    assert "Traceback" not in text


def test_a_child_of_the_worker_does_not_keep_a_page_open():
    """A program that the app starts, or a process that it forks, outlives the page."""
    app, bus = site()
    with werkzeug(app, threaded=True) as (port, _):
        page = page_of(port)
        next(events(page))
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                time.sleep(WATCHDOG)
            os._exit(0)
        try:
            bus.close()
            assert [name for name, _ in events(page) if name != "hb"] == ["end"]
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
        page.connection.close()


# --- handlers and background functions ------------------------------------------------------------------------


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
def test_handlers_get_messages_before_the_first_request_of_the_worker(program, tmp_path, preload):
    program(
        """
        @bus.on("ping")
        def ping(msg):
            bus.publish("pong", msg.value)
        """,
        "--workers",
        "2",
        *preload,
        bus=f"name='test', directory={str(tmp_path)!r}",
    )
    with libbus.Bus("test", directory=tmp_path) as bus, bus.subscribe("pong") as pongs:

        def both_answer():
            bus.publish("ping", 1)
            time.sleep(0.05)
            return sum(1 for _ in pongs.iter(timeout=0)) >= 2

        until(both_answer)


def test_one_worker_runs_a_background_function_and_another_takes_over(program, tmp_path):
    program(
        """
        import time

        @bus.background()
        def clock():
            assert flask.current_app.name == "app"
            while bus.running:
                bus.publish("clock", os.getpid())
                time.sleep(0.02)
        """,
        "--workers",
        "2",
        bus=f"name='test', directory={str(tmp_path)!r}",
    )
    with libbus.Bus("test", directory=tmp_path) as bus, bus.subscribe("clock") as ticks:
        first = ticks.recv(timeout=WATCHDOG).value
        for _ in range(20):
            assert ticks.recv(timeout=WATCHDOG).value == first
        os.kill(first, 9)
        until(lambda: ticks.recv(timeout=WATCHDOG).value != first)


def test_a_background_function_that_fails_is_called_again(caplog, monkeypatch):
    monkeypatch.setattr("libbus.flask._worker.RETRY_S", 0)
    app, bus = site()
    calls, done = [], threading.Event()

    @bus.background()
    def job():
        calls.append(flask.current_app.name)
        if len(calls) < 3:
            raise OSError("not yet")
        done.set()

    app.test_client().get("/bus/static/libbus.js")
    assert done.wait(WATCHDOG)
    assert len(calls) == 3
    assert "job failed and is called again" in caplog.text
    bus.close()


def test_flask_s_own_server_starts_handlers_without_a_request(tmp_path):
    (tmp_path / "app.py").write_text(
        dedent(f"""
        import flask
        from libbus.flask import Bus

        app = flask.Flask(__name__)
        bus = Bus(app, name="test", directory={str(tmp_path)!r})

        @bus.on("ping")
        def ping(msg):
            bus.publish("pong", msg.value)
        """)
    )
    command = [sys.executable, "-m", "flask", "run", "--port", "0"]
    with libbus.Bus("test", directory=tmp_path) as bus, bus.subscribe("pong") as pongs:
        server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        try:

            def answers():
                bus.publish("ping", 1)
                time.sleep(0.05)
                return list(pongs.iter(timeout=0))

            until(answers)
        finally:
            server.kill()
            server.wait()


# --- a first page -----------------------------------------------------------------------------------------------


def test_a_page_for_a_first_try_needs_nothing_else():
    app, bus = site(url_prefix="/live")

    @app.get("/")
    def first():
        return bus.page("a/#", "</script>", nonce="n-1")

    text = app.test_client().get("/").text
    assert text.startswith("<!doctype html>")
    assert 'src="/live/static/libbus.js" nonce="n-1"' in text
    assert '["a/#", "\\u003c/script>"]' in text
    assert text.count("</script>") == 2
    assert "<h1>a/# &lt;/script&gt;</h1>" in text
    assert "<code>bus.publish(&#34;a/test&#34;, 1)</code>" in text


def test_a_page_for_a_first_try_shows_how_to_publish_on_a_named_bus():
    app, bus = site(name="home")
    with app.test_request_context():
        assert "<code>libbus pub home room/test/lamp 1</code>" in bus.page("room/+/lamp")
        assert "<code>libbus pub home &#39;two words&#39; 1</code>" in bus.page("two words")


def test_pages_have_counters():
    app, bus = site()
    with opened(app, "/bus/events?filter=a") as answer:
        next(events(answer.response))
        assert bus.pages()["pages"] == 1
        assert bus.pages()["opened"] == 1
    until(lambda: bus.pages()["pages"] == 0)
    bus.close()
