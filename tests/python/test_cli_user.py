"""`libbus user`: its file, its questions and its exit status."""

import os
import pty
import re
import select
import stat
import subprocess
import time

import pytest
from patience import WATCHDOG
from programs import LIBBUS, run

GOOD = re.compile(r"([a-z2-9]{5}-){3}[a-z2-9]{5}\n")


@pytest.fixture(name="file")
def users_file(tmp_path):
    return tmp_path / "users"


@pytest.fixture(name="user")
def command(file):
    """Runs `libbus user WORDS --file`; returns status, stdout and stderr."""

    def call(*words, stdin=""):
        done = run(LIBBUS, "user", *words, "--file", file, stdin=stdin.encode())
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return call


def test_a_user_is_added_checked_changed_and_removed(user, file):
    assert user("add", "pico", stdin="first\n")[0] == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert user("check", "pico", stdin="first\n")[0] == 0
    assert user("add", "pico", stdin="second\n")[0] == 0
    status, _, complaint = user("check", "pico", stdin="first\n")
    assert status == 1 and "pico: wrong password" in complaint
    assert user("check", "pico", stdin="second")[0] == 0
    assert user("remove", "pico")[0] == 0
    status, _, complaint = user("remove", "pico")
    assert status == 1 and "no user pico" in complaint
    status, _, complaint = user("check", "pico", stdin="second\n")
    assert status == 1 and "no such user" in complaint


def test_the_file_holds_no_password(user, file):
    user("add", "pico", stdin="correct horse battery\n")
    assert b"horse" not in file.read_bytes()


def test_a_password_is_made_and_printed_once(user, file):
    status, first, _ = user("add", "pico", "--generate")
    assert status == 0 and GOOD.fullmatch(first)
    assert first.strip() not in file.read_text()
    _, second, _ = user("add", "zero", "--generate")
    assert second != first
    assert user("check", "pico", stdin=first)[0] == 0
    assert user("check", "zero", stdin=first)[0] == 1


def test_a_password_comes_from_a_file(user, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("pass word\r\nmore\n")
    assert user("add", "pico", "--password-file", secret)[0] == 0
    assert user("check", "pico", "--password-file", "-", stdin="pass word\n")[0] == 0
    status, _, complaint = user("add", "pico", "--password-file", tmp_path / "none")
    assert status == 1 and "No such file" in complaint
    secret.write_text("\n")
    status, _, complaint = user("add", "pico", "--password-file", secret)
    assert status == 1 and "first line is empty" in complaint


def test_users_are_listed_with_their_flags(user, file):
    status, names, complaint = user("list")
    assert (status, names) == (0, "") and "no user yet" in complaint
    user("add", "zero", stdin="x")
    user("add", "pico", "--clear-text", stdin="x")
    file.write_text(file.read_text() + "mosq:$7$101$MDEyMzQ1Njc4OWFi$" + "A" * 86 + "==\n")
    status, names, _ = user("list")
    assert status == 0
    assert names.splitlines()[0].startswith("mosq\tweak")
    assert names.splitlines()[1:] == ["pico\tclear-text", "zero"]


def test_comments_and_lines_that_it_cannot_read_stay(user, file):
    before = "# ours\n\nold:$argon2id$v=19$x\nother:$6$y$z\n"
    file.touch(0o600)
    file.write_text(before)
    status, _, complaint = user("list")
    assert status == 2 and ":3:" in complaint and "libbus user add old" in complaint
    assert user("add", "pico", stdin="x")[0] == 0
    assert file.read_text().startswith(before)
    assert user("add", "old", stdin="x")[0] == 0
    assert user("remove", "other")[0] == 0
    assert user("list")[1] == "old\npico\n"
    assert file.read_text().startswith("# ours\n\nold:$scram-sha-512$")


def test_a_file_that_others_may_read_is_refused(user, file):
    user("add", "pico", stdin="x")
    file.chmod(0o640)
    for words in (["list"], ["add", "zero"], ["remove", "pico"], ["check", "pico"]):
        status, _, complaint = user(*words, stdin="x")
        assert status == 1 and "chmod 600" in complaint


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "command missing or unknown"),
        (["bogus"], "command missing or unknown"),
        (["add"], "the name of one user"),
        (["add", "a", "b"], "the name of one user"),
        (["list", "a"], "takes no name"),
        (["list", "--generate"], "does not take"),
        (["check", "a", "--clear-text"], "does not take"),
        (["add", "a", "--generate", "--password-file", "-"], "exclude each other"),
        (["add", "a", "--bogus"], "--help lists"),
        (["add", "a/b"], "the name of a user has"),
        (["add", ""], "the name of a user has"),
        (["add", "a" * 65], "the name of a user has"),
    ],
)
def test_a_wrong_command_line_is_an_error(user, file, words, complaint):
    status, printed, complained = user(*words, stdin="x\n")
    assert (status, printed) == (2, "")
    assert complaint in complained
    assert not file.exists()


