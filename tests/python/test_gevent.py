"""Programs with greenlets: a wait lets others run, callbacks run in greenlets, and a kill loses no message."""

import importlib.util
import subprocess
import sys

import pytest
from patience import WATCHDOG

import libbus

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="gevent is not installed"
)

ORDERS = {
    "patched first": "from gevent import monkey; monkey.patch_all(); import libbus",
    "patched afterwards": "import libbus; from gevent import monkey; monkey.patch_all()",
    "not patched": "import gevent; gevent.sleep(0); import libbus",
}

HELP = f"""
import gevent, os, signal, sys, time
WATCHDOG = {WATCHDOG}
ticks, stopped = 0, False

def tick():
    global ticks
    while not stopped:
        ticks += 1
        gevent.sleep(0)

def later(function, *arguments):
    '''Calls it when the ticker has run again and again: never, if the caller stops the hub.'''
    begun = ticks
    def call():
        while ticks < begun + 20:
            gevent.sleep(0)
        function(*arguments)
    gevent.spawn(call)

def eventually(condition):
    while not condition():
        gevent.sleep(0)

gevent.spawn(tick)
"""

in_check = pytest.mark.check  # seconds in all, and much the same again


@pytest.fixture(
    params=[
        order if at == 0 else pytest.param(order, marks=in_check) for at, order in enumerate(ORDERS)
    ]
)
def greenlets(request, python):
    """Runs a program with greenlets, in each order of patching and import; ./dev test has the first."""
    return in_order(python, request.param)


@pytest.fixture(params=ORDERS)
def greenlets_at_once(request, python):
    """The same, each of them in ./dev test."""
    return in_order(python, request.param)


def in_order(python, order):
    def run(program):
        return python(f"{ORDERS[order]}\n{HELP}\n{program}")

    return run


@pytest.fixture
def patched(python):
    return in_order(python, "patched first")


BUSES = """
import tempfile
def buses():
    yield libbus.Bus()
    with tempfile.TemporaryDirectory() as folder:
        yield libbus.Bus("test", directory=folder)
"""


def test_each_wait_leaves_the_hub_to_other_greenlets(greenlets_at_once):
    greenlets_at_once(
        BUSES
        + """
for bus in buses():
    with bus, bus.subscribe("a") as messages:
        later(bus.publish, "a", 1)
        assert messages.recv().value == 1
        later(bus.publish, "a", 2)
        assert next(messages).value == 2
        later(bus.publish, "a", 3)
        assert [msg.value for msg in messages.iter(0.01)] in ([], [3])
        later(bus.publish, "b", 4)
        assert bus.wait("b", WATCHDOG).value == 4
        begun = ticks
        try:
            messages.recv(0.01)
            messages.recv(0.01)
            raise SystemExit("no timeout")
        except libbus.BusTimeoutError:
            assert ticks > begun
        group = None if bus.name else "workers"
        with bus.subscribe("c", group=group) as shared:
            later(bus.publish, "c", 5)
            assert shared.recv().value == 5
"""
    )


def test_callbacks_questions_and_workers_run_in_greenlets_of_the_hub(greenlets):
    greenlets(
        BUSES
        + """
for bus in buses():
    hub, heard, together = gevent.get_hub(), [], []

    @bus.on("a")
    def slow(msg):
        assert gevent.get_hub() is hub
        begun = ticks
        eventually(lambda: ticks > begun + 20)
        heard.append(msg.value)
        try:
            bus.request("double", 1)
        except libbus.StateError:
            heard.append("refused")

    @bus.serve("double")
    def double(msg):
        gevent.sleep(0)
        return 2 * msg.value

    @bus.on("job/+", workers=3)
    def work(msg):
        together.append(msg.topic)
        eventually(lambda: len(set(together)) == 3)
        heard.append(msg.topic)

    bus.publish("a", 1)
    bus.flush(WATCHDOG)
    assert heard == [1, "refused"], heard
    assert bus.request("double", 4, timeout=WATCHDOG).value == 8
    asked = [gevent.spawn(bus.request, "double", n, timeout=WATCHDOG) for n in range(3)]
    assert [each.get().value for each in asked] == [0, 2, 4]
    heard.clear()
    for n in range(9):
        bus.publish(f"job/{n % 3}", n)
    bus.flush(WATCHDOG)
    assert sorted(heard) == sorted(f"job/{n % 3}" for n in range(9)), heard
    bus.close()
"""
    )


