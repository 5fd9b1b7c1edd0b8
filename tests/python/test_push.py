"""_core.Push: pages on sockets, and the questions about them."""

import contextlib
import os
import socket
import threading
import time

import pytest
import sse
from patience import WATCHDOG

import libbus
from libbus import _core


@contextlib.contextmanager
def pages(bus, **options):
    push = _core.Push(bus, heartbeat=0.2, **options)
    try:
        yield push
    finally:
        push.close(WATCHDOG)


@contextlib.contextmanager
def page(push, *filters, **options):
    """A page's number, and the events that its browser gets."""
    ours, theirs = socket.socketpair()
    ours.settimeout(WATCHDOG)
    number = push.add(theirs.fileno(), filters, **options)
    theirs.detach()
    with ours:
        yield number, sse.read(iter(lambda: ours.recv(65536), b""))


def test_a_page_gets_its_head_and_then_events(bus):
    with pages(bus) as push:
        ours, theirs = socket.socketpair()
        with ours:
            push.add(theirs.detach(), ["a"], head=b"HTTP/1.1 200 OK\r\n\r\n")
            bus.publish("a", 1)
            text = b""
            while b'"value":1' not in text:
                text += ours.recv(65536)
            assert text.startswith(b"HTTP/1.1 200 OK\r\n\r\nretry: 2000\n")


def test_all_pages_of_a_named_bus_are_one_reader_of_its_log(tmp_path, eventually):
    with libbus.Bus("test", directory=tmp_path) as bus, contextlib.ExitStack() as ends:
        before = bus.log_stats()["readers"]
        push = ends.enter_context(pages(bus))
        bus.publish("a", 0)
        for _ in range(50):
            ends.enter_context(page(push, "a"))
        # A page reads its past only while it resumes.
        _, events = ends.enter_context(page(push, "a", start=libbus.last(1)))
        assert next(event for event in events if event.name == "message")
        eventually(lambda: bus.log_stats()["readers"] == before + 1)


def test_a_page_that_cannot_be_added_leaves_its_socket_to_the_caller(bus):
    ours, theirs = socket.socketpair()
    with ours, theirs, pages(bus, max_pages=1) as push:
        for arguments, error in (
            ((["a/#/b"],), libbus.FilterError),
            (([],), ValueError),
            ((["a"] * 257,), ValueError),
            (([1],), TypeError),
            ((["a\0"],), libbus.FilterError),
        ):
            with pytest.raises(error):
                push.add(theirs.fileno(), *arguments)
        for options in (
            {"full": "refuse"},
            {"start": "last"},
            {"interval": -1},
            {"max_bytes": -1},
            {"new": ["a\0"]},
        ):
            with pytest.raises((ValueError, TypeError)):
                push.add(theirs.fileno(), ["a"], **options)
        with page(push, "a"), pytest.raises(libbus.LimitError):
            push.add(theirs.fileno(), ["a"])
        theirs.sendall(b"still here")
        assert ours.recv(100) == b"still here"


def test_a_question_waits_for_its_answer_and_holds_the_page_s_events(bus):
    with pages(bus) as push, page(push, "#", ask=True) as (number, events):
        bus.publish("b", 1)
        bus.publish("a", 2)
        # The page's next events wait behind the question.
        assert push.questions(WATCHDOG) == [(number, "b")]
        push.answer(number, "b", False, "not yours")
        assert push.questions(WATCHDOG) == [(number, "a")]
        push.answer(number, "a", True)
        found = {}
        while not {"denied", "message"} <= set(found):
            event = next(events)
            found[event.name] = event.data
        assert '"value":2' in found["message"]
        assert found["denied"] == '{"topic":"b","message":"not yours"}'
        assert push.page_stats(number)["denied"] == 1


# The n-th allocation fails, on any thread.
WITHOUT_MEMORY = """
import _testcapi, socket
import libbus
from libbus import _core

failed = 0
with libbus.Bus() as bus:
    push = _core.Push(bus)
    ours, theirs = socket.socketpair()
    number = push.add(theirs.detach(), ["#"], ask=True)
    for n in range(20):
        topic = f"a/{n}"
        bus.publish(topic, 1)
        asked = []
        _testcapi.set_nomemory(n, n + 1)
        try:
            asked = push.questions(WATCHDOG)
        except MemoryError:
            failed += 1
        finally:
            _testcapi.remove_mem_hooks()
        # Empty once at most: what was read is put back with a ring.
        asked = asked or push.questions(WATCHDOG) or push.questions(WATCHDOG)
        assert asked == [(number, topic)], asked
        push.answer(number, topic, True)
    push.close(WATCHDOG)
ours.close()
print(failed > 0)
"""


def test_questions_are_asked_again_after_a_lack_of_memory(python):
    pytest.importorskip("_testcapi")
    assert python(WITHOUT_MEMORY.replace("WATCHDOG", str(WATCHDOG))) == "True\n"


def test_a_page_with_questions_is_reported_when_it_leaves(bus):
    with pages(bus) as push:
        with page(push, "#", ask=True) as (number, _):
            assert push.questions(0) == []
        assert push.questions(WATCHDOG) == [(number, None)]
        assert push.page_stats(number) is None
        push.answer(number, "a", True)
        push.remove(number)


def test_close_ends_pages_and_waits_for_questions(bus):
    push = _core.Push(bus)
    ended = []

    def wait():
        try:
            push.questions(None)
        except libbus.ClosedError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    with page(push, "a") as (_, events):
        assert next(events).name == "hb"
        assert push.stats()["pages"] == 1
        assert push.close(WATCHDOG) == 1
        assert [event.name for event in events][-1] == "end"
    thread.join(WATCHDOG)
    assert len(ended) == 1
    assert push.closed
    assert push.close() == 0
    for call in (push.stats, push.questions, lambda: push.remove(1), lambda: push.page_stats(1)):
        with pytest.raises(libbus.ClosedError):
            call()


def test_a_closed_bus_ends_its_pages(bus):
    with pages(bus) as push, page(push, "a") as (_, events):
        next(events)
        bus.close()
        list(events)
        with pytest.raises(libbus.ClosedError):
            _core.Push(bus)


def test_pages_are_the_parent_s_in_a_forked_child(bus):
    with pages(bus) as push, page(push, "a") as (_, events):
        next(events)
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                assert push.closed
                assert push.close() == 0
                for call in (push.stats, push.questions):
                    with pytest.raises(libbus.ForkError):
                        call()
                status = 0
            os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status == 0
        bus.publish("a", 1)
        assert next(event for event in events if event.name == "message")


def test_a_push_without_references_ends_its_pages(bus):
    ours, theirs = socket.socketpair()
    with ours:
        push = _core.Push(bus)
        push.add(theirs.detach(), ["a"])
        del push
        ours.settimeout(WATCHDOG)
        while ours.recv(65536):
            pass


def test_pages_join_and_leave_under_traffic(bus):
    with pages(bus) as push:
        stop = threading.Event()

        def publish():
            while not stop.is_set():
                bus.publish("a", "x" * 100)
                time.sleep(0)

        thread = threading.Thread(target=publish)
        thread.start()
        for _ in range(50):
            with page(push, "a") as (_, events):
                assert next(event for event in events if event.name == "message")
        stop.set()
        thread.join()
        assert push.stats()["opened"] == 50
