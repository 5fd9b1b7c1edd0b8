"""The command: messages, output, exit status and errors."""

import base64
import json
import re
import signal
import subprocess
import sys

import pytest
from patience import WATCHDOG
from programs import (
    HELLO,
    LIBBUS,
    ipc_address,  # noqa: F401 (a fixture)
    run,
    started,
)

import libbus


def sub_json(sub, count):
    return [json.loads(sub.stdout.readline()) for _ in range(count)]


def pub(*args, stdin=b""):
    done = run(LIBBUS, "pub", "--connect-timeout", str(WATCHDOG), *args, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done


@pytest.fixture(params=["ipc", "tcp"])
def listener(request, ipc):
    """A `libbus sub --json` of everything, and its address."""
    url = ipc if request.param == "ipc" else "tcp://127.0.0.1:0"
    with started(LIBBUS, "sub", "--json", "--listen", url, "#") as sub:
        if request.param == "tcp":
            url = re.search(r"listening on (tcp://\S+)", sub.stderr.readline()).group(1)
        yield sub, url


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("21.5", 21.5),
        ("-5", -5),
        ("true", True),
        ("null", None),
        ('{"a": [1, "b"]}', {"a": [1, "b"]}),
        ("kitchen", "kitchen"),
        ("21.5 °C", "21.5 °C"),
        ("", ""),
    ],
)
def test_an_untagged_word_is_the_json_it_spells_or_else_text(ipc, word, value):
    with started(LIBBUS, "sub", "--json", "--count", "1", "--listen", ipc, "t") as sub:
        pub("--dial", ipc, "t", word)
        (message,) = sub_json(sub, 1)
        assert message == {"topic": "t", "value": value, "kept": False, "lost": 0}
        assert type(message["value"]) is type(value)
        assert sub.wait(WATCHDOG) == 0


def test_values_cross_ipc_and_tcp(listener):
    sub, url = listener
    pub("--dial", url, "room/kitchen/temperature", "21.5")
    pub("--dial", url, "room/hall/temperature", "19")
    topics = {m["topic"]: m["value"] for m in sub_json(sub, 2)}
    assert topics == {"room/kitchen/temperature": 21.5, "room/hall/temperature": 19}


def test_the_publisher_may_listen(ipc):
    with started(LIBBUS, "sub", "--dial", ipc, "--count", "1", "room/+") as sub:
        pub("--listen", ipc, "room/hall", "19.25")
        assert sub.stdout.readline() == "room/hall 19.25\n"
        assert sub.wait(WATCHDOG) == 0


def test_the_type_given_is_the_type_read(listener):
    sub, url = listener
    pub("--dial", url, "--type", "text", "t", "007")
    assert sub_json(sub, 1)[0]["value"] == "007"
    pub("--dial", url, "--type", "bytes", "t", stdin=b"\xff\x00")
    assert sub_json(sub, 1)[0]["value"] == {"$bytes": base64.b64encode(b"\xff\x00").decode()}
    pub("--dial", url, "--type", "msgpack", "t", "-", stdin=b"\x93\x01\x02\xc0")
    assert sub_json(sub, 1)[0]["value"] == [1, 2, None]
    pub("--dial", url, "--type", "json", "t", '{"a": 1}')
    assert sub_json(sub, 1)[0]["value"] == {"a": 1}


def test_text_is_printed_bare_unless_it_would_break_the_line(ipc):
    with started(LIBBUS, "sub", "--listen", ipc, "#") as sub:
        pub("--dial", ipc, "t", "two words")
        assert sub.stdout.readline() == "t two words\n"
        pub("--dial", ipc, "t", "two\nlines\x1b[31m")
        line = sub.stdout.readline()
        assert line.startswith('t "') and json.loads(line[2:]) == "two\nlines\x1b[31m"


