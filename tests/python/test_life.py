"""The life of a bus: references that keep it, forked children, and the end of the interpreter."""

import gc
import subprocess
import sys
import weakref

import pytest
from patience import WATCHDOG

import libbus
from libbus._bus import _open, _with_links


@pytest.fixture(autouse=True)
def nothing_stays():
    before = set(_open)
    yield
    for bus in set(_open) - before:
        bus.close()


# --- links and roles ------------------------------------------------------------------------------------------


def test_a_bus_with_a_link_lives_until_the_link_or_the_bus_is_closed():
    for end in ("link", "bus", "block"):
        bus = libbus.Bus()
        link, other = bus.listen("tcp://127.0.0.1:0"), bus.listen("tcp://127.0.0.1:0")
        gone = weakref.ref(bus)
        del bus
        gc.collect()
        assert link.state == "up"
        other.close()
        gc.collect()
        assert gone() is not None
        if end == "link":
            link.close()
        elif end == "bus":
            gone().close()
        else:
            with link:
                pass
        gc.collect()
        assert gone() is None
    assert not _with_links


def test_a_bus_with_a_role_lives_until_the_role_or_the_bus_is_closed(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as other:
        for end in ("role", "bus"):
            bus = libbus.Bus("test", directory=tmp_path)
            bus.role("writer")
            gone = weakref.ref(bus)
            del bus
            gc.collect()
            with pytest.raises(libbus.BusTimeoutError):
                other.role("writer", timeout=0)
            if end == "bus":
                gone().close()
            else:
                role = libbus.Role(gone(), "writer", gone()._roles[0])
                role.close()
                del role
            gc.collect()
            assert gone() is None
            other.role("writer", timeout=WATCHDOG).close()
    assert not _with_links


def test_a_link_that_could_not_be_opened_keeps_no_bus():
    bus = libbus.Bus()
    with pytest.raises(libbus.AddressError):
        bus.listen("nowhere://")
    gone = weakref.ref(bus)
    del bus
    gc.collect()
    assert gone() is None


# --- fork ---------------------------------------------------------------------------------------------------------

# Sends what the child printed to our standard output, so it is whole when the child has ended.
FORK = """if True:
    import libbus, logging, os, sys, tempfile, threading
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)

    def in_child(function):
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            function()
            sys.stdout.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
"""


HEARD = ["plain 1", "typed 1.0", "worker 1"]


def test_callbacks_are_registered_again_in_a_child_that_reopens(python):
    out = python(
        FORK
        + """
    folder = tempfile.mkdtemp()
    parent, heard = os.getpid(), threading.Semaphore(0)
    bus = libbus.Bus("test", directory=folder, log_bytes=4 << 20, on_fork="reopen")

    def show(kind, msg):
        place = "parent" if os.getpid() == parent else "child"
        os.write(1, f"{kind} {msg.value} in the {place}\\n".encode())  # whole, also beside others
        heard.release()

    first = bus.subscribe("a", "b", callback=lambda msg: show("plain", msg))
    bus.on("a", lambda msg: show("typed", msg), type=float, max_bytes=4096)
    bus.on("a", lambda msg: show("worker", msg), workers=2)
    bus.serve("double", lambda msg: 2 * msg.value)
    past = bus.subscribe("a", callback=lambda msg: None, start=libbus.oldest())
    sub = bus.subscribe("a")
    closed = bus.subscribe("a", callback=print)
    closed.close()

    def child():
        assert not bus.closed and closed.closed and not first.closed
        bus.publish("a", 1)
        for _ in range(3):
            assert heard.acquire(timeout=60)
        os.write(1, b"%d\\n" % bus.request("double", 21, timeout=60).value)
        assert first.stats()["delivered"] >= 1
        first.close()
        assert first.closed
        bus.on("new", lambda msg: show("new", msg))
        bus.publish("new", 2)
        assert heard.acquire(timeout=60)
        try:
            sub.recv()
        except libbus.ForkError:
            os.write(1, b"the subscription is the parent's\\n")
        bus.close()

    with libbus.Bus("other", directory=folder): # nothing of it is in the child
        in_child(child)
        for _ in range(3):
            assert heard.acquire(timeout=60)
        os.write(1, b"%d\\n" % bus.request("double", 4, timeout=60).value)
    bus.close()
    """
    )
    assert sorted(out.splitlines()) == sorted(
        [f"{what} in the {where}" for where in ("parent", "child") for what in HEARD]
        + ["42", "new 2 in the child", "the subscription is the parent's", "8"]
    )


def test_a_private_bus_that_reopens_is_a_new_one(python):
    out = python(
        FORK
        + """
    bus, seen = libbus.Bus(on_fork="reopen"), []
    bus.on("a", lambda msg: seen.append(msg.value))
    bus.publish("a", "before")
    bus.flush(60)
    def child():
        bus.publish("a", "in the child")
        bus.flush(60)
        print(seen)
        def grandchild():
            bus.publish("a", "in its child")
            bus.flush(60)
            print(seen)
        in_child(grandchild)
    in_child(child)
    print(seen)
    """
    )
    assert out.splitlines() == [
        "['before', 'in the child']",
        "['before', 'in the child', 'in its child']",
        "['before']",
    ]


def test_a_child_that_does_not_reopen_logs_one_error_that_says_how(python):
    out = python(
        FORK
        + """
    folder = tempfile.mkdtemp()
    buses = [libbus.Bus(), libbus.Bus(), libbus.Bus("test", directory=folder), libbus.Bus(on_fork="close"), libbus.Bus()]
    for bus in buses[1:]:
        handler = bus.subscribe("a", callback=print)
    bus.close()

    def child():
        assert all(bus.closed for bus in buses)
        handler.close()
        buses[1].close()
        with libbus.Bus() as own:
            own.publish("a", 1)
    in_child(child)
    """
    )
    (line,) = out.splitlines()
    told, how = line.split(" are not called in this forked process: ")
    assert told.startswith("ERROR the callbacks of ")
    assert sorted(told.split(" of ")[1].split(", ")) == ["a bus without a name", "bus 'test'"]
    assert how == (
        "open the bus with on_fork='reopen' to register them again, or with on_fork='close' to"
        " silence this message"
    )


def test_close_of_a_callback_in_a_child_leaves_the_parents_alone(python):
    out = python(
        FORK
        + """
    bus, seen = libbus.Bus(on_fork="close"), []
    handlers = [
        bus.subscribe("a", callback=lambda msg: seen.append(msg.value)),
        bus.subscribe("a", callback=lambda msg: seen.append(msg.value), full="latest"),
        bus.subscribe("a", callback=lambda msg: seen.append(msg.value), workers=2),
    ]
    def child():
        for handler in handlers:
            with handler:
                pass
            assert handler.closed
    in_child(child)
    bus.publish("a", 1)
    bus.flush(60)
    print(seen)
    """
    )
    assert out == "[1, 1, 1]\n"


def test_a_fork_while_other_threads_use_the_bus_is_fine(python):
    out = python(
        FORK
        + """
    bus, go_on = libbus.Bus(on_fork="reopen"), True
    count = 0
    def handle(msg):
        global count
        count += 1
    bus.on("a", handle)
    def publish():
        while go_on:
            bus.publish("a", 1)
            bus.subscribe("b", callback=print).close()
    threads = [threading.Thread(target=publish, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    def child():
        global count
        count = 0
        bus.publish("a", 1)
        bus.flush(60)
        assert count == 1, count
        bus.close()
    for _ in range(20):
        in_child(child)
    go_on = False
    for thread in threads:
        thread.join()
    bus.close()
    print("fine")
    """
    )
    assert out == "fine\n"


def test_an_async_callback_is_registered_by_the_loop_of_the_child(python):
    out = python(
        FORK
        + """
    import asyncio
    bus = libbus.Bus(on_fork="reopen")
    async def show(msg):
        pass
    async def main():
        bus.on("a", show)
        in_child(lambda: None)
        bus.close()
    asyncio.run(main())
    """
    )
    assert (
        "is async and is not called in this forked process: register it again in a running" in out
    )
    assert len(out.splitlines()) == 1


def test_on_fork_is_checked():
    with pytest.raises(ValueError, match="on_fork='ask': choose one of"):
        libbus.Bus(on_fork="ask")


# --- multiprocessing ----------------------------------------------------------------------------------------------

MULTIPROCESSING = """
import multiprocessing, sys
import libbus

def work(folder, n):
    with libbus.Bus("test", directory=folder) as bus:
        bus.publish("done", n)

if __name__ == "__main__":
    method, folder = sys.argv[1:]
    with libbus.Bus("test", directory=folder, on_fork="close") as bus:
        seen = []
        bus.on("done", lambda msg: seen.append(msg.value))
        context = multiprocessing.get_context(method)
        children = [context.Process(target=work, args=(folder, n)) for n in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
        bus.flush(60)
        print(sorted(seen))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_share_a_named_bus(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, program, method, tmp_path],
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0, 1, 2, 3]\n", "")


# --- the end of the interpreter -----------------------------------------------------------------------------------

# Threads of the program that nothing ends and that catch no exception.
TRAFFIC = """
import libbus, tempfile, threading
bus = libbus.Bus({place})
peer = libbus.Bus()
peer.dial(peer.listen("inproc://" + str(id(peer))).url)
heard = threading.Event()
bus.on("a/#", lambda msg: heard.set())
bus.on("a/#", lambda msg: msg.value, workers=2)
sub, publisher = bus.subscribe("a/#"), bus.publisher("a/c")
def publish():
    while True:
        bus.publish("a/b", [1, 2, 3])
def send():
    while True:
        publisher.send_many(range(10))
def recv():
    while True:
        sub.recv().value
def wait():
    while True:
        bus.wait("a/b", 60)
for target in (publish, send, recv, wait):
    threading.Thread(target=target, daemon=True).start()
heard.wait()
{end}
"""


@pytest.mark.parametrize("end", ["", "raise SystemExit"])
@pytest.mark.parametrize("place", ["", "'test', directory=tempfile.mkdtemp()"])
def test_an_interpreter_ends_silently_under_the_traffic_of_daemon_threads(python, place, end):
    for _ in range(3):
        python(TRAFFIC.format(place=place, end=end))
