"""Two machines and a cable between them, in network namespaces, without privileges if the system lets users make them.

with Lab() as lab:
    lab.a.ip("address", "add", "10.1.0.3/24", "dev", "a0")
    lab.b.drop()                                  nothing reaches b any more
    node = lab.a.node("dial", "tcp://10.1.0.2:7000")

Machine a has the interface a0 with 10.1.0.1, fd01::1 and fe80::1, b has b0 with the same addresses ending in 2. hosts() sets the
addresses of names for both; their only name server does not exist.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from patience import WATCHDOG

HEARTBEAT = 0.5
PORT = 7000
NOBODY = "10.1.0.3"  # as near to a as b, so that the system keeps the order of a name's addresses
AS_ROOT = () if os.geteuid() == 0 else ("--user", "--map-root-user")
ENTER = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
NODE = Path(os.environ.get("LIBBUS_BUILD", "build")) / "tests" / "net_node"

# Prints a line when it runs, then stays until its input ends.
HOLD = "echo; read line || :"


def run(*command, **options):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr or done.stdout}"
    return done.stdout


def eventually(condition, what, limit=WATCHDOG):
    end = time.monotonic() + limit
    while not (answer := condition()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.005)
    return answer


class Held:
    """A process that keeps namespaces alive."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            [*command, "sh", "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self.process.pid
        assert self.process.stdout.readline() == b"\n", f"failed: {' '.join(command)}"

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Machine:
    def __init__(self, lab, name):
        self.lab, self.name, self.port = lab, name, f"{name}0"
        self.held = Held(*lab.enter(lab.held.pid), "unshare", "--net")
        self.nodes = []
        self.ip("link", "set", "lo", "up")
        self.nft("add table inet lab")
        self.nft("add chain inet lab in { type filter hook input priority 0; }")

    def command(self, *words):
        return [*self.lab.enter(self.held.pid), *map(str, words)]

    def run(self, *words):
        return run(*self.command(*words))

    def ip(self, *words):
        return self.run("ip", *words)

    def nft(self, *lines):
        for line in lines:
            self.run("nft", line)

    def rule(self, text):
        """Adds a rule for arriving packets, in nft's words after "iifname a0". Lasts until heal()."""
        self.nft(f"add rule inet lab in iifname {self.port} {text}")

    def drop(self):
        self.rule("drop")

    def heal(self):
        """Returns the time."""
        self.nft("flush chain inet lab in")
        return time.monotonic()

    def move(self, old, new):
        """Another address."""
        self.ip("address", "delete", old, "dev", self.port)
        self.ip("address", "add", new, "dev", self.port, "nodad")

    def node(self, mode, url, **options):
        node = Node(self, mode, url, **options)
        self.nodes.append(node)
        return node

    def close(self):
        for node in self.nodes:
            node.close()
        self.held.close()

    def listening(self):
        """Sockets of IPv4 and IPv6 that take anything from elsewhere, as "tcp 0100007F:1B58"."""
        found = []
        for kind, waits in (("tcp", "0A"), ("udp", "07")):
            for version in ("", "6"):
                table = Path(f"/proc/{self.held.pid}/net/{kind}{version}").read_text()
                rows = [line.split() for line in table.splitlines()[1:]]
                found += [f"{kind}{version} {row[1]}" for row in rows if row[3] == waits]
        return found


class Node:
    """net/node.c on a machine. Its lines are read as they come."""

    def __init__(self, machine, mode, url, heartbeat=HEARTBEAT, lan=None):
        peer = "b" if machine.name == "a" else "a"
        lan = [] if lan is None else ["lan", str(lan)]
        self.process = subprocess.Popen(
            machine.command(NODE, mode, url, int(heartbeat * 1000), machine.name, peer, *lan),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self.heartbeat = heartbeat
        self.changes = []  # ("up" or "down", when, why)
        self.reports = queue.Queue()
        self.url = self.process.stdout.readline().strip().removeprefix("url ")
        assert self.url, f"{mode} {url} failed"
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.reports.put(json.loads(line))
            else:
                state, when, *why = line.split()
                self.changes.append((state, float(when), *why))

    def say(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def report(self):
        self.say("report")
        return self.reports.get(timeout=WATCHDOG)

    def state(self):
        return self.changes[-1][0] if self.changes else "down"

    def when(self, state, after, limit=WATCHDOG):
        """Returns when the link first had this state, no earlier than `since`."""

        def first():
            return next(
                (at for what, at, *_ in self.changes if what == state and at >= after), None
            )

        return eventually(first, f"{state}, but {self.changes}", limit)

    def threads(self):
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return [(task / "comm").read_text().strip() for task in tasks]

    def signal(self, number):
        os.kill(self.pid, number)

    def close(self):
        if self.process.returncode is not None:
            return
        self.signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


class Lab:
    def __enter__(self):
        with contextlib.ExitStack() as ends:
            self.held = Held("unshare", *AS_ROOT, "--net", "--mount")
            ends.callback(self.held.close)
            self.inside = self.enter(self.held.pid)
            self.folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
            self.hosts({})
            (self.folder / "resolv.conf").write_text(f"nameserver {NOBODY}\n")
            for file in self.folder.iterdir():
                run(*self.inside, "mount", "--bind", file, f"/etc/{file.name}")
            self.a, self.b = Machine(self, "a"), Machine(self, "b")
            ends.callback(self.a.close)
            ends.callback(self.b.close)
            self.wire()
            self.ends = ends.pop_all()
        return self

    def __exit__(self, *_):
        self.ends.close()

    def enter(self, pid):
        return ["nsenter", *ENTER, "--net", "--mount", "--target", str(pid)]

    def wire(self):
        a, b = self.a, self.b
        a.ip("link", "add", "a0", "type", "veth", "peer", "name", "b0", "netns", b.held.pid)
        for number, machine in enumerate((a, b), 1):
            for address in (f"10.1.0.{number}/24", f"fd01::{number}/64"):
                machine.ip("address", "add", address, "dev", machine.port, "nodad")
            machine.ip("link", "set", machine.port, "addrgenmode", "none")
            machine.ip("address", "add", f"fe80::{number}/64", "dev", machine.port, "nodad")
            machine.ip("link", "set", machine.port, "up")
        eventually(
            lambda: "LOWER_UP" in a.ip("link", "show", "a0") and "state UP" in b.ip("link"),
            "a cable",
        )

    def hosts(self, names):
        """Sets the addresses of names, from now on."""
        lines = [f"{address} {name}" for name in names for address in names[name]]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def blackhole(self):
        self.a.drop()
        self.b.drop()

    def heal(self):
        self.a.heal()
        return self.b.heal()