def test_terminal_control_characters_are_escaped(ipc):
    with started(LIBBUS, "sub", "--listen", ipc, "#") as sub:
        for text in ("\x9b31mred", "\u202egnp.exe", "\u2066x", "rub\x7fout"):
            pub("--dial", ipc, "t", text)
            line = sub.stdout.readline()
            assert line.isascii() and json.loads(line[2:]) == text
        pub("--dial", ipc, "t", 'plain <b> "quoted" \\ größer')
        assert sub.stdout.readline() == 't plain <b> "quoted" \\ größer\n'


def test_pub_reports_lines_that_the_peer_did_not_wait_for(ipc):
    with started(LIBBUS, "sub", "--listen", ipc, "--count", "1", "#"):
        many = b"".join(b"%d\n" % i for i in range(200_000))
        done = run(LIBBUS, "pub", "--dial", ipc, "--lines", "n", stdin=many)
    assert done.returncode == 1
    assert b"messages" in done.stderr


def test_losses_of_a_link_are_counted_when_the_peer_dies(ipc, eventually):
    sent = 20_000
    with started(LIBBUS, "sub", "--listen", ipc, "n") as sub, libbus.Bus() as bus:
        link = bus.dial(ipc)
        assert eventually(lambda: link.state == "up")
        sub.send_signal(signal.SIGSTOP)
        for _ in range(sent):
            bus.publish("n", b"x" * 1000)
        sub.kill()
        # The link is down first; the messages are counted when the connection is freed.
        assert eventually(lambda: link.stats()["sent"] + link.stats()["lost"] == sent)
        assert link.stats()["lost"] > 0


def test_every_line_of_stdin_is_a_message_in_its_order(listener):
    sub, url = listener
    lines = b"".join(b"%d\n" % i for i in range(2000))
    pub("--dial", url, "--lines", "n", stdin=lines + b"last, without newline")
    messages = sub_json(sub, 2001)
    assert [m["value"] for m in messages] == [*range(2000), "last, without newline"]
    assert not any(m["lost"] for m in messages)


def test_losses_of_a_slow_reader_are_counted_exactly(ipc, tmp_path):
    with (tmp_path / "stderr").open("w+") as stderr:
        with started(LIBBUS, "sub", "--listen", ipc, "#", stderr=stderr) as sub:
            # sub's output is not read until 10 MB have arrived: its mailbox must drop.
            pub("--dial", ipc, "--lines", "n", stdin=b"%0500d\n" % 7 * 20000)
            pub("--dial", ipc, "end", "1")
            printed = 0
            while sub.stdout.readline() != "end 1\n":
                printed += 1
        stderr.seek(0)
        lost = [int(n) for n in re.findall(r"lost (\d+) messages before", stderr.read())]
    assert lost
    assert printed + sum(lost) == 20000


def test_hello_gives_late_joiners_the_number_21_5(ipc):
    with started(HELLO, ipc) as hello:
        for _ in range(2):
            done = run(LIBBUS, "sub", "--json", "--count", "1", "--dial", ipc, "room/#")
            message = json.loads(done.stdout)
            assert message["topic"] == "room/kitchen/temperature"
            assert message["value"] == 21.5
            assert message["kept"] is True
        out, err = hello.communicate("\n", timeout=WATCHDOG)
        assert hello.returncode == 0, err
        assert "room/kitchen/temperature is 21.5\n" in out


def test_a_dash_stands_for_a_missing_position_or_time(ipc):
    with started(LIBBUS, "sub", "--positions", "--listen", ipc, "#") as sub:
        pub("--dial", ipc, "t", "1")
        assert sub.stdout.readline().split() == ["-", "-", "t", "1"]


def test_hello_alone_prints_its_own_message():
    assert run(HELLO).stdout == b"room/kitchen/temperature is 21.5\n"


def test_time_up_is_status_3(ipc):
    done = run(LIBBUS, "sub", "--listen", ipc, "--count", "1", "--timeout", "0.1", "#")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_sub_cleanly(listener, number):
    sub, url = listener
    pub("--dial", url, "t", "1")
    sub_json(sub, 1)
    sub.send_signal(number)
    assert sub.wait(WATCHDOG) == 0
    assert sub.stderr.read() == ""


