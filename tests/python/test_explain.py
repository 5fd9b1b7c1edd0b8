"""The subscribers of a topic on a named bus: the command, and bus.explain()."""

import os
import re
import signal
import socket

import pytest
from programs import LIBBUS, run, started

import libbus


@pytest.fixture
def named(tmp_path):
    tmp_path.chmod(0o700)
    with libbus.Bus("test", directory=tmp_path, log_bytes=4 << 20) as bus:
        yield bus


@pytest.fixture
def explain(tmp_path):
    def ask(topic, status=0):
        done = run(LIBBUS, "explain", "test", topic, "--dir", tmp_path)
        assert done.returncode == status, done.stderr.decode()
        return done.stdout.decode()

    return ask


@pytest.fixture
def listener(named, tmp_path, eventually):
    """A `libbus sub` of these filters, stopped once it has subscribed."""
    filters = ("room/#", "/room/kitchen", "Room/kitchen", "room/kichen", "home/room/kitchen")
    with started(LIBBUS, "sub", "test", *filters, "--dir", tmp_path) as sub:
        eventually(lambda: " gets it by room/# 0 behind" in named.explain("room/x"))
        sub.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, sub.pid, os.WSTOPPED)
        yield sub


def test_explain_lists_a_stopped_process(listener, named, explain):
    pid = f"pid {listener.pid:<7} libbus"
    named.publish("room/kitchen", 21.5, retain=True)
    text = explain("room/kitchen")
    assert re.search(
        rf"^{pid} gets it by room/# 1 behind(| for \d+ s), 0 lost, drop_oldest$", text, re.MULTILINE
    )
    for name, reason in (
        ("/room/kitchen", "it begins with a slash, the topic does not"),
        ("Room/kitchen", "upper and lower case differ"),
        ("room/kichen", "one level is spelled otherwise"),
        ("home/room/kitchen", "it has a level that the topic lacks"),
    ):
        assert f"{pid} does not get it by {name}: {reason}\n" in text
    assert "other processes that listen: 1; that get it: 1\n" in text
    assert text.endswith("last value: 21.5\n")


def test_explain_shows_the_next_step_for_a_topic_without_subscribers(named, explain):
    assert explain("room/door") == (
        "other processes that listen: 0; that get it: 0\n"
        "not delivered: no filter matches room/door\n"
        "unknown topic: no message on it is in the log\n"
        "next: subscribe, in a shell: libbus sub test 'room/door'\n"
    )
    named.publish("room/door", "open")
    assert "unknown" not in explain("room/door")


def test_a_program_sees_the_other_processes_too(listener, named):
    text = named.explain("room/kitchen")
    assert f"pid {listener.pid:<7} libbus gets it by room/# " in text
    with named.subscribe("room/+"):
        assert "mailbox 1 gets it by room/+\n" in named.explain("room/kitchen")


def test_explain_does_not_list_itself(named, explain):
    with named.subscribe("a"):
        assert len(re.findall("gets it by", explain("a"))) == 1
        assert "libbus gets" not in explain("a")


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        ((), 2, "the bus is missing: give its name"),
        (("test",), 2, "give one topic: libbus explain test room/kitchen"),
        (("test", "a", "b"), 2, "give one topic: libbus explain test room/kitchen"),
        (("a/b", "a"), 2, "a/b is not the name of a bus"),
        (("test", "a/+"), 2, "a/+: topic has + or #"),
        (("test", ""), 2, "''"),
        (("tset", "a"), 1, "no such bus: tset in "),
        (("test", "a", "--json"), 2, "--help lists the options"),
    ],
)
def test_a_mistake_is_answered_with_the_next_step(named, tmp_path, args, status, text):
    done = run(LIBBUS, "explain", *args, "--dir", tmp_path)
    assert (done.returncode, done.stdout) == (status, b"")
    assert text in done.stderr.decode()


def test_help_names_explain_and_its_arguments(named):
    done = run(LIBBUS, "explain", "--help")
    assert done.returncode == 0
    assert done.stdout.decode().startswith("Usage: libbus explain BUS TOPIC [--dir DIR]\n")
    assert "  libbus explain BUS TOPIC " in run(LIBBUS, "--help").stdout.decode()


def test_explain_peers_covers_other_processes_and_refusals(named, tmp_path, eventually):
    def peers():
        done = run(LIBBUS, "explain", "test", "--peers", "--dir", tmp_path)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    assert named.explain_peers() == "no peer is connected, and none was refused\n"
    assert peers() == named.explain_peers()
    with named.listen(f"ipc://{tmp_path}/link") as link, libbus.Bus() as peer, peer.dial(link.url):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(f"{tmp_path}/link")
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            eventually(lambda: f"pid {os.getpid()}: refused this machine: HTTP" in peers())
        eventually(
            lambda: (
                f"pid {os.getpid()}: connected this machine: without a user, at ipc://" in peers()
            )
        )
        assert "refused this machine: HTTP on a port for links" in named.explain_peers()
        assert "dialled since 20" in peer.explain_peers()
    eventually(lambda: "connected" not in peers())


@pytest.mark.parametrize(
    ("words", "said"), [(("--peers", "topic"), b"exclude each other"), ((), b"give one topic")]
)
def test_a_topic_or_the_peers(named, tmp_path, words, said):
    done = run(LIBBUS, "explain", "test", *words, "--dir", tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
