"""This machine's sensors on a live page; ./dev demo runs it with everything in place.

host_sensors publishes, two workers of gunicorn serve examples/python/live_dashboard. A process that dies is started again.
"""

import argparse
import contextlib
import errno
import hashlib
import http.cookiejar
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import browser

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "examples/python/live_dashboard"
BUILD = Path(os.environ.get("LIBBUS_BUILD", ROOT / "build"))
WORKERS = 2  # on one bus with the sensors: each worker shows the same values
THREADS = 4  # threads of each worker, for requests: open pages hold none
FIRST_READING_S = int(os.environ.get("DEMO_PATIENCE_S", "60"))  # of a slow machine; tests set it


class Failure(Exception):
    """An error for the user, shown without a traceback."""


class Child:
    """A process that is started again when it dies."""

    QUICK_S, QUICK_DEATHS = 3, 5
    # With util-linux's setpriv a SIGKILL of this script ends its children too; without it they stay.
    LEASH = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()

    def __init__(self, name, command, **options):
        self.name, self.command, self.options = name, command, options
        self.quick = 0
        self.start()

    def start(self):
        self.began = time.monotonic()
        # A new session: Ctrl-C ends this script, which ends its children in order.
        command = [*self.LEASH, *self.command]
        self.process = subprocess.Popen(command, start_new_session=True, **self.options)

    def look(self):
        status = self.process.poll()
        if status is None:
            return
        self.quick = self.quick + 1 if time.monotonic() - self.began < self.QUICK_S else 0
        if self.quick == self.QUICK_DEATHS:
            raise Failure(f"{self.name} does not stay up (status {status}): see its output above")
        print(f"{self.name} ended (status {status}): starting it again", flush=True)
        time.sleep(0.3)
        self.start()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Demo:
    def __init__(self, options):
        self.sensors = find_sensors(options.sensors)
        self.listener = listen(options.host, options.port)
        self.host, self.port = self.listener.getsockname()[:2]
        self.local = self.host.startswith("127.")
        self.directory = Path(
            tempfile.mkdtemp(prefix="libbus-demo-")
        )  # mode 0700, which protects the socket too
        self.children = []
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # ignores http_proxy: the page is on this machine
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )

    def start(self):
        name = f"libbus-demo-{self.port}"
        environ = {
            **os.environ,
            "DASHBOARD_BUS": name,
            "DASHBOARD_SECRET_KEY": secrets.token_hex(),  # kept over a restart: cookies stay valid
        }
        if not self.local:
            (self.directory / "tokens").mkdir()
            environ["DASHBOARD_TOKENS"] = str(self.directory / "tokens")

        self.children.append(
            Child("host_sensors", [self.sensors, "--bus", name], stdout=subprocess.DEVNULL)
        )
        gunicorn = [sys.executable, "-m", "gunicorn", "app:create_app()", "--chdir", DASHBOARD]
        gunicorn += [
            "--workers",
            str(WORKERS),
            "--worker-class",
            "gthread",
            "--threads",
            str(THREADS),
            "--graceful-timeout",
            "2",
            "--log-level",
            "warning",
        ]
        # The socket is ours: no other program can take the port while gunicorn is being started again.
        descriptor = self.listener.fileno()
        gunicorn += ["--bind", f"fd://{descriptor}"]
        self.children.append(Child("gunicorn", gunicorn, env=environ, pass_fds=[descriptor]))

    def stop(self):
        for child in reversed(self.children):
            child.stop()
        self.listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def watch(self):
        for child in self.children:
            child.look()
        time.sleep(0.1)

    def link(self, host):
        """Returns the address to open; beyond this machine it has a token that works once."""
        address = f"http://{host}:{self.port}/"
        if self.local:
            return address
        token = secrets.token_urlsafe(24)
        (self.directory / "tokens" / hashlib.sha256(token.encode()).hexdigest()).touch()
        return f"{address}?token={token}"

    def first_reading(self):
        """Waits for a live reading, received as a browser does."""
        found = []
        reader = threading.Thread(target=lambda: found.append(self.read_one()), daemon=True)
        reader.start()
        deadline = time.monotonic() + FIRST_READING_S
        while reader.is_alive() and time.monotonic() < deadline:
            self.watch()
        if not found or found[0] is None:
            raise Failure(
                f"no reading within {FIRST_READING_S} s: does {self.sensors} --bus NAME publish?"
            )
        return found[0]

    def read_one(self):
        link = self.link("127.0.0.1" if self.host == "0.0.0.0" else self.host)
        deadline = time.monotonic() + FIRST_READING_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.opener.open(link, timeout=FIRST_READING_S).close()
                events = link.partition("?")[0] + "bus/events?filter=host/%23"
                with self.opener.open(events, timeout=FIRST_READING_S) as lines:
                    for line in lines:
                        if line.startswith(b"data: {"):
                            return json.loads(line[len("data: ") :])
            time.sleep(0.05)
        return None

    def tell(self):
        print()
        print(f"  {self.link(lan_address() if self.host == '0.0.0.0' else self.host)}")
        if self.local:
            user = os.environ.get("USER", "user")
            print("\n  From another machine, for example if this one has no screen:")
            print(f"  ssh -L {self.port}:127.0.0.1:{self.port} {user}@{socket.gethostname()}")
            print("  then open the address above there.")
        else:
            print(
                "\n  The link works once, in one browser. Nothing is encrypted: use it in a trusted network."
            )
        print("\n  Ctrl-C ends it.", flush=True)


