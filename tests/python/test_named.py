"""Named buses: interpreters, programs in C, a shell and Flask's workers on one log."""

import contextlib
import datetime
import functools
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from patience import WATCHDOG
from programs import BUILD, LIBBUS, REPO, run, started
from webserver import Server, events, messages

import libbus

PAGE = (REPO / "docs/named-bus.md").read_text(encoding="utf-8")


@pytest.fixture
def name():
    return f"test-{os.getpid()}-{time.monotonic_ns():x}"


@pytest.fixture
def named(tmp_path):
    with libbus.Bus("test", directory=tmp_path, log_bytes=4 << 20) as bus:
        yield bus


@pytest.fixture
def by_shell(tmp_path):
    """Returns the command's output about the bus `named`."""

    def command(*args):
        done = run(LIBBUS, *args, "--dir", tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    return command


def block(kind, number=0):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[number]


def test_another_process_is_on_the_same_bus(named, tmp_path, python):
    with named.subscribe("from/#") as got:
        python(
            f"import libbus\nwith libbus.Bus('test', directory={str(tmp_path)!r}) as bus: bus.publish('from/child', [1, 2])"
        )
        msg = got.recv(timeout=WATCHDOG)
    assert (msg.topic, msg.value, msg.lost, msg.kept) == ("from/child", [1, 2], 0, False)
    assert msg.position > 0
    assert msg.time == pytest.approx(time.time(), abs=60)
    assert named.epoch != 0
    assert repr(named) == "<libbus.Bus test open>"


def test_a_private_bus_refuses_start(bus):
    assert bus.epoch == 0
    with bus.subscribe("t") as got:
        bus.publish("t", 1)
        assert got.recv(timeout=WATCHDOG).position is None
    for start in (libbus.last(1), libbus.oldest(), libbus.after(7, 5)):
        with pytest.raises(
            libbus.NotSupportedError,
            match=f"^start={re.escape(repr(start))}: a private bus has no log",
        ):
            bus.subscribe("t", start=start)


def test_a_subscription_begins_at_its_start(named):
    for n in range(10):
        named.publish("n", n)
    middle = time.time() + 0.05
    time.sleep(0.1)
    named.publish("n", 10)

    def values(start=None):
        with named.subscribe("n", start=start) as got:
            return [msg.value for msg in got.iter(timeout=0)]

    assert values() == []
    assert values(libbus.last(3)) == [8, 9, 10]
    assert values(libbus.last(0)) == []
    assert values(libbus.oldest()) == list(range(11))
    assert values(libbus.since(middle)) == [10]
    far = datetime.timezone(datetime.timedelta(hours=-11))
    assert values(libbus.since(datetime.datetime.fromtimestamp(middle, far))) == [10]
    for year in (1900, 1970):
        long_ago = datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc)
        assert values(libbus.since(long_ago)) == list(range(11))
    far_future = datetime.datetime(9999, 12, 31, tzinfo=datetime.timezone.utc)
    assert values(libbus.since(far_future)) == []
    with named.subscribe("n", start=libbus.oldest()) as all_of_them:
        seven = next(msg.position for msg in all_of_them if msg.value == 7)
    assert values(libbus.after(seven, named.epoch)) == [8, 9, 10]
    with pytest.raises(libbus.StateError, match="earlier life"):
        values(libbus.after(seven, named.epoch ^ 1))
    with pytest.raises(libbus.LimitError):
        values(libbus.last(10**6))


