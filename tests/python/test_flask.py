import collections
import contextlib
import functools
import json
import os
import threading
import time
import types
from importlib.metadata import version
from textwrap import dedent

import flask
import pytest
from patience import WATCHDOG
from webserver import Server, events, messages
from werkzeug.test import create_environ

import libbus
from libbus.flask import Bus


def site(**options):
    app = flask.Flask(__name__)
    bus = Bus(app, **{"heartbeat": 0.2, **options})

    @app.get("/script")
    def script():
        return flask.render_template_string("{{ bus.script() }}{{ bus.script(nonce='n-1') }}")

    @app.get("/mine")
    def mine():
        return bus.sse("mine/#")

    return app, bus


@contextlib.contextmanager
def opened(app, path):
    answer = app.test_client().get(path)
    try:
        yield answer
    finally:
        answer.close()


def lines(answer):
    return iter(answer.response)


def until(condition):
    deadline = time.monotonic() + WATCHDOG
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


# --- what a page may ask for ------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["a", "a/b", "#", "$SYS/x"])
def test_a_page_may_listen_to_nothing_by_default(asked):
    app, _ = site()
    answer = app.test_client().get("/bus/events", query_string={"filter": asked})
    assert answer.status_code == 403
    error = answer.json["error"]
    assert error["code"] == "NOT_ALLOWED"
    assert repr(asked) in error["message"]
    assert "init_app(allow=[" in error["message"]


def test_one_filter_that_is_not_allowed_spoils_the_request():
    app, _ = site(allow=["a/#"])
    answer = app.test_client().get("/bus/events?filter=a/b&filter=secret/b")
    assert (answer.status_code, answer.json["error"]["filter"]) == (403, "secret/b")


@pytest.mark.parametrize("asked", ["", "a/#/b", "a+", "#a", "/".join("a" * 33), "é" * 600, "a\0b"])
def test_a_malformed_filter_is_the_page_s_mistake(asked):
    app, _ = site(allow=["#"])
    answer = app.test_client().get("/bus/events", query_string={"filter": asked})
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "FILTER")


def test_a_request_without_a_filter_gets_all_that_pages_may_listen_to():
    app, bus = site(allow=["a/#", "b"])
    with opened(app, "/bus/events") as answer:
        bus.publish("c", 0)
        bus.publish("a/1", 1)
        bus.publish("b", 2)
        found = messages(lines(answer))
        assert [next(found)["value"], next(found)["value"]] == [1, 2]
    bus.close()


def test_a_request_without_a_filter_is_refused_where_pages_may_listen_to_nothing():
    app, _ = site()
    answer = app.test_client().get("/bus/events")
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "NOT_ALLOWED")
    assert "init_app(allow=[" in answer.json["error"]["message"]


def test_a_malformed_allow_is_found_at_the_start():
    with pytest.raises(ValueError, match=r"^a/#/b: malformed filter: level 2"):
        site(allow=["a/#/b"])


# --- a stream ---------------------------------------------------------------------------------------


def test_a_page_gets_the_kept_value_and_then_live_ones():
    app, bus = site(allow=["a/#"])
    bus.publish("a/b", {"x": "</script>"}, retain=True)
    with opened(app, "/bus/events?filter=a/b&filter=a/c") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store, no-transform"
        assert answer.headers["X-Accel-Buffering"] == "no"
        found = messages(lines(answer))
        assert next(found) == {"topic": "a/b", "value": {"x": "</script>"}, "kept": True}
        bus.publish_raw("a/c", b"21.5")
        assert next(found) == {"topic": "a/c", "value": 21.5, "kept": False}
    bus.close()


def test_a_stream_begins_with_the_heartbeat_and_beats_in_silence():
    app, bus = site(allow=["#"])
    with opened(app, "/bus/events?filter=a") as answer:
        found = events(lines(answer))
        beats = [next(found) for _ in range(3)]
        assert [(name, float(data)) for name, data in beats] == [("hb", 0.2)] * 3
    bus.close()


