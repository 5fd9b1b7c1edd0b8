"""libbus pub --lines: a blank line erases nothing unless asked to, and CRLF ends a line as LF does."""

import pytest
from patience import WATCHDOG
from programs import LIBBUS, run

import libbus


@pytest.fixture
def named(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus:
        yield bus


@pytest.fixture
def pub(named, tmp_path):
    def publish(stdin, *options):
        return run(LIBBUS, "pub", "test", "t", "--dir", tmp_path, *options, stdin=stdin)

    return publish


def published(named, pub, stdin, *options):
    with named.subscribe("t", "end") as heard:
        done = pub(stdin, "--lines", *options)
        assert (done.returncode, done.stderr) == (0, b"")
        named.publish("end", 1)
        lines = []
        while (msg := heard.recv(WATCHDOG)).topic != "end":
            lines.append(msg.data)
        return lines


@pytest.mark.parametrize(
    ("stdin", "lines"),
    [
        (b"21.5\n\n", [b"21.5"]),
        (b"\n\n1\n\n\n2\n\n", [b"1", b"2"]),
        (b"on\r\noff\r\n", [b"on", b"off"]),
        (b"\r\n1\r\n\r\n", [b"1"]),
        (b"1\n2", [b"1", b"2"]),
        (b"1\r", [b"1\r"]),
        (b"1\r\r\n", [b"1\r"]),
        (b"a\0b\r\n \n", [b"a\0b", b" "]),
        (b"", []),
        (b"\n", []),
    ],
)
def test_a_line_is_a_message_and_a_blank_one_is_none(named, pub, stdin, lines):
    assert published(named, pub, stdin) == lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_blank_line_is_an_empty_message_where_that_is_asked_for(named, pub, end):
    stdin = end.join([b"1", b"", b"2", b""])
    assert published(named, pub, stdin, "--blank-lines") == [b"1", b"", b"2"]


@pytest.mark.parametrize("stdin", [b"21.5\n\n", b"21.5\r\n\r\n", b"\n21.5\n"])
def test_a_blank_line_leaves_the_retained_value(named, pub, stdin):
    assert pub(stdin, "--lines", "--retain").returncode == 0
    with named.subscribe("t") as late:
        assert late.recv(WATCHDOG).value == 21.5


def test_a_blank_line_erases_the_retained_value_where_that_is_asked_for(named, pub):
    assert pub(b"21.5\n\n", "--lines", "--retain", "--blank-lines").returncode == 0
    with named.subscribe("t") as late:
        assert late.recv_nowait() is None


def test_a_blank_line_is_no_mistake_under_a_type(named, pub):
    assert published(named, pub, b"1\r\n\r\n\n2\n", "--type", "json") == [b"1", b"2"]


def test_blank_lines_without_lines_is_a_wrong_command_line(pub):
    done = pub(b"1", "--blank-lines")
    assert done.returncode == 2
    assert b"give both" in done.stderr


def test_a_carriage_return_belongs_to_bytes(named, pub):
    assert published(named, pub, b"a\r\nb\n", "--type", "bytes") == [b"a\r", b"b"]