@pytest.mark.parametrize(
    ("begin", "kind", "text"),
    [
        (
            lambda: libbus.since(-1),
            ValueError,
            r"^since\(-1\): give a moment in seconds since 1970",
        ),
        (lambda: libbus.since(10), ValueError, r"^since\(10\): give a moment"),
        (lambda: libbus.since(0), ValueError, r"libbus.oldest\(\) begins"),
        (lambda: libbus.since(1.7e12), ValueError, r"^since\(1700000000000.0\): give a moment"),
        (lambda: libbus.since(float("nan")), ValueError, r"^since\(nan\): give a moment"),
        (lambda: libbus.since(float("inf")), ValueError, r"^since\(inf\): give a moment"),
        (
            lambda: libbus.since(datetime.datetime(2026, 1, 1)),
            ValueError,
            "give the datetime a time zone",
        ),
        (lambda: libbus.since("now"), TypeError, "not str"),
        (lambda: libbus.last(-1), ValueError, r"^last\(\): count=-1: give a number from 0"),
        (lambda: libbus.after(-1, 1), ValueError, r"^after\(\): position=-1: give a number from 0"),
        (lambda: libbus.after(1, -1), ValueError, r"^after\(\): epoch=-1: give a number from 0"),
        (lambda: libbus.after(2**64, 1), ValueError, "position=18446744073709551616: give a"),
        (lambda: libbus.after(1), TypeError, "epoch"),
        (lambda: libbus.last(1.5), TypeError, r"^last\(\): count must be an int, not float"),
    ],
)
def test_an_implausible_start_is_refused(begin, kind, text):
    with pytest.raises(kind, match=text):
        begin()


@pytest.mark.parametrize("start", [10, "oldest", (1, 2, 3), ("last", "3", 0), libbus.oldest])
def test_a_bad_start_is_refused_with_the_valid_ones(named, start):
    for subscribe in (named.subscribe, functools.partial(named.subscribe, callback=print)):
        with pytest.raises(TypeError, match=r"^start=.*: libbus\.last\(count\), libbus\.since"):
            subscribe("n", start=start)


def test_a_start_is_a_frozen_value_that_shows_how_it_was_made():
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    assert repr(libbus.last(10)) == "libbus.last(10)"
    assert repr(libbus.after(7, 5)) == "libbus.after(7, 5)"
    assert repr(libbus.oldest()) == "libbus.oldest()"
    assert repr(libbus.since(moment)) == "libbus.since(1767225600.0)"
    assert libbus.last(10) == libbus.last(10) != libbus.last(9)
    assert pickle.loads(pickle.dumps(libbus.last(10))) == libbus.last(10)
    with pytest.raises(AttributeError):
        libbus.last(10).value = 11


def test_questions_of_the_past_are_served_too(named):
    asked = []

    def ask():
        with contextlib.suppress(libbus.ClosedError):
            asked.append(named.request("ask", 2, timeout=WATCHDOG).value)

    # A subscriber listens, so the request waits for its reply.
    with named.subscribe("ask") as wanted:
        asker = threading.Thread(target=ask)
        asker.start()
        assert wanted.recv(timeout=WATCHDOG).question
        named.serve("ask", start=libbus.oldest())(lambda msg: msg.value + 1)
        asker.join(WATCHDOG)
    assert asked == [3]


