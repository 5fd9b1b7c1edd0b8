"""libbus.socketio as a client manager of python-socketio: real servers, and clients without a network."""

import asyncio
import contextlib
import decimal
import importlib.util
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import types
import uuid

import pytest
from patience import WATCHDOG

import libbus

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(
        importlib.util.find_spec("socketio") is None, reason="python-socketio is not installed"
    ),
]

if importlib.util.find_spec("socketio") is not None:
    import socketio

    import libbus.socketio as managers
    from libbus.socketio import AsyncManager, Manager


class Client:
    """Records the packets of one client; acknowledges those that need it."""

    def __init__(self, host, namespace="/"):
        self.host, self.eio_sid = host, uuid.uuid4().hex
        self.packets, self.acks = [], []
        self.namespace = namespace
        host.clients[self.eio_sid] = self
        host.do(host.server._handle_eio_connect(self.eio_sid, {}))
        place = "" if namespace == "/" else f"{namespace},"
        host.do(host.server._handle_eio_message(self.eio_sid, f"0{place}"))
        self.sid = host.server.manager.sid_from_eio_sid(self.eio_sid, namespace)
        assert self.sid is not None

    @property
    def events(self):
        """[name, argument, ...] of each event."""
        found, waiting = [], None
        for text in [packet.data for packet in list(self.packets)]:
            if waiting is not None:
                if waiting.add_attachment(text):
                    found.append(waiting.data)
                    waiting = None
                continue
            packet = socketio.packet.Packet(encoded_packet=text)
            if packet.packet_type == socketio.packet.EVENT:
                found.append(packet.data)
            elif packet.packet_type == socketio.packet.BINARY_EVENT:
                waiting = packet
        return found

    def acknowledge(self, *args):
        """Answers the last event."""
        packet = socketio.packet.Packet(encoded_packet=self.packets[-1].data)
        ack = socketio.packet.Packet(
            socketio.packet.ACK, data=list(args), namespace=packet.namespace, id=packet.id
        )
        self.host.do(self.host.server._handle_eio_message(self.eio_sid, ack.encode()))


class Host:
    """A socketio.Server with a manager, as in a separate process."""

    def __init__(self, manager, **options):
        self.clients = {}
        self.server = socketio.Server(client_manager=manager, async_mode="threading", **options)
        self.server.eio.send_packet = self.send
        self.manager = manager

    def do(self, result):
        return result

    def send(self, eio_sid, packet):
        self.clients[eio_sid].packets.append(packet)

    def close(self):
        self.manager.close()


class AsyncHost:
    """A socketio.AsyncServer in an event loop on a thread."""

    def __init__(self, manager, **options):
        self.clients = {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.server = socketio.AsyncServer(client_manager=manager, async_mode="asgi", **options)
        self.server.eio.send_packet = self.send
        self.manager = manager

    def do(self, result):
        if asyncio.iscoroutine(result):
            return asyncio.run_coroutine_threadsafe(result, self.loop).result(WATCHDOG)
        return result

    async def send(self, eio_sid, packet):
        self.clients[eio_sid].packets.append(packet)

    def close(self):
        async def end():
            self.manager.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others - {getattr(self.manager, "thread", None)}:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WATCHDOG)
        self.loop.close()


@pytest.fixture
def host(tmp_path):
    """Makes hosts on one bus."""
    with contextlib.ExitStack() as hosts:

        def make(kind="sync", write_only=False, channel="socketio", server=None, **options):
            manager_class, host_class = {
                "sync": (Manager, Host),
                "async": (AsyncManager, AsyncHost),
            }[kind]
            manager = manager_class("test", channel, write_only, directory=tmp_path, **options)
            made = host_class(manager, **(server or {}))
            hosts.callback(made.close)
            return made

        yield make


@pytest.fixture
def writer(tmp_path):
    manager = Manager("test", write_only=True, directory=tmp_path)
    yield manager
    manager.close()


@pytest.fixture(params=["sync to sync", "sync to async", "async to sync", "async to async"])
def pair(request, host):
    """Two hosts on one bus, of all kinds."""
    kinds = request.param.split(" to ")
    return [host(kind) for kind in kinds]


def emit(here, *args, **kwargs):
    return here.do(here.server.emit(*args, **kwargs))


class Lock:
    """A lock that counts the threads that reached it."""

    def __init__(self):
        self._lock, self.comers = threading.Lock(), 0

    def __enter__(self):
        self.comers += 1
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


# --- emit ---------------------------------------------------------------------------------------------------------