def test_a_view_may_show_topics_outside_allow():
    app, bus = site()
    bus.publish("mine/1", 1, retain=True)
    with opened(app, "/mine") as answer:
        assert next(messages(lines(answer)))["value"] == 1
    bus.close()


def test_a_page_gets_the_number_of_lost_messages():
    app, bus = site(allow=["#"])
    with opened(app, "/bus/events?filter=a") as answer:
        found = events(lines(answer))
        next(found)
        for number in range(100):
            bus.publish("a", [number, "x" * 10_000])
        expected, lost = 0, 0
        while expected < 100:
            name, data = next(found)
            if name == "gap":
                lost += json.loads(data)["lost"]
                expected += json.loads(data)["lost"]
            elif name == "message":
                assert json.loads(data)["value"][0] == expected
                expected += 1
        assert lost > 0
    bus.close()


def test_a_payload_that_does_not_match_its_type_reaches_the_page_as_bytes():
    app, bus = site(allow=["#"])
    with opened(app, "/bus/events?filter=a") as answer:
        found = messages(lines(answer))
        bus.publish_raw("a", b"\xc1", encoding="msgpack")
        bus.publish("a", 2)
        assert next(found)["value"] == {"$bytes": "wQ=="}
        assert next(found)["value"] == 2
    bus.close()


def test_the_page_over_the_limit_gets_503_and_a_later_one_its_place():
    app, bus = site(allow=["#"], max_pages=2)
    url = "/bus/events?filter=a"
    with opened(app, url) as one, opened(app, url) as two:
        assert (one.status_code, two.status_code) == (200, 200)
        three = app.test_client().get(url)
        assert three.status_code == 503
        assert int(three.headers["Retry-After"]) > 0
        assert three.json["error"]["code"] == "TOO_MANY_PAGES"
        assert "max_pages" in three.json["error"]["message"]
        assert app.test_client().head(url).status_code == 503
    assert app.test_client().head(url).status_code == 200
    with opened(app, url) as four:
        assert four.status_code == 200
    bus.close()


def test_a_page_that_leaves_before_its_first_event_frees_its_place():
    app, bus = site(allow=["#"], max_pages=1)
    for _ in range(3):
        with app.test_request_context("/bus/events?filter=a"):
            answer = bus.sse("a")
            assert answer.status_code == 200
            answer.close()
    bus.close()


def test_closing_the_bus_ends_open_pages_and_the_next_use_opens_it_again():
    app, bus = site(allow=["#"])
    with opened(app, "/bus/events?filter=a") as answer:
        stream = events(lines(answer))
        next(stream)
        bus.close()
        assert [name for name, _ in stream if name != "hb"] == ["end"]
    with bus.subscribe("a") as mailbox:
        bus.publish("a", 1)
        assert mailbox.recv(timeout=WATCHDOG).value == 1
    bus.close()


# --- why a page is not live ---------------------------------------------------------------------------


def logged(caplog):
    """The warnings, except that about the test client, in which each page holds a thread."""
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    return [text for text in warnings if "needs a thread of this server" not in text]


def gunicorn_worker(kind, threads):
    return types.SimpleNamespace(
        alive=True, cfg=types.SimpleNamespace(worker_class_str=kind, threads=threads)
    )


ONE_AT_A_TIME = {"SERVER_SOFTWARE": "single/1.0", "wsgi.multithread": False}
SEVERAL = {"SERVER_SOFTWARE": "waitress", "wsgi.multithread": True}