def test_sub_ends_quietly_when_its_output_is_closed(listener):
    sub, _ = listener
    sub.stdout.close()
    assert sub.wait(WATCHDOG) == 0
    assert sub.stderr.read() == ""


def test_output_that_cannot_be_written_is_a_failure(ipc):
    with (
        open("/dev/full", "w") as full,
        started(LIBBUS, "sub", "--listen", ipc, "#", stdout=full) as sub,
    ):
        pub("--dial", ipc, "t", "1")
        assert sub.wait(WATCHDOG) == 1
        assert sub.stderr.read() == "libbus: stdout: No space left on device\n"


def test_pub_reports_that_no_subscriber_matches(ipc):
    with started(LIBBUS, "sub", "--listen", ipc, "room/#"):
        done = pub("--dial", ipc, "garden/temperature", "9")
        assert b"garden/temperature: no subscriber there has a matching filter" in done.stderr


@pytest.mark.parametrize("command", [("pub", "t", "1"), ("sub", "t")])
def test_an_address_without_a_listener_is_named_with_the_reason(ipc, command):
    done = run(LIBBUS, *command, "--dial", ipc, "--connect-timeout", "0.3")
    assert done.returncode == 1
    assert ipc in done.stderr.decode()
    assert "nothing listens at that address" in done.stderr.decode()


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        ((), 2, "Usage: libbus COMMAND"),
        (("subscribe",), 2, "did you mean libbus sub?"),
        (("x",), 2, "libbus --help lists them"),
        (("pub",), 2, "the bus is missing: give its name, like home, or --dial URL"),
        (("pub", "room/1", "1"), 2, "room/1 is not the name of a bus: give the name first"),
        (("sub", "#"), 2, ", or give --dial URL"),
        (("sub", "home"), 2, "libbus sub BUS '#'"),
        (("sub", "home", "a/#/b"), 2, "a/#/b: malformed filter"),
        (("sub", "home", "a/#/b"), 2, "libbus: a/#/b: malformed filter: level 2 is #"),
        (("pub", "home", "t", "1", "--dir", "/nowhere/bus"), 1, "its log in /nowhere/bus: No such"),
        (("sub", "home", ""), 2, "libbus: '': empty: a topic or filter"),
        (("top", "home", "a+"), 2, "a+: malformed filter"),
        (("pub", "home", "", "1"), 2, "libbus: '': empty: a topic or filter"),
        (("sub", "t", "--last", "5", "--dial", "{ipc}"), 1, "need a named bus"),
        (("sub", "t", "--last", "-5", "--dial", "{ipc}"), 2, "--last -5: give a whole number"),
        (("sub", "home", "t", "--last", "10001"), 2, "--last 10001: give at most 10000\n"),
        (("sub", "home", "t", "--oldest", "--last", "1"), 2, "exclude each other: give one"),
        (("log", "tail", "home", "--since", "5m", "--after", "1"), 2, "exclude each other"),
        (("sub", "home", "t", "--epoch", "1"), 2, "--epoch needs --after"),
        (("sub", "home", "t", "--epoch", "0", "--after", "1"), 2, "--epoch 0: give a whole"),
        (("sub", "home", "t", "--since", "5y"), 2, "--since 5y: give seconds, or minutes, hours"),
        (("sub", "home", "t", "--since", "m"), 2, "--since m: give seconds, or minutes, hours"),
        (("sub", "home", "t", "--since", "5mm"), 2, "--since 5mm: give seconds, or minutes"),
        (("sub", "home", "t", "--since", "1e9d"), 2, "--since 1e9d: give seconds, or minutes"),
        (("pub", "--dial", "{ipc}"), 2, "libbus pub TOPIC [VALUE]"),
        (("pub", "t", "1", "2", "--dial", "{ipc}"), 2, "quote a value with spaces"),
        (("pub", "t", "1", "--lines", "--dial", "{ipc}"), 2, "leave out the value"),
        (("pub", "t", "1", "--type", "xml", "--dial", "{ipc}"), 2, "choose json, text"),
        (("log", "tail"), 2, "the bus is missing: give its name, like home\n"),
        (("log", "stat"), 2, "the bus is missing: give its name, like home\n"),
        (("log", "tail", "#"), 2, "# is not the name of a bus: give the name first, 1 to 64 of"),
        (("log", "tail", "--dial", "{ipc}"), 2, "libbus log tail --help lists the options"),
        (("pub", "--nope"), 2, "libbus pub --help lists the options"),
        (("sub", "--dial", "{ipc}"), 2, "the filter is missing"),
        (("sub", "t", "--count", "0", "--dial", "{ipc}"), 2, "--count 0: give a whole number"),
        (("sub", "t", "--timeout", "soon", "--dial", "{ipc}"), 2, "--timeout soon: give seconds"),
        (("sub", "a/#/b", "--dial", "{ipc}"), 2, "a/#/b: malformed filter"),
        (("sub", "t", "--dial", "smoke://hill"), 1, "smoke://hill: unknown scheme"),
        (
            ("sub", "t", "--listen", "tcp://0.0.0.0:0"),
            1,
            "0.0.0.0 is all addresses of this machine",
        ),
        (("sub", "t", "--listen", "ipc://relative"), 1, "ipc://relative: malformed address"),
    ],
)
def test_a_mistake_is_answered_with_the_next_step(ipc, args, status, text):
    done = run(LIBBUS, *[arg.format(ipc=ipc) for arg in args])
    assert text in done.stderr.decode()
    assert done.returncode == status
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (("a/+/b", "1"), 2, "a/+/b: topic has + or #"),
        (("", "1"), 2, "'': empty: a topic or filter"),
        (("$bus/x", "1"), 2, "$bus/x: topic begins with $"),
        (("x" * 1025, "1"), 2, "too long: a topic or filter has at most 1024 bytes"),
        (("--type", "json", "t", "{"), 1, "t: the value does not match --type"),
        (("--type", "text", "t"), 1, "t: the value does not match --type"),
    ],
)
def test_an_unpublishable_value_is_refused(listener, args, status, text):
    _, url = listener
    done = run(LIBBUS, "pub", "--dial", url, *args, stdin=b"\xff")
    assert text in done.stderr.decode()
    assert done.returncode == status