def test_an_emit_reaches_each_client_of_each_host_once_and_in_order(pair, eventually):
    here, there = pair
    clients = [Client(each) for each in (here, here, there, there)]
    for n in range(50):
        emit(here, "tick", n)
    emit(there, "last", {"n": [1, 2]})
    eventually(lambda: all(["last", {"n": [1, 2]}] in client.events for client in clients))
    for client in clients:
        eventually(lambda client=client: len(client.events) == 51)
        assert [event for event in client.events if event[0] == "tick"] == [
            ["tick", n] for n in range(50)
        ]


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (None, []),
        ("text \u2028 \U0001f600", ["text \u2028 \U0001f600"]),
        ("half a pair \ud800", ["half a pair \ud800"]),
        (1.5, [1.5]),
        ([1, "two", None], [[1, "two", None]]),
        ((1, "two", None), [1, "two", None]),
        ({"a": {"b": []}}, [{"a": {"b": []}}]),
        ({1: "one", "1": "two"}, [{"1": "two"}]),
        (b"\x00\xff", [b"\x00\xff"]),
        (({"raw": b"1"}, [b"2", b""]), [{"raw": b"1"}, [b"2", b""]]),
        (2**80, [2**80]),
    ],
    ids=lambda value: repr(value)[:24].encode("ascii", "backslashreplace").decode(),
)
def test_data_arrives_elsewhere_as_it_does_here(host, eventually, data, arguments):
    here, there = Client(host()), Client(host("async"))
    emit(here.host, "e", data)
    assert here.events == [["e", *arguments]]
    assert eventually(lambda: there.events) == [["e", *arguments]]


def test_more_elements_and_levels_than_a_packed_value_has_arrive(host, writer, eventually):
    client = Client(host())
    deep = 0
    for _ in range(100):
        deep = [deep]
    for data in (list(range(100_000)), deep):
        writer.emit("many", {"data": data})
        assert eventually(lambda: client.events)[-1] == ["many", {"data": data}]
        client.packets.clear()


def test_an_emit_reaches_its_room_rooms_or_all_but_skipped_clients(pair, eventually):
    here, there = pair
    near, far = Client(here), Client(there)
    here.do(here.server.enter_room(near.sid, "a"))
    there.do(there.server.enter_room(far.sid, "b"))
    emit(here, "one", to="b")
    emit(here, "two", to=["a", "b"])
    emit(here, "three", skip_sid=far.sid)
    emit(here, "four", skip_sid=[near.sid])
    emit(here, "five", to=far.sid)
    eventually(lambda: ["five"] in far.events)
    assert far.events == [["one"], ["two"], ["four"], ["five"]]
    assert near.events == [["two"], ["three"]]


def test_a_namespace_is_one_on_all_hosts(host, eventually):
    options = {"namespaces": ["/", "/chat"]}
    here, there = host(server=options), host("async", server=options)
    clients = [Client(there, "/chat"), Client(there), Client(here, "/chat")]
    emit(here, "e", namespace="/chat")
    eventually(lambda: clients[0].events and clients[2].events)
    emit(here, "f")
    eventually(lambda: clients[1].events)
    assert [client.events for client in clients] == [[["e"]], [["f"]], [["e"]]]


def test_hosts_of_another_channel_get_nothing_and_are_not_woken(host, writer, eventually):
    here, other = host(), host(channel="other")
    client, elsewhere = Client(here), Client(other)
    for n in range(100):
        writer.emit("e", n)
    eventually(lambda: len(client.events) == 100)
    assert other.manager._messages.stats()["offered"] == 0
    assert elsewhere.events == []


# --- callbacks ----------------------------------------------------------------------------------------------------


def test_a_callback_runs_where_the_emit_was_and_once(pair, eventually):
    here, there = pair
    client, answers = Client(there), []
    emit(here, "question", to=client.sid, callback=lambda *args: answers.append(args))
    eventually(lambda: client.events == [["question"]])
    client.acknowledge(1, {"b": [2]})
    eventually(lambda: answers)
    client.acknowledge("again")
    emit(here, "after")
    eventually(lambda: ["after"] in client.events)
    assert answers == [(1, {"b": [2]})]


def test_call_returns_what_a_client_of_another_host_answers(pair, eventually):
    here, there = pair
    client, answers = Client(there), []
    caller = threading.Thread(
        target=lambda: answers.append(
            here.do(here.server.call("question", 1, to=client.sid, timeout=WATCHDOG))
        )
    )
    caller.start()
    eventually(lambda: client.events == [["question", 1]])
    client.acknowledge("yes", 2)
    caller.join(WATCHDOG)
    assert [tuple(answer) for answer in answers] == [("yes", 2)]