@pytest.mark.parametrize(
    ("options", "environ", "worker", "places", "said"),
    [
        ({"max_pages": 0}, {}, None, 0, ["max_pages=0 allows no live page", "leave it out"]),
        ({"max_pages": 1}, {}, None, 1, ["(max_pages=1)", "raise max_pages"]),
        ({}, {}, None, 64, ["64 under Flask's own server", "set max_pages"]),
        ({}, ONE_AT_A_TIME, None, 0, ["(single/1.0)", "one request at a time", "--threads 8"]),
        ({}, SEVERAL, None, 3, ["3 under waitress", "set max_pages"]),
        ({}, {}, ("sync", 1), 0, ['"sync"', "one thread", "--threads 8, of which 6"]),
        ({}, {}, ("gthread", 1), 0, ['"gthread"', "one thread", "--threads 8, of which 6"]),
        ({}, {}, ("gthread", 2), 1, ["(1, with gunicorn's --threads 2)", "more --threads"]),
        ({}, {}, ("gunicorn.workers.gthread.ThreadWorker", 4), 3, ["gunicorn's --threads 4"]),
        ({}, {}, ("gevent", 1), 64, ["64 greenlets", "set max_pages"]),
        ({}, {}, ("tornado", 1), 0, ['"tornado"', "--worker-class gthread --threads 8"]),
        ({"max_pages": 2}, {}, ("gevent", 1), 2, ["(max_pages=2)", "raise max_pages"]),
    ],
)
def test_the_page_without_a_place_and_the_log_get_the_cause_and_the_next_step(
    caplog, monkeypatch, options, environ, worker, places, said
):
    if worker:
        monkeypatch.setattr(
            "libbus.flask._servers.gunicorn_worker", lambda: gunicorn_worker(*worker)
        )
    app, bus = site(allow=["#"], **options)
    url = "/bus/events?filter=a"
    with contextlib.ExitStack() as stack:
        for _ in range(places):
            page = app.test_client().get(url, environ_overrides=environ)
            stack.callback(page.close)
            assert page.status_code == 200
        refused = [app.test_client().get(url, environ_overrides=environ) for _ in range(3)]
    assert {answer.status_code for answer in refused} == {503}
    (message,) = {answer.json["error"]["message"] for answer in refused}
    assert all(part in message for part in said), message
    assert logged(caplog) == [f"libbus: {message}"]
    bus.close()


@pytest.mark.parametrize(
    ("several", "places", "said"),
    [
        (False, 0, "this server (an unnamed server) handles one request at a time"),
        (True, 3, "3 under an unnamed server, whose number of threads is unknown"),
    ],
)
def test_an_unnamed_server_is_not_taken_for_the_test_client(several, places, said):
    app, bus = site(allow=["#"])
    pages = []
    for _ in range(places + 1):
        environ = create_environ("/bus/events?filter=a", multithread=several)
        # A browser could send everything that marks the test client.
        environ["HTTP_USER_AGENT"] = f"Werkzeug/{version('werkzeug')}"
        assert "SERVER_SOFTWARE" not in environ
        statuses = []

        def start(status, headers, exc_info=None, statuses=statuses):
            statuses.append(status)

        pages.append(app(environ, start))
        assert statuses[0].startswith("503" if len(pages) > places else "200")
    assert said in b"".join(pages.pop()).decode()
    for page in pages:
        page.close()
    bus.close()


def test_a_trial_request_gets_the_same_refusal_and_takes_no_place():
    app, bus = site(allow=["#"], max_pages=1)
    url = "/bus/events?filter=a"
    for _ in range(2):
        with opened(app, url + "&libbus-ask") as asked:
            assert asked.status_code == 200
            assert asked.headers["Content-Type"] == "text/event-stream"
            assert asked.headers.get("Content-Length") == "0"
    with opened(app, url) as page:
        assert page.status_code == 200
        asked = app.test_client().get(url + "&libbus-ask")
        assert (asked.status_code, asked.json["error"]["code"]) == (503, "TOO_MANY_PAGES")
    bus.close()