def test_an_unanswered_request_times_out_while_others_run(greenlets):
    greenlets("""
bus = libbus.Bus()
try:
    bus.request("nobody", 1)
    raise SystemExit("a reply")
except libbus.NobodyError:
    pass
bus.on("a", lambda msg: None)
begun = ticks
try:
    bus.request("a", 1, timeout=0.02)
    raise SystemExit("a reply")
except libbus.BusTimeoutError:
    assert ticks > begun
bus.close()
""")


def test_publishers_with_back_pressure_wait_for_greenlets_that_make_room(greenlets):
    greenlets("""
bus = libbus.Bus()
jobs = bus.subscribe("jobs", full="refuse", max_bytes=4096)
taken = []
gevent.spawn(lambda: taken.extend(msg.value for msg in jobs))
with bus.publisher("jobs", wait=None) as publisher:
    assert publisher.send_many(range(3000)) == 3000
    for n in range(3000, 3100):
        publisher.send(n)
eventually(lambda: len(taken) == 3100)
assert taken == list(range(3100))

full = bus.subscribe("full", full="refuse", max_bytes=1024)
publisher = bus.publisher("full", wait=0.02)
begun = ticks
try:
    publisher.send_many(range(10_000))
    raise SystemExit("there was room")
except libbus.FullError as error:
    assert ticks > begun
    sent = error.sent
    assert sent == full.stats()["pending"]
publisher = bus.publisher("full", wait=None)
stuck = gevent.spawn(publisher.send, 1)
gevent.sleep(0)
stuck.kill()
assert full.stats()["delivered"] == 0, full.stats()
assert full.stats()["pending"] == sent, full.stats()
bus.close()
""")


def test_a_role_is_waited_for_while_others_run(greenlets):
    greenlets("""
import tempfile
with tempfile.TemporaryDirectory() as folder, libbus.Bus("test", directory=folder) as bus:
    first = bus.role("one")
    later(first.close)
    second = bus.role("one")
    try:
        bus.role("one", timeout=0.02)
        raise SystemExit("two have it")
    except libbus.BusTimeoutError:
        pass
    waiting = gevent.spawn(bus.role, "one")
    gevent.sleep(0)
    waiting.kill()
    second.close()
    bus.role("one", timeout=0).close()
""")


def test_close_and_flush_with_a_link_let_greenlets_run_and_end_waits(greenlets):
    greenlets("""
bus, heard = libbus.Bus(), []
bus.listen("tcp://127.0.0.1:0")

@bus.on("a")
def slow(msg):
    begun = ticks
    eventually(lambda: ticks > begun + 20)
    heard.append(msg.value)

bus.publish("a", 1)
bus.flush(WATCHDOG)
bus.publish("a", 2)
shared, ended = bus.subscribe("b"), []

def wait(call):
    try:
        call()
    except libbus.ClosedError:
        ended.append(call)

for call in [shared.recv] * 3 + [lambda: bus.wait("c"), lambda: bus.request("a", 1, timeout=None)]:
    gevent.spawn(wait, call)
gevent.sleep(0)
assert bus.close(WATCHDOG) == 0
assert heard[:2] == [1, 2], heard
eventually(lambda: len(ended) == 5)
""")