def test_a_writer_has_no_callbacks(writer):
    with pytest.raises(RuntimeError, match="from the context of a server"):
        writer.emit("e", 1, to="somebody", callback=print)


# --- rooms and clients of other hosts -------------------------------------------------------------------------------


def test_a_client_of_another_host_enters_and_leaves_a_room(pair, eventually):
    here, there = pair
    client = Client(there)
    here.do(here.server.enter_room(client.sid, "room"))
    eventually(lambda: "room" in there.server.rooms(client.sid))
    emit(here, "in", to="room")
    here.do(here.server.leave_room(client.sid, "room"))
    emit(here, "out", to="room")
    emit(here, "all")
    eventually(lambda: ["all"] in client.events)
    assert client.events == [["in"], ["all"]]


def test_a_room_is_closed_on_all_hosts(pair, eventually):
    here, there = pair
    clients = [Client(here), Client(there)]
    for client in clients:
        client.host.do(client.host.server.enter_room(client.sid, "room"))
    here.do(here.server.close_room("room"))
    eventually(lambda: "room" not in there.server.rooms(clients[1].sid))
    assert "room" not in here.server.rooms(clients[0].sid)


def test_a_client_of_another_host_is_disconnected_and_its_handler_runs_there(pair, eventually):
    here, there = pair
    gone = []
    there.server.on("disconnect", lambda sid, reason: gone.append(sid))
    client, other = Client(there), Client(there)
    here.do(here.server.disconnect(client.sid))
    eventually(lambda: gone == [client.sid])
    emit(here, "e")
    eventually(lambda: other.events)
    assert client.events == []


# --- what is not sent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [decimal.Decimal(1), uuid.uuid4(), {1, 2}, object(), {"a": [1j]}],
    ids=lambda v: type(v).__name__,
)
def test_an_unencodable_event_raises_typeerror_with_its_name(host, writer, eventually, value):
    client = Client(host())
    with pytest.raises(TypeError, match=r"^'tick' cannot be sent to other processes: .*; convert"):
        writer.emit("tick", value)
    writer.emit("next", 1)
    assert eventually(lambda: client.events) == [["next", 1]]


def test_a_json_module_of_the_server_encodes_for_clients(tmp_path, host, eventually):
    own = types.SimpleNamespace(
        dumps=lambda value, **options: json.dumps(value, default=str, **options), loads=json.loads
    )
    client = Client(host())
    writer = Manager("test", write_only=True, json=own, directory=tmp_path)
    writer.emit("price", decimal.Decimal("1.50"))
    assert eventually(lambda: client.events) == [["price", "1.50"]]
    writer.close()


def test_an_emit_too_large_for_the_bus_names_the_limit(writer):
    with pytest.raises(libbus.TooBigError, match=r"larger (max_payload|log_bytes)"):
        writer.emit("large", "x" * (2 << 20))


def test_foreign_messages_on_the_topic_are_ignored_and_never_unpickled(
    tmp_path, host, writer, eventually, caplog
):
    client = Client(host())

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    with libbus.Bus("test", directory=tmp_path) as bus:
        for value in (pickle.dumps(Code()), "text", 5, [], {"method": 1}, {}):
            bus.publish("socketio/socketio", value)
        bus.publish_raw("socketio/socketio", b"\xc1", encoding="msgpack")
        bus.publish_raw("socketio/socketio", b"{", encoding="json")
        bus.publish_raw("socketio/socketio", pickle.dumps(Code()))
    writer.emit("e", 1)
    assert eventually(lambda: client.events) == [["e", 1]]
    assert not (tmp_path / "ran").exists()
    assert caplog.records == []


# --- mistakes, and a bus that is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Manager", "AsyncManager"])
def test_a_mistake_raises_in_the_constructor_of_the_manager(name):
    kind = getattr(managers, name)
    with pytest.raises(libbus.ArgumentError, match="redis://localhost: the name of a bus has 1 to"):
        kind("redis://localhost")
    with pytest.raises(TypeError, match="name must be the name of a bus"):
        kind(None)
    with pytest.raises(ValueError, match="choose a channel without"):
        kind("test", "a/#")
    with pytest.raises(libbus.FilterError):
        kind("test", "x" * 2000)