def test_the_epoch_can_be_noted_after_the_end(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus:
        epoch = bus.epoch
    assert bus.epoch == epoch != 0


def test_callbacks_begin_at_their_start_and_continue(named):
    for n in range(10):
        named.publish("n", n)
        named.publish("m", -n)
    seven = next(
        msg.position for msg in named.subscribe("n", start=libbus.oldest()) if msg.value == 7
    )
    live, behind, both, all_of_them = [], [], [], []
    named.on("n", lambda msg: live.append(msg.value))

    @named.on("n", start=libbus.after(seven, named.epoch))
    def heard(msg):
        behind.append(msg.value)

    named.on("m", "n", lambda msg: both.append(msg.value), start=libbus.last(3))
    named.subscribe("n", callback=lambda msg: all_of_them.append(msg.value), start=libbus.oldest())
    named.flush(timeout=WATCHDOG)
    named.publish("n", 10)
    named.flush(timeout=WATCHDOG)
    assert live == [10]
    assert behind == [8, 9, 10]
    assert both == [-8, 9, -9, 10]
    assert all_of_them == list(range(11))


def test_a_closed_callback_that_began_in_the_past_leaves_nothing(named):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    named.publish("n", 1)
    named.on("n", print)
    with pytest.raises(libbus.FilterError):
        named.subscribe("n", "#/n", callback=print, start=libbus.last(1))
    before, seen = descriptors(), []
    for _ in range(5):
        with named.subscribe("n", callback=seen.append, start=libbus.last(1)) as handle:
            named.flush(timeout=WATCHDOG)
            assert handle.stats()["delivered"] == 1
        handle.close()
    del handle
    named.publish("n", 2)
    named.flush(timeout=WATCHDOG)
    assert [msg.value for msg in seen] == [1] * 5
    assert descriptors() == before


def test_a_bus_ends_with_its_only_callback_which_had_a_start(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus:
        bus.subscribe("n", callback=print, start=libbus.oldest()).close()


def test_callbacks_get_kept_values_and_flush_waits_for_them(named):
    named.publish("v", "kept", retain=True)
    got = []
    named.on("v", lambda msg: got.append((msg.value, msg.kept)))
    for n in range(500):
        named.publish("v", n)
    named.flush(timeout=WATCHDOG)
    assert got == [("kept", True), *((n, False) for n in range(500))]


def test_async_for_reads_it(named, tmp_path, python):
    import asyncio

    async def read():
        found = []
        with named.subscribe("n") as got:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                f"import libbus\nwith libbus.Bus('test', directory={str(tmp_path)!r}) as bus:\n"
                "    for n in range(300): bus.publish('n', n)",
            )
            async for msg in got:
                found.append(msg.value)
                if len(found) == 300:
                    break
            await child.wait()
        return found

    assert asyncio.run(asyncio.wait_for(read(), WATCHDOG)) == list(range(300))


def test_a_question_is_answered_by_another_process(named, tmp_path):
    program = (
        f"import libbus\nbus = libbus.Bus('test', directory={str(tmp_path)!r})\n"
        "@bus.serve('add')\ndef add(msg): return sum(msg.value)\n"
        "bus.publish('ready', 1, retain=True)\nbus.subscribe('end').recv()\nbus.close()"
    )
    with named.subscribe("ready") as ready, started(sys.executable, "-c", program) as server:
        ready.recv(timeout=WATCHDOG)
        assert named.request("add", [1, 2, 3], timeout=WATCHDOG).value == 6
        with pytest.raises(libbus.BusTimeoutError):
            named.request("nobody", 1, timeout=0.05)
        named.publish("end", 1)
        assert server.wait(WATCHDOG) == 0


def test_unsupported_options_raise(named):
    for full in ("refuse", "drop_newest"):
        with pytest.raises(libbus.NotSupportedError, match=f"^full='{full}': not on a named bus"):
            named.subscribe("t", full=full)
        with pytest.raises(libbus.NotSupportedError, match=f"^full='{full}': not on a named bus"):
            named.on("t", print, full=full)
    with pytest.raises(libbus.NotSupportedError, match=r"^t: keep\(\) is for a private bus"):
        named.keep("t", last=5)


@pytest.mark.parametrize("bad", ["Home", "no/name", "", "x" * 65, "höme", "a b", "home\n"])
def test_a_bad_name_is_refused_with_the_allowed_characters(bad):
    with pytest.raises(libbus.ArgumentError, match=r"has 1 to 64 of a-z 0-9 \. _ -$") as caught:
        libbus.Bus(bad)
    assert caught.value.name == "BUS_E_INVAL"
    if bad.isprintable():
        assert str(caught.value).startswith(bad[:64])


def test_a_size_out_of_its_range_is_named(tmp_path):
    with pytest.raises(libbus.ArgumentError, match=r"^test: log_bytes: give 4 MiB to 16 GiB"):
        libbus.Bus("test", directory=tmp_path, log_bytes=1)
    with pytest.raises(libbus.ArgumentError, match=r"^max_payload: give at most 256 MiB"):
        libbus.Bus(max_payload=(256 << 20) + 1)
    with pytest.raises(libbus.ArgumentError, match=r"^test: directory: the path is too long"):
        libbus.Bus("test", directory="/" + "x" * 5000, log_bytes=4 << 20)


def test_directory_log_bytes_and_will_need_a_name(tmp_path):
    for options in ({"directory": tmp_path}, {"log_bytes": 4 << 20}, {"will": libbus.Will("t", 1)}):
        with pytest.raises(TypeError, match=r"^directory, log_bytes and will are for a named bus"):
            libbus.Bus(**options)


def test_an_interpreter_that_ends_without_close_leaves_nothing(tmp_path, python):
    python(
        f"import libbus\nbus = libbus.Bus('test', directory={str(tmp_path)!r})\ngot = bus.subscribe('#')\nbus.publish('t', 1)"
    )
    assert list(tmp_path.iterdir()) == []


def test_sub_prints_the_past_with_positions(named, tmp_path):
    for n in range(5):
        named.publish("n", n)
    sub = [LIBBUS, "sub", "test", "n", "--dir", tmp_path, "--json", "--count"]
    done = run(*sub, "2", "--last", "2")
    assert [json.loads(line)["value"] for line in done.stdout.splitlines()] == [3, 4]
    done = run(*sub, "5", "--oldest")
    positions = [json.loads(line)["position"] for line in done.stdout.splitlines()]
    assert positions == list(range(positions[0], positions[0] + 5))
    done = run(*sub, "1", "--after", str(positions[2]))
    assert json.loads(done.stdout)["value"] == 3
    for ago in ("60", "60s", "5m", "2h", "1.5d"):
        assert len(run(*sub, "5", "--since", ago).stdout.splitlines()) == 5
    assert len(run(*sub, "5", "--last", "10000").stdout.splitlines()) == 5


def test_the_shell_shows_the_log_and_the_busiest_topics(named, tmp_path):
    for n in range(15):
        named.publish("many", n)
    named.publish("one", "x")
    done = run(LIBBUS, "log", "tail", "test", "--dir", tmp_path, "--count", "10")
    lines = done.stdout.decode().splitlines()
    assert re.fullmatch(r" +\d+ \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} many 6", lines[0])
    assert lines[-1].endswith(" one x")
    done = run(LIBBUS, "log", "tail", "test", "--dir", tmp_path, "--oldest", "--count", "16")
    assert len(done.stdout.splitlines()) == 16
    done = run(LIBBUS, "log", "stat", "test", "--dir", tmp_path)
    assert re.search(rf"  member \d+: pid {os.getpid()}, py\S+\n", done.stdout.decode())
    assert re.search(r"  member \d+: pid \d+, libbus, this one\n", done.stdout.decode())
    assert re.search(r"messages: (\d+) so far; \1 are still in the log", done.stdout.decode())
    assert run(LIBBUS, "log", "stat", "a/b").returncode == 2
    assert run(LIBBUS, "log").returncode == 2
    command = (LIBBUS, "top", "test", "--dir", tmp_path, "--interval", "0.2")
    with started(*command) as top:
        table = ""
        while "busy" not in table:
            named.publish("busy", 1)
            table += top.stdout.readline()
        assert re.search(r"\d+\.\d +\d+ +\d+ +1  busy$", table, re.MULTILINE)
        assert re.search(r"^\d+ topics, \d+\.\d messages/s, ", table, re.MULTILINE)


def test_log_stats_gives_programs_the_numbers_of_the_log(named, by_shell, tmp_path):
    named.publish("n", "x" * 100_000, retain=True)
    by_shell("pub", "test", "n", "1")
    stat = json.loads(by_shell("log", "stat", "test", "--json"))
    me, command = stat.pop("processes")
    assert (me["pid"], me["this"], command["this"]) == (os.getpid(), False, True)
    assert (me["program"][:2], command["program"]) == ("py", "libbus")
    assert not me["dead"] and not command["dead"]
    assert (stat["bus"], stat["log"]) == ("test", str(tmp_path / "test.bus"))
    assert stat["epoch"] == str(named.epoch)
    assert stat["log_bytes"] == (tmp_path / "test.bus").stat().st_size
    assert 100_000 <= stat["values_bytes"] < stat["values_most"] < stat["log_bytes"]
    assert stat["messages_left"] == stat["messages"] > stat["oldest"] == 1
    assert (stat["readers_most"], stat["processes_most"]) == (1022, 1022)


def test_small_fills_of_a_log_are_shown_in_bytes(named, by_shell):
    some = r"[1-9]\d{1,3} bytes of at most \d{3,} KiB"
    named.publish("n", "x", retain=True)
    text = by_shell("log", "stat", "test")
    assert re.search(
        rf"^kept values: {some}\nnumber of kept values: 1 of at most \d{{4,}}$", text, re.MULTILINE
    )
    assert re.search(rf"values: 1 of at most \d{{4,}}; {some}\n", named.describe())
    log = json.loads(by_shell("log", "stat", "test", "--json"))
    assert 0 < log["values_bytes"] < 10_000 and log["values_count"] == 1
    named.publish("n", "x" * 100_000, retain=True)
    assert re.search(r"^kept values: 9\d KiB of ", by_shell("log", "stat", "test"), re.MULTILINE)


def test_the_path_of_a_log_is_whole_however_its_directory_is_named(named, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for way in (tmp_path, link, os.path.relpath(tmp_path), f"{link}/./"):
        done = run(LIBBUS, "log", "stat", "test", "--json", "--dir", way)
        assert json.loads(done.stdout)["log"] == str(tmp_path.resolve() / "test.bus")


def test_log_tail_prints_the_given_topics(named, tmp_path):
    for n in range(12):
        named.publish("a/n", n)
        named.publish("b/n", n)

    def tail(*args, count):
        done = run(LIBBUS, "log", "tail", "test", *args, "--dir", tmp_path, "--count", str(count))
        assert (done.returncode, done.stderr) == (0, b"")
        return [line.split()[-2:] for line in done.stdout.decode().splitlines()]

    assert tail("a/#", count=10) == [["a/n", str(n)] for n in range(2, 12)]
    assert tail("a/+", "b/n", "--last", "2", count=2) == [["a/n", "11"], ["b/n", "11"]]
    assert tail(count=10) == [[topic, str(n)] for n in range(7, 12) for topic in ("a/n", "b/n")]


@pytest.mark.parametrize("look", ["tail", "stat"])
def test_reading_the_log_does_not_create_a_bus(named, tmp_path, python, look):
    python(
        "import libbus, os\n"
        f"bus = libbus.Bus('dead', directory={str(tmp_path)!r}, log_bytes=4 << 20)\nos._exit(0)"
    )
    before = sorted(tmp_path.iterdir())
    assert tmp_path / "dead.bus" in before
    for wrong in ("tset", "dead"):
        done = run(LIBBUS, "log", look, wrong, "--dir", tmp_path)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode() == (
            f"libbus: no such bus: {wrong} in {tmp_path}\nlibbus: the buses there are:\n  test\n"
        )
    assert sorted(tmp_path.iterdir()) == before
    done = run(LIBBUS, "log", look, "test", "--dir", tmp_path / "none")
    assert done.returncode == 1
    assert (
        f"no such bus: test in {tmp_path}/none\nlibbus: no bus is there: start its program first\n"
        in done.stderr.decode()
    )
    assert not (tmp_path / "none").exists()


def test_without_dir_the_default_directory_is_searched(name):
    with libbus.Bus(name):
        done = run(LIBBUS, "log", "stat", name)
        assert done.returncode == 0
        assert done.stdout.decode().startswith(f"log /dev/shm/libbus-{os.geteuid()}/{name}.bus, ")
    done = run(LIBBUS, "log", "stat", name)
    assert f"no such bus: {name} in /dev/shm/libbus-{os.geteuid()}\n" in done.stderr.decode()
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["sub", "top"])
def test_a_command_alone_on_a_bus_prints_a_notice(named, tmp_path, command):
    alone = 'libbus: no other process is on "tset" yet; waiting\n'
    for name, said in (("tset", alone), ("test", "")):
        with started(LIBBUS, command, name, "#", "--dir", tmp_path) as process:
            if said:
                assert process.stderr.readline() == said
            with libbus.Bus(name, directory=tmp_path) as bus:
                bus.publish("n", 1, retain=True)
                assert any(" n" in f" {line}" for line in process.stdout)
            process.send_signal(signal.SIGTERM)
            assert (process.wait(WATCHDOG), process.stderr.read()) == (0, "")


def test_pub_reports_a_value_that_ends_with_the_bus(tmp_path):
    done = run(LIBBUS, "pub", "test", "room/door", "open", "--retain", "--dir", tmp_path)
    assert done.returncode == 0
    assert done.stderr.decode() == (
        'libbus: no other process is on "test", so nothing was delivered or kept: '
        "start a subscriber first: libbus sub test room/door\n"
    )
    done = run(LIBBUS, "pub", "test", "n", "--lines", "--dir", tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


def test_pub_is_silent_if_another_process_could_take_the_value(named, tmp_path):
    pub = (LIBBUS, "pub", "test", "n", "--lines", "--dir", tmp_path)
    with started(*pub) as publisher:
        with named.subscribe("n") as numbers:
            publisher.stdin.write("1\n")
            publisher.stdin.flush()
            assert numbers.recv(timeout=WATCHDOG).value == 1
        named.close()  # it reaches its --count and leaves first
        out, err = publisher.communicate("", timeout=WATCHDOG)
    assert (publisher.returncode, out, err) == (0, "", "")


def test_sub_resumes_after_a_line_only_in_the_same_life_of_the_bus(named, by_shell, tmp_path):
    named.publish("n", 1)
    named.publish("n", 2)
    line = json.loads(by_shell("log", "tail", "test", "--json", "--last", "2", "--count", "1"))
    assert line["epoch"] == str(named.epoch)
    behind = ("--after", str(line["position"]), "--epoch", line["epoch"])
    assert by_shell("sub", "test", "n", *behind, "--count", "1") == "n 2\n"
    named.close()
    with libbus.Bus("test", directory=tmp_path) as another:
        another.publish("n", 3)
        done = run(LIBBUS, "sub", "test", "n", *behind, "--dir", tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"libbus: test: that position is from an earlier life of the bus")


def test_a_kept_value_has_its_time_and_no_position(named, by_shell):
    named.publish("n", 1, retain=True)
    published = time.time()
    line = by_shell("sub", "test", "n", "--json", "--count", "1")
    message = json.loads(line)
    assert message.pop("time") == pytest.approx(published, abs=60)
    epoch = str(named.epoch)
    assert message == {"topic": "n", "value": 1, "kept": True, "lost": 0, "epoch": epoch}
    line = by_shell("sub", "test", "n", "--positions", "--count", "1")
    assert re.fullmatch(r" +- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} n 1\n", line)


def test_member_topics_list_the_processes(named, tmp_path, python):
    with named.subscribe("$bus/members/+") as members:
        (me,) = (msg.value for msg in members.iter(timeout=0))
        assert me["pid"] == os.getpid()
        python(f"import libbus\nwith libbus.Bus('test', directory={str(tmp_path)!r}): pass")
        came = members.recv(timeout=WATCHDOG)
        assert came.value["program"].startswith("python")
        gone = members.recv(timeout=WATCHDOG)
        assert (gone.topic, gone.data) == (came.topic, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [("sub", "test", "#"), ("top", "test")])
def test_a_signal_ends_a_watching_command_which_leaves_the_bus(named, tmp_path, command, number):
    with (
        named.subscribe("$bus/members/+") as members,
        started(LIBBUS, *command, "--dir", tmp_path) as process,
    ):
        came = [members.recv(timeout=WATCHDOG) for _ in range(2)][-1]
        process.send_signal(number)
        assert (process.wait(WATCHDOG), process.stderr.read()) == (0, "")
        gone = next(msg for msg in members.iter(timeout=0) if not msg.data)
    assert gone.topic == came.topic


def test_a_command_under_nohup_outlives_its_terminal(named, tmp_path):
    command = ("env", "--ignore-signal=HUP", LIBBUS, "sub", "test", "n", "--dir", tmp_path)
    with started(*command) as sub, named.subscribe("$bus/members/+") as members:
        while members.recv(timeout=WATCHDOG).value["program"] != "libbus":
            pass
        sub.send_signal(signal.SIGHUP)
        named.publish("n", 1, retain=True)
        assert sub.stdout.readline() == "n 1\n"


def test_it_describes_itself(named, tmp_path):
    named.publish("n", 1)
    text = named.describe()
    assert str(tmp_path) in text
    assert f"pid {os.getpid()}" in text
    with libbus.Bus("test", directory=os.fsencode(tmp_path) + b"/\xff") as odd:
        assert "\N{REPLACEMENT CHARACTER}" in odd.describe()
    with (
        libbus.Bus() as private,
        pytest.raises(libbus.NotSupportedError, match=r"^describe\(\) is for"),
    ):
        private.describe()
    named.close()
    with pytest.raises(libbus.ClosedError):
        named.describe()


def test_the_log_counts_the_published_messages(named, tmp_path):
    before = named.log_stats()
    with named.subscribe("n") as numbers:
        for n in range(10):
            named.publish("n", n, retain=True)
        stats = named.log_stats()
        *_, last = numbers.iter(timeout=0)
    assert stats["log_bytes"] == (tmp_path / "test.bus").stat().st_size
    assert stats["segments"] > 1
    assert stats["messages"] == stats["messages_left"] == before["messages"] + 10 == last.position
    assert stats["oldest"] == 1
    assert before["values_bytes"] < stats["values_bytes"] < stats["values_most"]
    assert before["values_count"] + 1 == stats["values_count"] < stats["values_count_most"]
    assert stats["readers"] == before["readers"] + 1 < stats["readers_most"]
    assert (stats["processes"], stats["processes_most"]) == (1, 1022)
    (me,) = stats["members"]
    assert me == {"number": me["number"], "pid": os.getpid(), "this": True, "alive": True}


def test_its_numbers_name_each_process_until_it_has_left_or_was_found_dead(
    named, tmp_path, eventually
):
    def others():
        return [member for member in named.log_stats()["members"] if not member["this"]]

    with (
        named.subscribe("$bus/members/+") as members,
        started(LIBBUS, "sub", "test", "n", "--dir", tmp_path) as sub,
    ):
        came = next(m for m in members.iter(timeout=WATCHDOG) if m.value["pid"] == sub.pid)
        number = int(came.topic.rpartition("/")[2])
        alive = {"number": number, "pid": sub.pid, "this": False, "alive": True}
        assert others() == [alive]
        sub.kill()
        sub.wait()
        assert others() in ([], [alive | {"alive": False}])
        while members.recv(timeout=WATCHDOG).topic != came.topic:
            pass
        eventually(lambda: others() == [])


def test_a_private_bus_has_no_log_stats(bus, named):
    with pytest.raises(libbus.NotSupportedError, match=r"^log_stats\(\) is for a named bus"):
        bus.log_stats()
    named.close()
    with pytest.raises(libbus.ClosedError):
        named.log_stats()


# --- room ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system in memory of that size; CI runs as root."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_without_room_for_the_log_it_reports_and_starts_later(tmp_path):
    with small_disk(tmp_path, "6m") as folder:
        (folder / "other").write_bytes(bytes(3 << 20))
        with pytest.raises(
            libbus.TransportError, match=r"^home: no room for the bus's log: free some"
        ):
            libbus.Bus("home", directory=folder)
        assert [file.name for file in folder.iterdir() if file.suffix != ".lock"] == ["other"]
        done = run(LIBBUS, "pub", "home", "t", "1", "--dir", folder)
        assert done.returncode == 1
        assert b"libbus: home: no room for the bus's log" in done.stderr
        (folder / "other").unlink()
        with libbus.Bus("home", directory=folder) as bus, bus.subscribe("t") as got:
            # The log's space is reserved: filling the rest of the disk takes nothing away.
            with contextlib.suppress(OSError), open(folder / "filler", "wb") as filler:
                while True:
                    filler.write(bytes(1 << 16))
                    filler.flush()
            for _ in range(200):
                bus.publish_raw("t", bytes(100_000))
                assert len(got.recv(timeout=WATCHDOG).data) == 100_000


# --- four kinds -----------------------------------------------------------------------------------------


def compiled(text, folder):
    (folder / "sensor.c").write_text(text)
    command = [
        "cc",
        "sensor.c",
        f"-I{REPO}/include",
        f"-I{BUILD}/include",
        f"-L{BUILD}/libbus",
        "-lbus",
    ]
    subprocess.run([*command, "-o", "sensor"], cwd=folder, check=True)
    return folder / "sensor"


def published(answers, wanted):
    """Reads messages until all have arrived, in any order."""
    found = {}
    for message in answers:
        found[message["topic"]] = message["value"]
        if found.items() >= wanted.items():
            return found
    raise AssertionError(f"only {found}")


@pytest.mark.xdist_group("home")  # with the other blocks of the documentation on that bus
def test_four_processes_of_four_kinds_are_on_one_bus(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(BUILD / "libbus"))
    (tmp_path / "app.py").write_text(block("python", 1))
    sensor = compiled(block("c"), tmp_path)
    script = block("python", 0)
    command = re.search(r"^libbus sub home 'room/#'", block("sh"), re.MULTILINE)
    assert command is not None
    wanted = {"room/temperature": 21.5, "room/humidity": 40, "room/lamp": "on"}
    with (
        Server(tmp_path, "--worker-class", "gthread", "--threads", "4") as server,
        started(LIBBUS, "sub", "home", "room/#", "--json") as shell,
        server.page("/bus/events?filter=room/%23") as page,
        libbus.Bus("home") as bus,
    ):
        # The shell has joined once it printed a message.
        deadline = time.monotonic() + WATCHDOG
        os.set_blocking(shell.stdout.fileno(), False)
        while not shell.stdout.readline():
            assert time.monotonic() < deadline
            bus.publish("room/ready", 1)
            time.sleep(0.02)
        os.set_blocking(shell.stdout.fileno(), True)
        subprocess.run([sensor], check=True, timeout=WATCHDOG)
        subprocess.run([sys.executable, "-c", script], check=True, timeout=WATCHDOG)
        post(server, "/lamp/on")
        published((json.loads(line) for line in shell.stdout), wanted)
        published(messages(page), wanted)
        with bus.subscribe("room/#", start=libbus.oldest()) as past:
            assert {m.topic: m.value for m in past.iter(timeout=0)}.items() >= wanted.items()


def post(server, path):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WATCHDOG)
    connection.request("POST", path)
    assert connection.getresponse().status == 204
    connection.close()


# --- workers ---------------------------------------------------------------------------------------------

APP = """
import os
from flask import Flask
from libbus.flask import Bus

app = Flask(__name__)
bus = Bus(app, name=NAME, allow=["#"], heartbeat=1)

@app.after_request
def sign(answer):
    answer.headers["X-Worker"] = str(os.getpid())
    return answer

@app.get("/say/<text>")
def say(text):
    bus.publish("said", f"{os.getpid()} {text}")
    return str(os.getpid())
"""


def spoken(server, text):
    answer = server.get(f"/say/{text}")
    try:
        return int(answer.read())
    finally:
        answer.connection.close()


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_events_of_any_of_four_workers_reach_the_pages_of_all(tmp_path, name, preload):
    (tmp_path / "app.py").write_text(APP.replace("NAME", repr(name)))
    options = ("--workers", "4", "--worker-class", "gthread", "--threads", "8", *preload)
    with Server(tmp_path, *options) as server, contextlib.ExitStack() as pages:
        # Until every worker has a page; its first heartbeat shows that it listens.
        heard = {}
        deadline = time.monotonic() + WATCHDOG
        while len(heard) < 4:
            assert time.monotonic() < deadline, heard
            page = pages.enter_context(server.page("/bus/events?filter=said"))
            if page.status == 503:  # that worker is full: another one answers soon
                time.sleep(0.02)
                continue
            next(events(page))
            heard[int(page.headers["X-Worker"])] = messages(page)
        speakers = {}
        while len(speakers) < 4:
            assert time.monotonic() < deadline, speakers
            text = f"hello-{len(speakers)}-{time.monotonic_ns()}"
            speakers.setdefault(spoken(server, text), text)
        for page in heard.values():
            missing = {f"{pid} {text}" for pid, text in speakers.items()}
            while missing:
                missing.discard(next(page)["value"])

        # One worker is killed: pages of the others continue.
        victim = next(iter(speakers))
        os.kill(victim, signal.SIGKILL)
        speaker = victim
        while speaker == victim:
            with contextlib.suppress(ConnectionError, ValueError):
                speaker = spoken(server, "after")
        for pid, page in heard.items():
            while pid != victim and next(page)["value"] != f"{speaker} after":
                pass


@pytest.mark.parametrize("workers", [None, 1])
def test_flush_waits_for_the_kept_values_of_a_new_callback(tmp_path, workers):
    with libbus.Bus("test", directory=tmp_path) as bus:
        bus.publish("a", 1, retain=True)
        for _ in range(30):
            heard = []
            with bus.subscribe("#", callback=heard.append, workers=workers):
                bus.flush(WATCHDOG)
                assert [(msg.value, msg.kept) for msg in heard] == [(1, True)]