def test_a_filter_that_is_not_allowed_is_logged_once(caplog):
    app, _ = site(allow=["a/#"])
    for _ in range(3):
        app.test_client().get("/bus/events?filter=a/1&filter=secret/%23")
    (line,) = logged(caplog)
    assert "'secret/#'" in line
    assert "init_app(allow=[" in line


def test_invented_filters_neither_fill_the_log_nor_hide_other_reasons(caplog):
    app, _ = site(allow=["a/#"], max_pages=0)
    for number in range(100):
        app.test_client().get(f"/bus/events?filter=invented/{number}%0Aforged")
    lines = logged(caplog)
    assert len(lines) == 8
    assert not any("\n" in line for line in lines)
    assert ["further reasons of this kind are not logged" in line for line in lines] == [
        False
    ] * 7 + [True]
    assert app.test_client().get("/bus/events?filter=a/1").status_code == 503
    assert "max_pages=0" in logged(caplog)[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "no/name"}, "no/name"),
        ({"listen": "unheard-of://address"}, "unheard-of://address"),
        ({"dial": "tcp://203.0.113.1:1"}, "tcp://203.0.113.1:1"),
    ],
)
def test_a_bus_that_cannot_be_opened_gives_a_reason_and_no_traceback(caplog, options, said):
    app, bus = site(allow=["#"], **options)
    bus.on("a")(print)  # opens the bus before a request, too
    for query in ("filter=a", "filter=a&libbus-ask", "filter=a"):
        answer = app.test_client().get(f"/bus/events?{query}")
        assert (answer.status_code, answer.json["error"]["code"]) == (503, "NO_BUS")
        assert int(answer.headers["Retry-After"]) > 0
        assert said in answer.json["error"]["message"]
    assert logged(caplog) == [f"libbus: {answer.json['error']['message']}"]
    assert not any(record.exc_info for record in caplog.records)
    assert app.test_client().get("/bus/static/libbus.js").status_code == 200


# --- the extension ----------------------------------------------------------------------------------


def test_nothing_opens_until_the_bus_is_used():
    _, bus = site(allow=["#"], listen=["unheard-of://address"])
    with pytest.raises(libbus.BusError):
        bus.publish("a", 1)


def test_a_handler_gets_messages_published_anywhere():
    app, bus = site()
    heard = []
    done = threading.Event()

    @bus.on("a/+")
    def handler(msg):
        heard.append((msg.topic, msg.value))
        if len(heard) == 2:
            done.set()

    app.test_client().get("/script")
    bus.publish("a/1", "outside a request")
    with app.test_request_context():
        bus.publish("a/2", "inside")
    assert done.wait(WATCHDOG)
    assert heard == [("a/1", "outside a request"), ("a/2", "inside")]
    bus.close()


def test_views_without_the_bus_answer_while_it_cannot_be_opened(caplog, monkeypatch):
    app, bus = site(name="no/name")
    bus.on("a")(print)

    @app.get("/publish")
    def publish():
        bus.publish("a", 1)
        return "published"

    for _ in range(3):
        assert app.test_client().get("/script").status_code == 200
    (message,) = logged(caplog)
    assert message.startswith("libbus: the bus cannot be opened, so no handler is called: ")
    assert "no/name" in message
    assert app.test_client().get("/publish").status_code == 500
    app.testing = True
    with pytest.raises(libbus.BusError, match="no/name"):
        app.test_client().get("/publish")


def test_a_bus_that_can_be_opened_later_has_its_handlers_then(monkeypatch):
    app, bus = site()
    heard = threading.Event()
    bus.on("a")(lambda msg: heard.set())

    def fail(*_, **__):
        raise libbus.TransportError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(libbus, "Bus", fail)
        assert app.test_client().get("/script").status_code == 200
    monkeypatch.setattr("libbus.flask._extension.RETRY_S", 0)
    state = app.extensions["libbus"]
    state.retry_at = 0  # that much later
    assert app.test_client().get("/script").status_code == 200
    assert state.bus is not None
    bus.publish("a", 1)
    assert heard.wait(WATCHDOG)
    bus.close()