def test_eventlet_is_refused_by_the_server_that_would_use_it():
    server = types.SimpleNamespace(eio=types.SimpleNamespace(async_mode="eventlet"))
    with pytest.raises(libbus.NotSupportedError, match="async_mode='threading' or 'gevent'"):
        Manager("test").set_server(server)


def test_a_manager_opens_nothing_until_it_is_used(tmp_path, host):
    made = host(), host("async")
    assert list(tmp_path.iterdir()) == []
    Client(made[0])
    assert list(tmp_path.iterdir()) != []


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_without_a_bus_clients_of_the_process_are_served_and_the_rest_follows_with_the_bus(
    tmp_path, host, eventually, caplog, monkeypatch, kind
):
    monkeypatch.setattr(managers, "RETRY_S", 0.01)
    (tmp_path / "test.bus").mkdir()  # in the place of the log
    here = host(kind)
    client = Client(here)
    eventually(lambda: any("tries again every" in record.message for record in caplog.records))
    with pytest.raises(libbus.TransportError):
        emit(here, "alone")
    assert client.events == [["alone"]]
    (tmp_path / "test.bus").rmdir()
    there = host(kind)
    other = Client(there)

    def both_hear():
        emit(there, "e")
        return ["e"] in client.events

    eventually(both_hear)
    assert other.events


def test_a_failed_bus_is_dropped_but_not_its_successor_of_another_thread(writer, monkeypatch):
    failing, publish = writer._opened(), libbus.Bus.publish
    both = threading.Barrier(2)

    def fail(bus, *args, **options):
        if bus is not failing:
            return publish(bus, *args, **options)
        both.wait(WATCHDOG)
        if threading.current_thread() is not other:
            other.join(WATCHDOG)  # it has dropped the bus, and opened the next one
        raise libbus.TransportError("failed")

    def emit_twice():
        with contextlib.suppress(libbus.TransportError):
            writer.emit("e", 1)
        writer.emit("e", 1)

    monkeypatch.setattr(libbus.Bus, "publish", fail)
    other = threading.Thread(target=emit_twice)
    other.start()
    with pytest.raises(libbus.TransportError):
        writer.emit("e", 1)
    assert failing.closed
    assert writer._bus is not None and not writer._bus.closed


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_bus_whose_subscribe_fails_is_reopened(host, eventually, caplog, monkeypatch, kind):
    monkeypatch.setattr(managers, "RETRY_S", 0.01)
    here, opened, subscribe = host(kind), [], libbus.Bus.subscribe

    def fail_at_first(bus, *args, **options):
        opened.append(bus)
        if len(opened) < 3:
            raise libbus.TransportError("failed")
        return subscribe(bus, *args, **options)

    monkeypatch.setattr(libbus.Bus, "subscribe", fail_at_first)
    client = Client(here)
    eventually(lambda: len(opened) == 3)
    assert [bus.closed for bus in opened] == [True, True, False]
    writer = host()
    eventually(lambda: emit(writer, "e") or client.events)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_events_missed_after_a_failure_are_logged_once_with_the_remedy(
    host, eventually, caplog, monkeypatch, kind
):
    monkeypatch.setattr(managers, "RETRY_S", 0.01)
    here, failures, subscribe = host(kind), 3, libbus.Bus.subscribe

    def fail_at_first(bus, *args, **options):
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise libbus.TransportError(f"failure with {failures} to come")
        return subscribe(bus, *args, **options)

    def lines():
        return [record.message for record in caplog.records]

    monkeypatch.setattr(libbus.Bus, "subscribe", fail_at_first)
    client = Client(here)
    eventually(lambda: len(lines()) == 2)
    assert lines()[0].endswith("tries again every 0.01 s: failure with 1 to come")
    assert "arrive here again" in lines()[1]
    assert lines()[1].endswith("let clients of this process reload their data")

    def fail(*args, **options):
        raise libbus.TransportError("no")

    caplog.clear()
    monkeypatch.setattr(libbus.Bus, "publish", fail)
    with pytest.raises(libbus.TransportError):
        emit(here, "e")
    monkeypatch.undo()
    eventually(lambda: len(lines()) == 2)
    assert lines()[0].endswith("an emit of this process failed, so it reopens the bus")
    assert "arrive here again" in lines()[1]
    assert client.events == [["e"]]


