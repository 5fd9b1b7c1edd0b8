"""Requests and their replies."""

import threading

import pytest
from patience import WATCHDOG

import libbus


@pytest.fixture
def served(bus):
    """A bus on which double is served."""

    @bus.serve("double")
    def double(msg):
        return msg.value * 2

    return bus


def test_the_result_of_a_function_is_the_reply(served):
    reply = served.request("double", 21)
    assert (reply.value, reply.topic, reply.question) == (42, "double", False)
    assert served.request("double", "ab", timeout=None).value == "abab"
    assert served.request("double", [1] * 5000).value == [1] * 10000


def test_a_question_across_a_link_is_answered(served):
    with libbus.Bus() as other, served.listen("tcp://127.0.0.1:0") as link:
        there = other.dial(link.url)
        while there.state != "up":
            pass
        assert other.request("double", 21, timeout=WATCHDOG).value == 42
        with pytest.raises(libbus.NobodyError):
            other.request("half", 21, timeout=WATCHDOG)


def test_request_raises_the_exception_of_the_function(bus, caplog):
    @bus.serve("f")
    def fail(msg):
        raise ValueError("no such room")

    with pytest.raises(libbus.ReplyError, match=r"^f: ValueError: no such room$") as caught:
        bus.request("f", 1)
    assert caught.value.topic == "f"
    assert caught.value.reply.headers == {"error": "ValueError: no such room"}
    assert "no such room" in caplog.text


def test_an_unpackable_reply_is_an_error_on_both_sides(bus, caplog):
    bus.serve("f")(lambda msg: object())
    with pytest.raises(libbus.ReplyError, match=r"^f: TypeError: f: cannot publish object"):
        bus.request("f", 1)
    assert "cannot publish object" in caplog.text


def test_a_request_without_a_subscriber_fails(bus):
    with pytest.raises(libbus.NobodyError, match=r"^f: no responder") as caught:
        bus.request("f", 1, timeout=None)
    assert caught.value.topic == "f" and caught.value.name == "BUS_E_NOBODY"


def test_a_request_times_out_and_a_late_reply_is_counted(bus):
    with bus.subscribe("f") as questions:
        for timeout in (0, 0.01):
            with pytest.raises(libbus.BusTimeoutError):
                bus.request("f", 1, timeout=timeout)
        assert questions.recv_nowait() is None  # late is late

        asked = threading.Thread(target=lambda: bus.request("f", 1, timeout=WATCHDOG))
        asked.start()
        question = questions.recv(timeout=WATCHDOG)
        assert question.question and 0 < question.ttl <= WATCHDOG
        bus.reply(question, 1)
        asked.join()
        bus.reply(question, 2)
        assert bus.stats()["late_replies"] == 1


def test_headers_go_both_ways(bus):
    with bus.subscribe("f") as questions:

        def answer():
            question = questions.recv(timeout=WATCHDOG)
            bus.reply(question, None, headers={"back": question.headers["there"]})

        thread = threading.Thread(target=answer)
        thread.start()
        assert bus.request("f", None, timeout=WATCHDOG, headers={"there": 7}).headers == {"back": 7}
        thread.join()


def test_served_functions_are_called_for_requests_only(bus):
    called = []
    bus.serve("f")(called.append)
    bus.publish("f", "no question")
    bus.request("f", "question", timeout=WATCHDOG)
    assert [msg.value for msg in called] == ["question"]


def test_a_callback_may_not_wait_for_a_reply(served):
    @served.serve("outer")
    def outer(msg):
        return served.request("double", 1).value

    with pytest.raises(libbus.ReplyError, match=r"^outer: StateError: double: wrong place"):
        served.request("outer", 1)


def test_only_questions_are_replied_to(bus, served):
    with bus.subscribe("t") as sub:
        bus.publish("t", 1)
        msg = sub.recv(timeout=WATCHDOG)
    with pytest.raises(libbus.ArgumentError):
        bus.reply(msg, 1)
    with pytest.raises(TypeError):
        bus.reply("t", 1)
    with pytest.raises(TypeError, match=r"at least one filter"):
        bus.serve()
    for topic in ("a/+", ""):
        with pytest.raises(libbus.TopicError):
            bus.request(topic, 1)
    with pytest.raises(TypeError, match=r"^double: cannot publish"):
        served.request("double", object())


def test_close_ends_a_wait(bus):
    raised = []
    with bus.subscribe("f") as questions:

        def ask():
            try:
                bus.request("f", 1, timeout=None)
            except libbus.ClosedError as error:
                raised.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        questions.recv(timeout=WATCHDOG)
        bus.close()
        thread.join()
    assert len(raised) == 1


def test_ctrl_c_ends_a_wait(python):
    assert (
        python(
            """
import os, signal, threading
import libbus
with libbus.Bus() as bus, bus.subscribe("f") as questions:
    def interrupt():
        questions.recv()
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        bus.request("f", 1, timeout=None)
    except KeyboardInterrupt:
        print("interrupted")
    thread.join()
"""
        )
        == "interrupted\n"
    )