@pytest.mark.parametrize("asked", ["", "a/#/b", "a+"])
def test_a_handler_of_a_malformed_filter_is_refused_at_once(asked):
    _, bus = site()
    with pytest.raises(libbus.FilterError):
        bus.on(asked)


def factory(bus, heard):
    app = flask.Flask("made")
    bus.init_app(app)

    @bus.on("a", app=app)
    def given(msg):
        heard.append(("given", app.config["NUMBER"], msg.value))

    @bus.on("a")
    def found(msg):
        heard.append(("found", app.config["NUMBER"], msg.value))

    return app


def test_a_handler_of_one_app_gets_messages_of_that_apps_bus_only():
    bus, heard = Bus(), []
    bus.on("a")(lambda msg: heard.append(("all", None, msg.value)))
    apps = [factory(bus, heard) for _ in range(2)]
    for number, app in enumerate(apps):
        app.config["NUMBER"] = number
        with app.app_context():
            bus.publish("a", f"of {number}")
            bus.bus.flush(timeout=WATCHDOG)
            bus.close()
    assert sorted(heard, key=str) == sorted(
        [
            (which, number if which != "all" else None, f"of {number}")
            for number in range(2)
            for which in ("given", "found", "all")
        ],
        key=str,
    )


def test_a_handler_may_name_its_app_before_the_app_has_the_bus():
    bus, app, heard = Bus(), flask.Flask("late"), []
    bus.on("a", app=app)(heard.append)
    bus.init_app(app)
    bus.publish("a", 1)
    bus.bus.flush(timeout=WATCHDOG)
    bus.close()
    assert [msg.value for msg in heard] == [1]


def test_a_factory_that_registers_for_all_apps_again_is_warned():
    bus = Bus()

    def create_app():
        bus.on("a")(lambda msg: None)

    create_app()
    with pytest.warns(RuntimeWarning, match="app=app") as caught:
        create_app()
    assert caught[0].filename == __file__


def test_handlers_registered_by_several_threads_are_each_called_once():
    _, bus = site()
    heard = collections.Counter()
    opening = threading.Barrier(5)

    def count(key, msg):
        heard[key] += 1

    def register(number):
        opening.wait()
        for n in range(20):
            bus.on("a")(functools.partial(count, (number, n)))

    def use():
        opening.wait()
        bus.publish("b", 0)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=use))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bus.publish("a", 1)
    bus.bus.flush(timeout=WATCHDOG)
    bus.close()
    assert heard == collections.Counter((number, n) for number in range(4) for n in range(20))


@pytest.mark.parametrize("where", ["bus", "on", "listen"])
def test_a_finalizer_that_uses_the_bus_while_it_is_opened_gets_the_same_one(where, monkeypatch):
    """Stands in for a finalizer: the interrupted call itself uses the bus."""
    app, bus = site(listen="inproc://reentrant")
    heard, opened_before, target = [], [], libbus
    bus.on("a")(heard.append)
    name = "Bus" if where == "bus" else where
    if where != "bus":
        target = libbus.Bus
    real = getattr(target, name)

    def interrupted(*args, **options):
        if not opened_before:
            opened_before.append(None)
            opened_before[0] = bus.bus
        return real(*args, **options)

    monkeypatch.setattr(target, name, interrupted)
    assert bus.bus is opened_before[0]
    assert app.extensions["libbus"].opened == [bus.bus]
    bus.publish("a", 1)
    bus.bus.flush(timeout=WATCHDOG)
    bus.close()
    assert [msg.value for msg in heard] == [1]


def test_the_script_is_served_from_here_and_carries_the_nonce():
    app, _ = site(url_prefix="/live")
    page = app.test_client().get("/script").text
    assert page == (
        '<script src="/live/static/libbus.js"></script><script src="/live/static/libbus.js" nonce="n-1"></script>'
    )
    script = app.test_client().get("/live/static/libbus.js")
    assert script.mimetype in ("text/javascript", "application/javascript")
    assert "EventSource" in script.text