def test_greenlets_that_share_a_subscription_get_each_message_once_in_their_turn(greenlets):
    greenlets("""
bus, got = libbus.Bus(), []
jobs = bus.subscribe("job")

def work(n):
    for msg in jobs:
        got.append((n, msg.value))

for n in range(4):
    gevent.spawn(work, n)
gevent.sleep(0)
for n in range(8):
    bus.publish("job", n)
    eventually(lambda: len(got) == n + 1)
assert got == [(n % 4, n) for n in range(8)], got
jobs.close()
bus.close()
""")


def test_two_thousand_kills_and_timeouts_of_waiting_greenlets_lose_nothing(patched):
    patched(
        BUSES
        + """
import random
for bus in buses():
    chance, got, sent, ends = random.Random(1), [], 0, 0
    messages = bus.subscribe("a")

    def take():
        got.append(messages.recv().value)

    def take_in_time():
        with gevent.Timeout(0, False):
            got.append(messages.recv().value)

    waiting = [gevent.spawn(take) for _ in range(6)]
    while ends < 1000:
        if chance.random() < 0.5:
            bus.publish("a", sent)
            sent += 1
        if chance.random() < 0.3:
            gevent.sleep(0)
        one = chance.choice(waiting)
        if not one.dead:
            one.kill(block=chance.random() < 0.5)
            ends += 1
        waiting = [gevent.spawn(chance.choice([take, take_in_time])) if one.dead else one for one in waiting]
    gevent.killall(waiting)
    while (msg := messages.recv_nowait()) is not None:
        got.append(msg.value)
    assert sorted(got) == list(range(sent)), (sent, len(got))
    stats = messages.stats()
    assert (stats["offered"], stats["delivered"], stats["lost"]) == (sent, sent, 0), stats
    bus.close()
"""
    )


def test_a_question_that_is_killed_or_times_out_leaves_nothing_behind(patched):
    patched("""
bus, asked = libbus.Bus(), []

@bus.serve("slow")
def slow(msg):
    asked.append(msg.value)
    while len(asked) < 2:
        gevent.sleep(0)

descriptors = None
for n in range(20):
    asked.clear()
    one = gevent.spawn(bus.request, "slow", n)
    eventually(lambda: asked)
    one.kill()
    asked.append("go on")
    bus.flush(WATCHDOG)
    with gevent.Timeout(0, False):
        bus.request("slow", n)
        raise SystemExit("a reply in no time")
    asked.append("go on")
    bus.flush(WATCHDOG)
    now = len(os.listdir("/proc/self/fd"))
    descriptors = descriptors or now
    assert now == descriptors, (now, descriptors)
assert bus.stats()["late_replies"] > 0
bus.close()
""")


def test_a_signal_handler_runs_in_a_wait_and_ctrl_c_ends_it(greenlets):
    greenlets("""
bus = libbus.Bus()
messages = bus.subscribe("a")
signal.signal(signal.SIGUSR1, lambda *_: bus.publish("a", "signalled"))
later(os.kill, os.getpid(), signal.SIGUSR1)
assert messages.recv().value == "signalled"
stopped = True
gevent.sleep(0)
signal.signal(signal.SIGALRM, signal.default_int_handler)
hub = gevent.get_hub()
hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)  # gevent prints it, and raises it in the main greenlet
try:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    messages.recv()
    raise SystemExit("a message")
except KeyboardInterrupt:
    pass
bus.publish("a", "next")
assert messages.recv().value == "next"
bus.close()
""")


