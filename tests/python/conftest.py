"""The package under test is the installed one: the folder libbus/ at the root would shadow it."""

import gc
import pathlib
import subprocess
import sys
import threading
import time

import pytest
from patience import WATCHDOG
from wire_world import served  # noqa: F401 (a fixture)

import libbus

REPO = pathlib.Path(__file__).resolve().parents[2]

assert libbus.__file__ is not None, "install libbus first: this is the folder of its C sources"
assert not pathlib.Path(libbus.__file__).resolve().is_relative_to(REPO / "bindings")


@pytest.fixture
def bus():
    with libbus.Bus() as bus:
        yield bus


@pytest.fixture
def eventually():
    """Waits until a condition is true, and returns its value."""

    def wait(condition):
        deadline = time.monotonic() + WATCHDOG
        while not (answer := condition()):
            assert time.monotonic() < deadline, "never became true"
            time.sleep(0.001)
        return answer

    return wait


@pytest.fixture
def python():
    """Runs a program in a new interpreter, and returns its output."""

    def run(program, status=0):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-W", "error", "-c", program],
            capture_output=True,
            text=True,
            timeout=WATCHDOG,
            check=False,
        )
        assert (done.returncode, done.stderr) == (status, "")
        return done.stdout

    return run


@pytest.fixture(autouse=True)
def no_thread_stays(request):
    """Checks that no thread is left: closing or dropping a bus ends its threads."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + WATCHDOG
    while left := set(threading.enumerate()) - before:
        gc.collect()
        assert time.monotonic() < deadline, left
        time.sleep(0.001)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A folder with cert.pem and key.pem of localhost."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    subprocess.run(
        [*command.split(), "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder
