"""SCRAM-SHA-512 of the library against a second implementation, written here from RFC 5802 with hashlib and hmac."""

import base64
import hashlib
import hmac
import os

import pytest
from programs import BUILD, LIBBUS, run, started

PEER = BUILD / "tests" / "scram_peer"


def mac(key, text):
    return hmac.digest(key, text.encode() if isinstance(text, str) else text, "sha512")


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def b64(data):
    return base64.b64encode(data).decode()


def salted(password, salt, iterations):
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)


def fields(message):
    return dict(part.split("=", 1) for part in message.split(","))


def escaped(name):
    return name.replace("=", "=3D").replace(",", "=2C")


def unescaped(name):
    return name.replace("=2C", ",").replace("=3D", "=")


class Line:
    """The other side of the login, one message a line."""

    def __init__(self, process):
        self.process = process

    def hear(self):
        return self.process.stdout.readline().rstrip("\n")

    def say(self, message):
        self.process.stdin.write(message + "\n")
        self.process.stdin.flush()


def log_in(line, name, password):
    """The client of RFC 5802. Returns the server's last message, or its refusal, and whether its signature is right."""
    nonce = b64(os.urandom(18))
    first = f"n={escaped(name)},r={nonce}"
    line.say("n,," + first)
    challenge = line.hear()
    said = fields(challenge)
    assert said["r"].startswith(nonce) and len(said["r"]) > len(nonce)
    key = salted(password, base64.b64decode(said["s"]), int(said["i"]))
    client_key, server_key = mac(key, "Client Key"), mac(key, "Server Key")
    final = f"c=biws,r={said['r']}"
    auth = f"{first},{challenge},{final}"
    proof = xor(client_key, mac(hashlib.sha512(client_key).digest(), auth))
    line.say(f"{final},p={b64(proof)}")
    answer = line.hear()
    return answer, answer == "v=" + b64(mac(server_key, auth))


def let_in(line, password, *, salt=b"a salt", iterations=4096, lie=False):
    """The server of RFC 5802. Returns the name, and whether the proof is right."""
    first = line.hear()
    assert first.startswith("n,,")
    said = fields(first[3:])
    nonce = said["r"] + b64(os.urandom(18))
    challenge = f"r={nonce},s={b64(salt)},i={iterations}"
    line.say(challenge)
    final = line.hear()
    if "p=" not in final:
        return final, False
    key = salted(password, salt, iterations)
    client_key, server_key = mac(key, "Client Key"), mac(key, "Server Key")
    stored_key = hashlib.sha512(client_key).digest()
    without_proof, proof = final.rsplit(",p=", 1)
    assert without_proof == f"c=biws,r={nonce}"
    auth = f"{first[3:]},{challenge},{without_proof}"
    shown = xor(base64.b64decode(proof), mac(stored_key, auth))
    right = hashlib.sha512(shown).digest() == stored_key
    line.say("v=" + b64(mac(b"?" if lie else server_key, auth)))
    return unescaped(said["n"]), right


NAMES = ["pico", "a,b", "a=b", "=2C=3D,", "Zoë", "two words"]


@pytest.fixture(name="users")
def users_file(tmp_path):
    """A file of one user, as `libbus user add` writes it: of another name in each test."""

    def write(name, password):
        path = tmp_path / "users"
        done = run(LIBBUS, "user", "add", name, "--file", path, stdin=password.encode() + b"\n")
        assert done.returncode == 0, done.stderr
        return str(path)

    return write


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_client_logs_in_and_trusts_the_listener(users, name):
    with started(PEER, "server", users(name, "pässword, =x")) as server:
        assert log_in(Line(server), name, "pässword, =x")[1]
        assert server.stdout.readline() == "accepted\n"


def test_a_foreign_client_with_a_wrong_password_is_refused(users):
    with started(PEER, "server", users("pico", "pencil")) as server:
        answer, right = log_in(Line(server), "pico", "pencils")
        assert (answer, right) == ("refused: wrong password", False)


def test_a_foreign_client_with_an_unknown_user_is_refused(users):
    with started(PEER, "server", users("pico", "pencil")) as server:
        answer, right = log_in(Line(server), "nano", "pencil")
        assert answer.startswith("refused: no such user") and not right


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_listener_admits_the_dialler(name):
    with started(PEER, "client", name, "pässword, =x") as client:
        assert let_in(Line(client), "pässword, =x") == (name, True)
        assert client.stdout.readline() == "accepted\n"


def test_a_foreign_listener_sees_a_wrong_password():
    with started(PEER, "client", "pico", "pencils") as client:
        assert let_in(Line(client), "pencil") == ("pico", False)
        assert "does not know the password" in client.stdout.readline()


def test_a_listener_that_does_not_know_the_password_is_refused():
    with started(PEER, "client", "pico", "pencil") as client:
        assert let_in(Line(client), "pencil", lie=True) == ("pico", True)
        assert "does not know the password" in client.stdout.readline()


@pytest.mark.parametrize("iterations", [1, 4095, 1_000_001])
def test_a_listener_may_not_choose_any_number_of_iterations(iterations):
    with started(PEER, "client", "pico", "pencil") as client:
        answer, right = let_in(Line(client), "pencil", iterations=iterations)
        assert answer.startswith("refused: the listener asks for") and not right


def test_a_line_of_mosquitto_lets_its_user_in_if_it_has_enough_iterations(tmp_path):
    salt = os.urandom(12)
    path = tmp_path / "users"
    path.touch(0o600)
    path.write_text(f"pico:$7$4096${b64(salt)}${b64(salted('pencil', salt, 4096))}\n")
    with started(PEER, "server", path) as server:
        assert log_in(Line(server), "pico", "pencil")[1]


def test_the_stored_keys_are_those_of_rfc_5802(users):
    name, password = "pico", "pencil"
    with open(users(name, password), encoding="utf-8") as file:
        (line,) = file
    read_name, _, kind, iterations, salt, stored_key, server_key = (
        line.strip().replace("$", ":").split(":")
    )
    key = salted(password, base64.b64decode(salt), int(iterations))
    assert (read_name, kind) == (name, "scram-sha-512")
    assert base64.b64decode(stored_key) == hashlib.sha512(mac(key, "Client Key")).digest()
    assert base64.b64decode(server_key) == mac(key, "Server Key")