def test_a_forked_child_has_its_callbacks_in_its_hub_and_leaves_the_parents_messages(greenlets):
    greenlets("""
bus, heard = libbus.Bus(on_fork="reopen"), []
bus.on("a", lambda msg: heard.append((os.getpid(), msg.value)))
bus.on("job/+", lambda msg: heard.append((os.getpid(), msg.value)), workers=2)
bus.publish("a", 0)
bus.flush(WATCHDOG)
messages = bus.subscribe("b")
if (child := os.fork()) == 0:
    heard.clear()
    bus.publish("a", 1)
    bus.publish("job/1", 2)
    bus.flush(WATCHDOG)
    own = sorted(heard) == [(os.getpid(), 1), (os.getpid(), 2)]
    try:
        messages.recv()
    except libbus.ForkError:
        os._exit(0 if own else 1)
    os._exit(2)
assert os.waitpid(child, 0)[1] == 0
assert heard == [(os.getpid(), 0)]
bus.publish("a", 3)
bus.publish("b", 4)
bus.flush(WATCHDOG)
assert heard == [(os.getpid(), 0), (os.getpid(), 3)]
assert messages.recv().value == 4
bus.close()
""")


def test_threads_of_callbacks_that_are_older_than_the_patch_call_in_the_hub(python):
    python(f"""
import gevent, os, libbus
bus, heard, hub = libbus.Bus(), [], None

def hear(msg):
    gevent.sleep(0)
    heard.append((msg.topic, gevent.get_hub() is hub))
    try:
        bus.flush()
    except libbus.StateError:
        heard.append("refused")

bus.on("a", hear)
bus.on("b", hear, workers=2)
from gevent import monkey
monkey.patch_all()
hub = gevent.get_hub()
bus.publish("a", 1)
bus.flush({WATCHDOG})
bus.publish("b", 1)
bus.flush({WATCHDOG})
assert heard == [("a", True), "refused", ("b", True), "refused"], heard
bus.publish("a", 2)
bus.close({WATCHDOG})
assert len(heard) == 6, heard
""")


def test_callbacks_in_the_hub_of_one_thread_are_flushed_and_closed_from_another(python):
    python(f"""
import threading, gevent, libbus
bus, heard, ready = libbus.Bus(), [], threading.Event()

def serve():
    hub = gevent.get_hub()
    bus.on("a", lambda msg: (gevent.sleep(0), heard.append(gevent.get_hub() is hub)))
    bus.on("job/+", lambda msg: (gevent.sleep(0), heard.append(gevent.get_hub() is hub)), workers=2)
    messages = bus.subscribe("end")
    ready.set()
    for msg in messages:
        pass

thread = threading.Thread(target=serve)
thread.start()
ready.wait()
for n in range(20):
    bus.publish("a", n)
    bus.publish(f"job/{{n % 3}}", n)
bus.flush({WATCHDOG})
assert heard == [True] * 40, heard
bus.publish("a", 20)
assert bus.close({WATCHDOG}) == 0
thread.join()
assert heard == [True] * 41, heard
""")


def test_a_wait_that_would_block_the_hub_itself_is_refused(patched):
    patched("""
bus, refused = libbus.Bus(), []
messages = bus.subscribe("a")

def wait():
    try:
        messages.recv()
    except libbus.StateError as error:
        refused.append(str(error))

gevent.get_hub().loop.run_callback(wait)
eventually(lambda: refused)
assert "gevent.spawn" in refused[0]
bus.close()
""")


def test_a_thread_of_the_threadpool_may_wait_but_not_register_callbacks(patched):
    patched("""
bus = libbus.Bus()
messages, pool = bus.subscribe("a"), gevent.get_hub().threadpool
later(bus.publish, "a", 1)
assert pool.apply(messages.recv).value == 1

def register(**more):
    try:
        bus.on("b", print, **more)
    except libbus.StateError as error:
        return str(error)

assert "main thread" in pool.apply(register)
assert "main thread" in pool.apply(register, (), {"workers": 2})
bus.on("b", print)
bus.close()
""")


def test_an_exit_under_traffic_is_silent(greenlets):
    greenlets("""
bus = libbus.Bus()
bus.listen("tcp://127.0.0.1:0")
bus.on("a", lambda msg: gevent.sleep(0))
bus.on("a", lambda msg: gevent.sleep(0), workers=2)
messages, all_of_them = bus.subscribe("b"), bus.subscribe("a")

def publish():
    while True:
        bus.publish("a", 1)
        gevent.sleep(0)

for function in [publish, messages.recv, lambda: list(all_of_them), lambda: bus.wait("c")]:
    gevent.spawn(function)
begun = ticks
eventually(lambda: ticks > begun + 50)
""")