def test_losses_are_logged_with_their_number(host, writer, eventually, caplog, monkeypatch):
    monkeypatch.setattr(managers, "TELL_S", 0.0)
    here = host(log_bytes=4 << 20)
    client = Client(here)
    held, go = threading.Event(), threading.Event()
    handle = here.manager._handle_emit

    def hold(message):
        held.set()
        go.wait(WATCHDOG)
        handle(message)

    here.manager._handle_emit = hold
    writer.emit("first", [-1])
    assert held.wait(WATCHDOG)
    here.manager._handle_emit = handle
    count = 400
    for n in range(count):
        writer.emit("e", [n, "x" * 20_000])  # twice the log
    go.set()
    eventually(lambda: client.events and client.events[-1][1][0] == count - 1)
    missing = count - (len(client.events) - 1)
    assert missing > 0
    assert here.manager.lost == missing
    told = [record.args[0] for record in caplog.records if "were overwritten" in record.message]
    assert sum(told) == missing
    assert caplog.records[0].levelno == logging.ERROR


# --- threads ------------------------------------------------------------------------------------------------------


def test_two_threads_that_subscribe_at_once_share_one_subscription(writer, eventually, monkeypatch):
    bus, lock, made, subscribe = writer._opened(), Lock(), [], libbus.Bus.subscribe
    second = threading.Thread(target=lambda: made.append(writer._subscribed()))

    def slowly(*args, **options):
        comers = lock.comers
        if second.ident is None:
            second.start()
            eventually(lambda: lock.comers > comers or not second.is_alive())
        return subscribe(*args, **options)

    monkeypatch.setattr(libbus.Bus, "subscribe", slowly)
    writer._opening = lock
    made.append(writer._subscribed())
    second.join(WATCHDOG)
    assert made[0] is made[1]
    assert made[0].bus is bus


def test_a_second_client_waits_until_the_first_one_has_subscribed(host, eventually, monkeypatch):
    here, lock, subscribe = host(), Lock(), libbus.Bus.subscribe
    second, seen, packets = None, [], []

    def connect():
        Client(here)
        seen.append(here.manager._messages)

    def slowly(*args, **options):
        nonlocal second
        comers = lock.comers
        second = threading.Thread(target=connect)
        second.start()
        eventually(lambda: lock.comers > comers or not second.is_alive())
        packets.extend(packet for client in here.clients.values() for packet in client.packets)
        return subscribe(*args, **options)

    monkeypatch.setattr(libbus.Bus, "subscribe", slowly)
    here.manager._starting = lock
    Client(here)
    second.join(WATCHDOG)
    assert packets == []  # no client is told that it is connected before that
    assert seen == [here.manager._messages]


# --- processes ----------------------------------------------------------------------------------------------------


def test_a_forked_child_is_a_separate_host_and_its_emits_arrive(host, eventually):
    here = host()
    client = Client(here)
    emit(here, "before")
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        with contextlib.suppress(BaseException):
            here.manager.emit("from the child", 1)
            os.write(writing, here.manager.host_id.encode())
            code = 0
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    host_id = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert len(host_id) == 32
    assert host_id != here.manager.host_id
    eventually(lambda: client.events == [["before"], ["from the child", 1]])


PROGRAM = """
import sys, time
from libbus.socketio import Manager
import socketio
manager = Manager("test", directory=sys.argv[1])
server = socketio.Server(client_manager=manager, async_mode="threading")
server.eio.send_packet = lambda eio_sid, packet: None
server._handle_eio_connect("a", {})
n = 0
server.emit("up")
"""


def test_a_host_that_is_killed_leaves_the_others_working(host, tmp_path, eventually):
    clients = [Client(host()), Client(host("async"))]
    endless = PROGRAM + "while True:\n    server.emit('n', n)\n    n += 1\n    time.sleep(0.01)"
    with subprocess.Popen([sys.executable, "-c", endless, tmp_path]) as victim:
        try:
            eventually(lambda: all(["n", 5] in client.events for client in clients))
        finally:
            victim.send_signal(signal.SIGKILL)
    emit(clients[0].host, "after")
    eventually(lambda: all(client.events[-1] == ["after"] for client in clients))


def test_a_program_with_a_server_ends_without_a_word(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, tmp_path],
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_closed_manager_emits_no_more_and_its_listener_ends(host, kind, caplog):
    here = host(kind)
    Client(here)
    here.do(here.server.emit("e"))
    here.manager.close()
    if kind == "sync":
        here.manager.thread.join(WATCHDOG)
        assert not here.manager.thread.is_alive()
    with pytest.raises(libbus.ClosedError):
        here.do(here.server.emit("e"))
    assert caplog.records == []
