"""tls:// against OpenSSL, an independent implementation; and the files of `libbus cert`."""

import contextlib
import os
import re
import stat
import subprocess

import pytest
from patience import WATCHDOG
from programs import LIBBUS, run, started

PREAMBLE = b"\xb5libbus"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The default directory, with a CA and a certificate for 127.0.0.1 and pi.local."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    done = run(LIBBUS, "cert", "127.0.0.1", "pi.local")
    assert done.returncode == 0, done.stderr
    return tmp_path / "libbus"


@contextlib.contextmanager
def listening(*options):
    """A `libbus sub` at a tls:// address. Gives its port."""
    with started(LIBBUS, "sub", "--listen", "tls://127.0.0.1:0", *options, "#") as sub:
        yield re.search(r"listening on tls://127.0.0.1:(\d+)", sub.stderr.readline()).group(1)


def client(port, files, *options, stdin=b""):
    """Returns the output of `openssl s_client`."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-brief"]
    command += ["-CAfile", files / "ca.pem", "-verify_return_error", *options]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=WATCHDOG, check=False)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def test_openssl_checks_our_certificate_and_agrees_on_a_suite(files):
    with listening() as port:
        status, said = client(port, files, "-verify_ip", "127.0.0.1")
        assert status == 0, said
        assert "Verification: OK" in said
        assert re.search(r"Ciphersuite: (ECDHE-ECDSA-|TLS_)CHACHA20", said), said
        status, said = client(port, files, "-verify_hostname", "pi.local", "-tls1_2")
        assert status == 0, said
        status, said = client(port, files, "-verify_hostname", "other.local")
        assert status != 0
        assert "mismatch" in said


@pytest.mark.parametrize(
    "options",
    [
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"),
        ("-tls1_2", "-cipher", "AES128-GCM-SHA256"),
        ("-tls1_2", "-cipher", "PSK"),
    ],
)
def test_old_and_weak_tls_is_refused(files, options):
    with listening() as port:
        status, said = client(port, files, *options)
        assert status != 0, said
        assert client(port, files)[0] == 0


def test_a_listener_with_a_ca_wants_a_certificate_of_it(files):
    done = run(LIBBUS, "cert", "client", "kitchen")
    assert done.returncode == 0, done.stderr
    ours = ("-cert", files / "kitchen.pem", "-key", files / "kitchen-key.pem")
    with listening("--ca", files / "ca.pem") as port:
        # Without one TLS 1.3 tells a client only behind its handshake.
        status, said = client(port, files, "-tls1_2")
        assert status != 0, said
        status, said = client(port, files, "-tls1_2", *ours)
        assert status == 0, said


def test_openssl_joins_by_a_key(files):
    done = run(LIBBUS, "cert", "psk", "pi")
    key = re.search(r"^pi:([0-9a-f]{64})$", done.stdout.decode(), re.MULTILINE).group(1)
    by_key = ("-tls1_2", "-psk_identity", "pi", "-cipher", "PSK")
    with listening("--psk", files / "psk") as port:
        status, said = client(port, files, *by_key, "-psk", key)
        assert status == 0, said
        assert "CHACHA20" in said
        assert client(port, files, *by_key, "-psk", "00" * 32)[0] != 0
        assert client(port, files)[0] != 0


@contextlib.contextmanager
def server(*options):
    """`openssl s_server`, whose stdout is what a client sent. Gives it and its port."""
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            for line in process.stdout:
                if found := re.search(rb"ACCEPT 127.0.0.1:(\d+)", line):
                    break
            yield process, found.group(1).decode()
        finally:
            process.kill()


def test_we_check_openssls_certificate_and_speak_behind_it(files):
    ours = ("-cert", files / "server.pem", "-key", files / "server-key.pem")
    with (
        server(*ours) as (process, port),
        started(LIBBUS, "sub", "--dial", f"tls://127.0.0.1:{port}", "#"),
    ):
        said = b""
        while PREAMBLE not in said:
            part = os.read(process.stdout.fileno(), 4096)
            assert part, said
            said += part


def test_openssl_gets_the_reason_of_a_refusal(files, tmp_path):
    other = tmp_path / "other"
    assert run(LIBBUS, "cert", "127.0.0.1", "--dir", other).returncode == 0
    theirs = ("-cert", other / "server.pem", "-key", other / "server-key.pem")
    with (
        server(*theirs) as (process, port),
        started(LIBBUS, "sub", "--dial", f"tls://127.0.0.1:{port}", "#"),
    ):
        said = process.stdout.read().decode(errors="replace")
        assert "unknown ca" in said
        assert PREAMBLE.decode(errors="replace") not in said


def test_the_files_are_for_their_user_alone_and_the_ca_is_made_once(files):
    assert {p.name for p in files.iterdir()} == {
        *("ca.pem", "ca-key.pem", "server.pem", "server-key.pem")
    }
    assert {stat.S_IMODE(p.stat().st_mode) for p in files.iterdir()} == {0o600}
    assert stat.S_IMODE(files.stat().st_mode) == 0o700
    ca, server_pem = (files / "ca.pem").read_bytes(), (files / "server.pem").read_bytes()
    assert run(LIBBUS, "cert").returncode == 0
    assert (files / "ca.pem").read_bytes() == ca
    assert (files / "server.pem").read_bytes() != server_pem


def test_this_machines_names_and_addresses_are_the_default(files):
    assert run(LIBBUS, "cert", "--days", "10").returncode == 0
    shown = run(LIBBUS, "cert", "show").stdout.decode()
    assert "localhost" in shown
    assert "127.0.0.1" in shown
    assert os.uname().nodename in shown
    text = subprocess.check_output(
        ["openssl", "verify", "-CAfile", files / "ca.pem", files / "server.pem"], text=True
    )
    assert text.strip().endswith("OK")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("a b",), 1, "a b"),
        (("client", "ca"), 1, "not a client name"),
        (("client", "../x"), 1, "not a client name"),
        (("client",), 2, "takes one name"),
        (("psk", "a:b"), 1, "not an identity"),
        (("show", "/nowhere"), 1, "no such file"),
        (("--days", "soon"), 2, "soon"),
    ],
)
def test_a_mistake_is_named(files, words, status, says):
    done = run(LIBBUS, "cert", *words)
    assert done.returncode == status, done.stderr
    assert says in done.stderr.decode()
