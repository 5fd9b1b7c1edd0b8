"""Flask-SocketIO and python-socketio on libbus.socketio in real servers with two workers, and real clients."""

import importlib.util
import os
import signal
import subprocess
import sys

import pytest
from patience import WATCHDOG
from webserver import Server

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(
        importlib.util.find_spec("flask_socketio") is None, reason="Flask-SocketIO is not installed"
    ),
]

if importlib.util.find_spec("flask_socketio") is not None:
    import socketio

FLASK = """
import os
from flask import Flask, request
from flask_socketio import SocketIO, close_room, disconnect, emit, join_room, leave_room
from libbus.socketio import Manager

app = Flask(__name__)
socketio = SocketIO(
    app, async_mode=os.environ["MODE"], client_manager=Manager("test", directory=os.environ["PLACE"])
)

@socketio.on("who")
def who():
    return [os.getpid(), request.sid]

@socketio.on("join")
def join(room):
    join_room(room)

@socketio.on("leave")
def leave(room):
    leave_room(room)

@socketio.on("say")
def say(event, data, room=None):
    socketio.emit(event, data, to=room)

@socketio.on("shout")
def shout(event):
    emit(event, os.getpid(), broadcast=True, include_self=False)

@socketio.on("burst")
def burst(count):
    for n in range(count):
        socketio.emit("n", n)

@socketio.on("ask")
def ask(sid):
    return socketio.call("question", 20, to=sid)

@socketio.on("close")
def close(room):
    socketio.close_room(room)

@socketio.on("kick")
def kick(sid):
    disconnect(sid)

@app.get("/emit/<event>")
def from_a_view(event):
    socketio.emit(event, os.getpid())
    return ""

@app.get("/ask/<sid>")
def from_a_view_with_an_answer(sid):
    return str(socketio.call("question", 20, to=sid))
"""

ASGI = """
import os
import socketio
from libbus.socketio import AsyncManager

server = socketio.AsyncServer(
    async_mode="asgi", client_manager=AsyncManager("test", directory=os.environ["PLACE"])
)

@server.event
async def who(sid):
    return [os.getpid(), sid]

@server.event
async def join(sid, room):
    await server.enter_room(sid, room)

@server.event
async def leave(sid, room):
    await server.leave_room(sid, room)

@server.event
async def say(sid, event, data, room=None):
    await server.emit(event, data, to=room)

@server.event
async def shout(sid, event):
    await server.emit(event, os.getpid(), skip_sid=sid)

@server.event
async def burst(sid, count):
    for n in range(count):
        await server.emit("n", n)

@server.event
async def ask(sid, other):
    return await server.call("question", 20, to=other)

@server.event
async def close(sid, room):
    await server.close_room(room)

@server.event
async def kick(sid, other):
    await server.disconnect(other)

async def views(scope, receive, send):
    if scope["type"] != "http":
        return
    _, kind, what = scope["path"].split("/")
    body = ""
    if kind == "emit":
        await server.emit(what, os.getpid())
    else:
        body = str(await server.call("question", 20, to=what))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})

app = socketio.ASGIApp(server, views)
"""


class Uvicorn(Server):
    def __init__(self, folder, *options, **keywords):
        super().__init__(folder, **keywords)
        self.command = [
            *(sys.executable, "-m", "uvicorn", "app:app", "--app-dir", folder),
            *("--fd", str(self.listener.fileno()), "--log-level", "warning", *options),
        ]