def test_two_apps_of_one_bus_are_kept_apart():
    bus = Bus()
    apps = [flask.Flask(name) for name in ("one", "two")]
    for app in apps:
        bus.init_app(app)
    with pytest.raises(RuntimeError, match="several apps"):
        bus.publish("a", 1)
    with apps[0].app_context(), bus.subscribe("a") as one, apps[1].app_context():
        bus.publish("a", 1)
        with pytest.raises(libbus.BusTimeoutError):
            one.recv(timeout=0.05)
    for app in apps:
        with app.app_context():
            bus.close()


def test_a_bus_without_an_app_says_what_is_missing():
    with pytest.raises(RuntimeError, match="init_app"):
        Bus().publish("a", 1)


def test_an_app_takes_one_bus():
    app, _ = site()
    with pytest.raises(RuntimeError, match="already"):
        Bus(app)


# --- under gunicorn ---------------------------------------------------------------------------------

APP = """
    import os
    from flask import Flask
    from libbus.flask import Bus

    app = Flask(__name__)
    bus = Bus(app, allow=["a/#"], heartbeat=HEARTBEAT, max_pages=LIMIT)

    @app.get("/publish/<int:number>")
    def publish(number):
        bus.publish("a/number", number)
        return {"pid": os.getpid()}

    @app.after_request
    def sign(answer):
        answer.headers["Pid"] = str(os.getpid())
        return answer

    @app.get("/fill")
    def fill():
        bus.publish("a/fill", "x" * 100_000)
        return {}

    if PRELOADED:
        bus.publish("a/number", 0)  # the parent's bus is open when the workers are forked
"""
URL = "/bus/events?filter=a/%23"
THREADS = ("--worker-class", "gthread", "--threads")


@pytest.fixture
def gunicorn(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(*options, limit=None, heartbeat=0.5, preloaded=False, stderr=None):
            source = dedent(APP).replace("LIMIT", repr(limit)).replace("HEARTBEAT", repr(heartbeat))
            source = source.replace("PRELOADED", repr(preloaded))
            (tmp_path / "app.py").write_text(source)
            return stack.enter_context(Server(tmp_path, *options, stderr=stderr))

        yield start


def status(server, path=URL):
    with server.page(path) as answer:
        return answer.status


def test_a_publish_in_one_request_reaches_the_page_of_another(gunicorn):
    server = gunicorn(*THREADS, "4")
    with server.page(URL) as page:
        found = messages(page)
        assert status(server, "/publish/7") == 200
        assert next(found) == {"topic": "a/number", "value": 7, "kept": False}


@pytest.mark.parametrize(
    "worker", [("sync",), ("gthread", "--threads", "2")], ids=["sync", "gthread"]
)
def test_open_pages_hold_no_thread(gunicorn, worker):
    server = gunicorn("--worker-class", *worker)
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(server.page(URL)) for _ in range(20)]
        assert {page.status for page in pages} == {200}
        assert {page.headers["Pid"] for page in pages} == {pages[0].headers["Pid"]}
        found = [messages(page) for page in pages]
        for number in range(3):
            assert status(server, f"/publish/{number}") == 200
            assert [next(each)["value"] for each in found] == [number] * 20


def test_each_worker_logs_once_the_reason_for_refusing_pages(gunicorn, tmp_path):
    with open(tmp_path / "stderr", "w") as stderr:
        server = gunicorn("--workers", "2", limit=0, stderr=stderr)
    refused = collections.Counter()

    def both_refused_three_times():
        with server.page(URL) as answer:
            assert answer.status == 503
            refused[answer.headers["Pid"]] += 1
            message = json.load(answer)["error"]["message"]
        return sorted(refused.values())[-2:-1] >= [3] and message

    message = until(both_refused_three_times)
    assert "max_pages=0" in message
    log = (tmp_path / "stderr").read_text()
    assert log.count(f": libbus: {message}\n") == len(refused) == 2
    assert log.count("libbus") == 2


