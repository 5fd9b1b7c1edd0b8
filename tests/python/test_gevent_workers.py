"""gunicorn's gevent workers: callbacks, waits and publishes of an app in several processes."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from patience import WATCHDOG
from webserver import Server

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(
        importlib.util.find_spec("gevent") is None, reason="gevent is not installed"
    ),
]

APP = """
import json, os, sys
import gevent, libbus

bus = libbus.Bus("test", directory=os.environ["PLACE"], on_fork="reopen")
heard = []

def place():
    return [os.getpid(), type(gevent.getcurrent()).__name__]

@bus.on("ping")
def ping(msg):
    gevent.sleep(0)
    heard.append([msg.value, *place()])

@bus.on("job/+", workers=2)
def job(msg):
    gevent.sleep(0)
    heard.append([msg.value, *place()])

@bus.serve("pid")
def pid(msg):
    gevent.sleep(0)
    return os.getpid()

def answer(path):
    if path == "/wait":
        return bus.wait("go", kept=False).value
    if path == "/ask":
        return bus.request("pid", None).value
    if path == "/heard":
        return heard
    bus.publish(path[1:], path)

def app(environ, start):
    body = json.dumps(answer(environ["PATH_INFO"])).encode()
    start("200 OK", [("Content-Length", str(len(body))), ("X-Pid", str(os.getpid()))])
    return [body]
"""


@pytest.fixture(params=[[], ["--preload"]], ids=["each its own", "preload"])
def server(request, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    options = ["--worker-class", "gevent", "--workers", "2", *request.param]
    with (
        open(tmp_path / "stderr", "w") as stderr,
        Server(tmp_path, *options, stderr=stderr, PLACE=str(tmp_path)) as server,
    ):
        yield server


def get(server, path):
    """(pid, answer)"""
    with server.page(path) as page:
        return int(page.getheader("X-Pid")), json.load(page)


def test_each_gevent_worker_gets_messages_in_its_hub_and_serves_while_pages_wait(
    server, eventually, tmp_path
):
    workers = {}

    def both_answer():
        pid, workers[pid] = get(server, "/heard")
        return len(workers) == 2

    def both_have_heard():
        get(server, "/ping")
        get(server, "/job/1")
        both_answer()
        return all({"/ping", "/job/1"} <= {each[0] for each in heard} for heard in workers.values())

    eventually(both_answer)  # which they do when they are patched
    eventually(both_have_heard)
    for pid, heard in workers.items():
        assert {(where, kind) for _, where, kind in heard} == {(pid, "Greenlet")}
    # A preloaded app answers in the arbiter too.
    assert get(server, "/ask")[1] in {*workers, server.process.pid}
    with ThreadPoolExecutor(6) as browsers:
        pages = [browsers.submit(get, server, "/wait") for _ in range(6)]  # more than workers
        for _ in range(10):
            get(server, "/heard")
        eventually(lambda: get(server, "/go") and all(page.done() for page in pages))
        assert {answer for _, answer in (page.result() for page in pages)} == {"/go"}
    server.process.terminate()
    assert server.process.wait(WATCHDOG) == 0
    assert (tmp_path / "stderr").read_text() == ""