def test_a_program_without_greenlets_imports_none_of_it(python):
    python("""
import sys, libbus
with libbus.Bus() as bus, bus.subscribe("a") as messages:
    bus.on("a", lambda msg: None)
    bus.publish("a", 1)
    bus.flush()
    messages.recv()
assert not {name for name in sys.modules if name.startswith(("gevent", "greenlet", "eventlet"))}
""")


PEER = """
stopped = True
bus = libbus.Bus("test", directory=sys.argv[1])
done = bus.subscribe("done")

@bus.serve("double")
def double(msg):
    gevent.sleep(0)
    return 2 * msg.value

bus.on("ping", lambda msg: bus.publish("pong", msg.value))
bus.publish("ready", None, retain=True)
done.recv()
bus.close()
"""

ASKER = """
stopped = True
bus = libbus.Bus("test", directory=sys.argv[1])
pongs = bus.subscribe("pong")
bus.wait("ready", WATCHDOG)
asked = [gevent.spawn(bus.request, "double", n, timeout=WATCHDOG) for n in range(200)]
assert [each.get().value for each in asked] == [2 * n for n in range(200)]
for n in range(200):
    bus.publish("ping", n)
    assert pongs.recv(WATCHDOG).value == n
bus.close()
"""


@in_check
def test_two_processes_with_greenlets_talk_on_a_named_bus(tmp_path):
    def start(program):
        text = f"{ORDERS['patched first']}\n{HELP}\n{program}"
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", text, tmp_path],
            stderr=subprocess.PIPE,
            text=True,
        )

    with libbus.Bus("test", directory=tmp_path) as bus, start(PEER) as peer, start(ASKER) as asker:
        try:
            assert (asker.communicate(timeout=WATCHDOG)[1], asker.returncode) == ("", 0)
            bus.publish("done", None)
            assert (peer.communicate(timeout=WATCHDOG)[1], peer.returncode) == ("", 0)
        finally:
            asker.kill()
            peer.kill()


EVENTLET = """
import warnings
warnings.simplefilter("ignore")  # eventlet warns at its import against its use
import eventlet, eventlet.tpool
PATCH
import libbus
eventlet.sleep(0)
warnings.simplefilter("error")
bus = libbus.Bus()
bus.listen("tcp://127.0.0.1:0")
messages, full = bus.subscribe("a"), bus.subscribe("full", full="refuse", max_bytes=1024)
publisher = bus.publisher("full", wait=None)
for wait in [
    messages.recv,
    lambda: next(messages),
    lambda: bus.wait("a"),
    lambda: bus.request("a", 1),
    lambda: bus.on("b", print),
    lambda: bus.on("b", print, workers=2),
    lambda: publisher.send_many(range(10_000)),
    bus.flush,
]:
    try:
        wait()
        raise SystemExit("it waited")
    except libbus.NotSupportedError as error:
        assert "eventlet.tpool" in str(error)
bus.publish("a", 1)
assert messages.recv().value == 1
assert messages.recv_nowait() is None
eventlet.spawn_after(0, bus.publish, "a", 2)
assert eventlet.spawn(eventlet.tpool.execute, messages.recv).wait().value == 2
bus.close()
"""


@pytest.mark.parametrize("patch", [pytest.param("", marks=in_check), "eventlet.monkey_patch()"])
def test_with_eventlet_waits_in_the_hub_are_refused_and_threads_may_wait(python, patch):
    if importlib.util.find_spec("eventlet") is None:
        pytest.skip("eventlet is not installed")
    python(EVENTLET.replace("PATCH", patch))