def find_sensors(given):
    found = [Path(given)] if given else sorted(BUILD.glob("examples/**/host_sensors"))
    if not found or not os.access(found[0], os.X_OK):
        raise Failure(
            f"no host_sensors {'at ' + given if given else 'below ' + str(BUILD)}: build first, or give --sensors PATH"
        )
    return str(found[0].resolve())


def listen(host, port):
    def bind(port):
        return socket.create_server((host, port), backlog=128)

    try:
        return bind(8000 if port is None else port)
    except PermissionError as error:
        raise Failure(
            f"port {port}: {error.strerror}; ports below 1024 are root's, choose another"
        ) from None
    except OSError as error:
        if port is not None or error.errno != errno.EADDRINUSE:
            raise Failure(
                f"cannot listen on {host}, port {port or 8000}: {error.strerror}; --host takes an"
                " IPv4 address of this machine, 0.0.0.0 for all"
            ) from None
        listener = bind(0)
        print(f"port 8000 is taken: using {listener.getsockname()[1]}", flush=True)
        return listener


def lan_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing: finds the route and its address
            return sock.getsockname()[0]
        except OSError:
            return socket.gethostname()


# --- --check: a browser looks at the page as a user does ------------------------------------------------

READINGS = """return Object.fromEntries([...document.querySelectorAll("[data-topic]")]
    .map((shown) => [shown.dataset.topic, Number(shown.dataset.value)]))"""


def check(demo):
    seen = {}  # by topic: the numbers shown, in order

    def four_changed():
        for topic, number in page.execute_script(READINGS).items():
            numbers = seen.setdefault(topic, [])
            if number not in numbers[-1:]:
                numbers.append(number)
        changed = {topic: numbers for topic, numbers in sorted(seen.items()) if len(numbers) > 1}
        return changed if len(changed) >= 4 else None

    def memory_agrees():
        shown = page.execute_script(READINGS).get(
            f"host/{socket.gethostname()}/memory/used_percent"
        )
        real = memory_used_percent()
        return (shown, real) if shown is not None and abs(shown - real) < 2 else None

    with browser.chromium() as page:
        page.get(demo.link("127.0.0.1" if demo.host == "0.0.0.0" else demo.host))
        for topic, numbers in wait(demo, "four readings that change", four_changed).items():
            print(f"  {topic}: {' → '.join(f'{number:g}' for number in numbers)}")
        shown, real = wait(
            demo, "the memory on the page to be the one in /proc/meminfo", memory_agrees
        )
        print(f"  memory used: {shown:.2f} % on the page, {real:.2f} % in /proc/meminfo")
        state = page.execute_script("return document.documentElement.dataset.state")
        if state != "live":
            raise Failure(f"the badge says {state!r}, not 'live'")
        take_picture_at = time.monotonic() + 10  # with lines on the plots
        while time.monotonic() < take_picture_at:
            demo.watch()
        page.set_window_size(
            1280,
            page.execute_script("return document.body.scrollHeight + outerHeight - innerHeight"),
        )
        time.sleep(1)  # until the plots are redrawn
        BUILD.mkdir(parents=True, exist_ok=True)
        page.save_screenshot(str(BUILD / "demo.png"))
        print(f"  the page is live; its picture: {BUILD / 'demo.png'}", flush=True)


def wait(demo, what, look, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        demo.watch()
    raise Failure(f"waited {seconds} s for {what}")


def memory_used_percent():
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return 100 * (1 - kib["MemAvailable"] / kib["MemTotal"])


def port_number(text):
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError("give a port from 0 to 65535")
    return number


def parse():
    parser = argparse.ArgumentParser(
        prog="dev demo", description="This machine's sensors on a live page."
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve on; 0.0.0.0 for the whole network, with a token",
    )
    parser.add_argument(
        "--port",
        type=port_number,
        help="8000 by default, or another one if that is taken; 0: any free one",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="check the page with a headless browser, save build/demo.png, then end",
    )
    parser.add_argument("--sensors", metavar="PATH", help="the built host_sensors program")
    parser.add_argument(
        "--started",
        type=float,
        default=time.time(),
        metavar="EPOCH_S",
        help="the time from which the first reading is measured",
    )
    return parser.parse_args()


def main():
    options = parse()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, signal.default_int_handler)
    demo = None
    try:
        if options.check:
            browser.find()  # before anything is started
        demo = Demo(options)
        demo.start()
        topic = demo.first_reading()["topic"]
        print(f"first reading ({topic}) after {time.time() - options.started:.1f} s", flush=True)
        if options.check:
            check(demo)
            return 0
        demo.tell()
        while True:
            demo.watch()
    except KeyboardInterrupt:
        return 0
    except (Failure, browser.NoBrowserError) as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if demo is not None:
            demo.stop()


if __name__ == "__main__":
    sys.exit(main())