SERVERS = {
    "gthread": (Server, FLASK, "threading", ["--threads", "40"]),
    "gthread preload": (Server, FLASK, "threading", ["--threads", "40", "--preload"]),
    "gevent": (Server, FLASK, "gevent", ["--worker-class", "gevent"]),
    "gevent preload": (Server, FLASK, "gevent", ["--worker-class", "gevent", "--preload"]),
    "uvicorn": (Uvicorn, ASGI, "asgi", []),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    kind, app, mode, options = SERVERS[request.param]
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(app)
    log = folder / "log"
    with (
        open(log, "w") as stderr,
        kind(
            str(folder), "--workers", "2", *options, stderr=stderr, PLACE=str(folder), MODE=mode
        ) as server,
    ):
        server.place, server.log = folder, log
        yield server


class Client:
    """Over a WebSocket: polling would need a worker of its own for each client."""

    def __init__(self, server):
        self.events, self.gone = [], False
        self.io = socketio.Client(reconnection=False, request_timeout=WATCHDOG)
        # By itself it starts a thread for each event, and these overtake each other.
        trigger = self.io.eio._trigger_event
        self.io.eio._trigger_event = lambda *args, **options: trigger(
            *args, **{**options, "run_async": False}
        )
        self.io.on("*", lambda event, *args: self.events.append([event, *args]))
        self.io.on("question", lambda number: number + 1)
        self.io.on("disconnect", self.left)
        self.io.connect(server.url, transports=["websocket"], wait_timeout=WATCHDOG)
        self.pid, self.sid = self.io.call("who", timeout=WATCHDOG)

    def left(self, reason):
        self.gone = True

    def close(self):
        self.io.disconnect()
        self.io.eio.wait()  # io.wait() would sleep a second

    def call(self, *args):
        return self.io.call(args[0], args[1:], timeout=WATCHDOG)


@pytest.fixture
def clients(server, eventually):
    """Two of one worker, and one of the other."""
    found = {}

    def two_and_one():
        client = Client(server)
        mine = found.setdefault(client.pid, [])
        if len(mine) == 2:
            client.close()
        else:
            mine.append(client)
        return len(found) == 2 and max(map(len, found.values())) == 2

    try:
        eventually(two_and_one)
        few, many = sorted(found.values(), key=len)
        yield [*many, few[0]]
    finally:
        for client in [each for mine in found.values() for each in mine]:
            client.close()


def test_an_emit_of_any_process_reaches_the_clients_of_all_workers(server, clients, eventually):
    first, _, other = clients

    def all_have(event):
        eventually(lambda: all(event in client.events for client in clients))

    first.call("say", "one", {"raw": b"\x00\x01", "n": [1, 2.5, None]})
    all_have(["one", {"raw": b"\x00\x01", "n": [1, 2.5, None]}])
    other.call("say", "two", "text")
    all_have(["two", "text"])
    with server.page("/emit/three") as page:
        assert page.status == 200
    eventually(lambda: all(client.events[-1][0] == "three" for client in clients))
    program = (
        "import sys; from libbus.socketio import Manager\n"
        "Manager('test', write_only=True, directory=sys.argv[1]).emit('four', (1, 'of a program'))"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program, server.place], check=True, timeout=WATCHDOG
    )
    all_have(["four", 1, "of a program"])
    first.call("shout", "five")
    eventually(lambda: ["five", first.pid] in other.events)
    other.call("say", "six", 6)
    all_have(["six", 6])
    for client in clients:
        names = [event[0] for event in client.events]
        expected = ["one", "two", "three", "four", "five", "six"]
        assert names == [name for name in expected if client is not first or name != "five"]


def test_a_burst_reaches_all_in_order(clients, eventually):
    first, _, other = clients
    first.call("burst", 500)
    eventually(lambda: all(len(client.events) == 500 for client in clients))
    other.call("burst", 500)
    eventually(lambda: all(len(client.events) == 1000 for client in clients))
    for client in clients:
        assert [n for _, n in client.events] == [*range(500), *range(500)]


def test_rooms_are_those_of_all_workers(clients, eventually):
    first, second, other = clients
    first.call("join", "a")
    other.call("join", "a")
    second.call("say", "in a", 1, "a")
    eventually(lambda: first.events and other.events)
    other.call("leave", "a")
    first.call("say", "in a", 2, "a")
    first.call("close", "a")
    first.call("say", "in a", 3, "a")
    first.call("say", "to one", 4, other.sid)
    first.call("say", "to all", 5)
    eventually(lambda: all(client.events[-1:] == [["to all", 5]] for client in clients))
    assert first.events == [["in a", 1], ["in a", 2], ["to all", 5]]
    assert second.events == [["to all", 5]]
    assert other.events == [["in a", 1], ["to one", 4], ["to all", 5]]


def test_a_client_of_another_worker_answers_and_is_disconnected(server, clients, eventually):
    first, second, other = clients
    assert other.call("ask", first.sid) == 21
    assert first.call("ask", other.sid) == 21
    assert first.call("ask", second.sid) == 21
    with server.page(f"/ask/{other.sid}") as page:
        assert page.read() == b"21"
    first.io.emit("kick", other.sid)
    eventually(lambda: other.gone)
    second.call("say", "after", 1)
    eventually(lambda: ["after", 1] in first.events)


def test_after_a_worker_is_killed_the_other_and_its_successor_get_all(server, clients, eventually):
    first, second, other = clients
    os.kill(other.pid, signal.SIGKILL)
    eventually(lambda: other.gone)
    first.call("say", "after", 1)
    eventually(lambda: ["after", 1] in second.events)

    def successor():
        client = Client(server)
        if client.pid not in (first.pid, other.pid):
            return client
        client.close()
        return None

    new = eventually(successor)
    try:
        new.call("say", "new", 2)
        eventually(lambda: ["new", 2] in first.events)
        first.call("say", "last", 3)
        eventually(lambda: ["last", 3] in new.events)
    finally:
        new.close()


def test_a_stopped_server_logs_no_error(server):
    server.process.terminate()
    assert server.process.wait(WATCHDOG) in (0, -signal.SIGTERM)
    said = server.log.read_text()
    assert "Traceback" not in said
    assert "exited unexpectedly" not in said