def test_a_malformed_password_is_refused(user, file):
    for password in ("x" * 1025, "a\tb", "\x00\x01"):
        status, _, complaint = user("add", "pico", stdin=password + "\n")
        assert status == 2 and "a password has" in complaint
    assert user("add", "pico", stdin="\n")[0] == 1
    assert not file.exists()
    assert user("add", "pico", stdin="x" * 1024)[0] == 0


def test_the_default_file_is_made_with_its_directory(tmp_path):
    def list_of(**environment):
        done = subprocess.run(
            [LIBBUS, "user", "add", "pico", "--generate"],
            env={"PATH": os.defpath} | environment,
            capture_output=True,
            timeout=WATCHDOG,
            check=False,
        )
        return done.returncode, done.stderr.decode()

    assert list_of(HOME=str(tmp_path / "home"))[0] == 0
    assert (tmp_path / "home/.config/libbus/users").exists()
    assert stat.S_IMODE((tmp_path / "home/.config/libbus").stat().st_mode) == 0o700
    assert list_of(HOME="/", XDG_CONFIG_HOME=str(tmp_path / "xdg"))[0] == 0
    assert (tmp_path / "xdg/libbus/users").exists()
    status, complaint = list_of()
    assert status == 2 and "no home directory" in complaint


def test_help_has_examples_and_the_list_of_commands_names_it():
    done = run(LIBBUS, "user", "--help")
    assert done.returncode == 0 and b"Examples:" in done.stdout
    assert b"libbus user add NAME" in run(LIBBUS, "--help").stdout


class Terminal:
    """A command whose standard streams are a terminal."""

    def __init__(self, *words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(LIBBUS, [str(LIBBUS), *map(str, words)])
        self.shown = ""

    def read_until(self, words):
        """Returns the output so far once it has these words; None: all of it."""
        deadline = time.monotonic() + WATCHDOG
        while words is None or words not in self.shown:
            assert select.select([self.fd], [], [], deadline - time.monotonic())[0], self.shown
            try:
                self.shown += os.read(self.fd, 4096).decode()
            except OSError:  # the other end is closed
                assert words is None, self.shown
                break
        return self.shown

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        self.read_until(None)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return status


def test_the_terminal_is_asked_twice_and_shows_no_password(file, user):
    terminal = Terminal("user", "add", "pico", "--file", file)
    terminal.read_until("Password of pico: ")
    terminal.type("secret\n")
    terminal.read_until("Password of pico again: ")
    terminal.type("secret\n")
    assert terminal.end() == 0
    assert "secret" not in terminal.shown and "pico was added" in terminal.shown
    assert user("check", "pico", stdin="secret\n")[0] == 0


def test_two_passwords_that_differ_change_nothing(file):
    terminal = Terminal("user", "add", "pico", "--file", file)
    terminal.read_until("Password of pico: ")
    terminal.type("secret\n")
    terminal.read_until("Password of pico again: ")
    terminal.type("sekret\n")
    assert os.waitstatus_to_exitcode(terminal.end()) == 1
    assert "differ" in terminal.shown and not file.exists()


def test_an_interrupt_leaves_the_terminal_with_its_echo(file):
    terminal = Terminal("user", "add", "pico", "--file", file)
    terminal.read_until("Password of pico: ")
    before = subprocess.run(["stty", "-a"], stdin=terminal.fd, capture_output=True, check=True)
    assert b"-echo " in before.stdout
    terminal.type("\x03")
    terminal.read_until(None)
    after = subprocess.run(["stty", "-a"], stdin=terminal.fd, capture_output=True, check=True)
    assert b"-echo " not in after.stdout
    assert os.waitstatus_to_exitcode(terminal.end()) < 0
    assert not file.exists()