def test_a_value_above_the_limit_is_refused(listener):
    _, url = listener
    done = run(LIBBUS, "pub", "--dial", url, "t", stdin=b"x" * (1024 * 1024 + 1))
    assert "t: payload too big" in done.stderr.decode()
    assert done.returncode == 1


def test_a_file_in_the_way_is_left_untouched(tmp_path):
    path = tmp_path / "notes"
    path.write_text("keep me")
    done = run(LIBBUS, "sub", "t", "--listen", f"ipc://{path}")
    assert done.returncode == 1
    assert "left untouched" in done.stderr.decode()
    assert path.read_text() == "keep me"


@pytest.mark.parametrize(
    "args",
    [("--help",), ("pub", "--help"), ("sub", "--help"), ("top", "--help"), ("log", "--help")],
)
def test_help_teaches_with_examples(args):
    done = run(LIBBUS, *args)
    assert done.returncode == 0
    assert done.stdout.startswith(b"Usage: libbus ")
    assert b"\n  libbus " in done.stdout


def test_each_command_prints_its_usage():
    for args in (("pub",), ("sub",), ("top",), ("log", "tail")):
        usage = f"Usage: libbus {' '.join(args)} BUS"
        assert run(LIBBUS, *args, "--help").stdout.decode().startswith(usage)
    tail = run(LIBBUS, "log", "tail", "--help").stdout.decode()
    assert "last ten messages" in tail and "position" in tail and "--dial" not in tail


def test_version_is_that_of_the_library():
    assert re.fullmatch(rb"libbus \d+\.\d+\.\d+\n", run(LIBBUS, "--version").stdout)


def test_python_m_libbus_is_the_command_too():
    module = [sys.executable, "-m", "libbus"]
    assert (
        subprocess.check_output([*module, "--version"], text=True)
        == f"libbus {libbus.__version__}\n"
    )
    assert "installed" in subprocess.check_output(module, text=True)