def test_a_page_that_hangs_up_frees_its_place_long_before_the_next_heartbeat(gunicorn):
    server = gunicorn(*THREADS, "4", limit=1, heartbeat=10 * WATCHDOG)
    with server.page(URL) as page:
        assert page.status == 200
        assert status(server) == 503
    until(lambda: status(server) == 200)


def test_a_page_that_never_reads_loses_its_place(gunicorn):
    server = gunicorn(*THREADS, "4", limit=1)
    with server.page(URL) as page:
        assert page.status == 200

        def free():
            status(server, "/fill")
            return status(server) == 200

        until(free)


def test_gunicorn_ends_with_pages_open(gunicorn):
    server = gunicorn(*THREADS, "4", "--graceful-timeout", str(4 * WATCHDOG))
    with server.page(URL) as page:
        assert next(events(page))[0] == "hb"
        server.process.terminate()
        assert server.process.wait(WATCHDOG) == 0
        assert [name for name, _ in events(page) if name != "hb"] == ["end"]


def test_workers_forked_from_a_parent_with_an_open_bus_open_their_own(gunicorn):
    server = gunicorn(*THREADS, "4", "--preload", "--workers", "2", preloaded=True)
    pids = set()

    def both_answer():
        with server.page("/publish/1") as answer:
            pids.add(json.load(answer)["pid"])
        return len(pids) == 2

    until(both_answer)
    with server.page(URL) as page:
        assert page.status == 200


@pytest.mark.xdist_group("home")  # its members come and go there
def test_the_extension_shows_its_apps():
    bus = Bus()
    assert repr(bus) == "<libbus.flask.Bus without an app>"
    apps = flask.Flask("shop"), flask.Flask("desk")
    bus.init_app(apps[0], name="home")
    bus.init_app(apps[1])
    assert repr(bus) == "<libbus.flask.Bus of shop on home, desk>"


def test_a_decorator_without_parentheses_shows_the_right_form():
    bus = Bus()
    with pytest.raises(TypeError, match=r"write @bus.on\('sensors/#'\) above the function"):

        @bus.on
        def heard(msg): ...


def test_options_of_a_subscription_are_those_of_the_bus():
    app = flask.Flask("app")
    name = f"test-{os.getpid()}-{time.monotonic_ns():x}"
    bus, heard = Bus(app, name=name), []
    with app.app_context(), libbus.Bus(name, log_bytes=4 << 20) as other:
        for n in range(4):
            other.publish("n", n)
        with bus.subscribe("n", start=libbus.last(2), full="drop_oldest") as got:
            assert got.recv(timeout=WATCHDOG).value == 2
        bus.on("n", start=libbus.last(3))(lambda msg: heard.append(msg.value))
        with bus.subscribe("m", max_bytes=1 << 20) as got:
            bus.publish("m", 1, ttl=WATCHDOG, headers={"a": 1})
            assert got.recv(timeout=WATCHDOG).headers == {"a": 1}
        typed, threads = [], set()

        @bus.on("t", type=list[int], workers=2)
        def count(msg):
            typed.append(sum(msg.value))
            threads.add(threading.current_thread().name)

        with bus.subscribe("t", type=list[int]) as got:
            bus.publish("t", [1, 2])
            assert got.recv(timeout=WATCHDOG).value == [1, 2]
        bus.bus.flush(timeout=WATCHDOG)
        assert heard == [1, 2, 3]
        assert typed == [3]
        assert threads <= {"libbus-worker-0", "libbus-worker-1"}
        with pytest.raises(libbus.NotSupportedError):
            bus.subscribe("t", group="g")
        bus.close()
