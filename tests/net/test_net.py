"""Links between two machines whose network fails in every way that lab.py can make: each failure is noticed within three heartbeats, the
link is back within three seconds, and each message is delivered or counted in a gap.
"""

import re
import signal
import subprocess
import sys
import time

import pytest
from lab import HEARTBEAT, NOBODY, PORT, eventually

pytestmark = pytest.mark.net

# Added to the limits of the library: the time until a busy machine runs a thread.
SLACK = 0.5
NOTICED = 3 * HEARTBEAT + SLACK
BACK = 3 + SLACK
ANYWHERE = f"tcp://0.0.0.0:{PORT}"
B = f"tcp://10.1.0.2:{PORT}"
SERVER = f"tcp://server.lab:{PORT}"
CALM, HEAVY = "200 64", "500 4096"


class Pair:
    """b listens, a dials, and both publish numbers."""

    def __init__(self, lab, url=B, at=ANYWHERE, rate=CALM):
        self.lab, self.rate = lab, rate
        self.listener = lab.b.node("listen", at)
        self.dialler = lab.a.node("dial", url)
        self.nodes = (self.dialler, self.listener)
        self.up(0)
        self.publish()

    def up(self, after):
        return max(node.when("up", after) for node in self.nodes)

    def down(self, after):
        return max(node.when("down", after) for node in self.nodes)

    def publish(self, rate=None):
        for node in self.nodes:
            node.say(f"rate {rate or self.rate}")

    def flows(self):
        """Waits until a number published from now on has arrived, on both sides."""
        published = [node.report()["published"] for node in self.nodes]
        for node, number in zip(reversed(self.nodes), published, strict=True):
            eventually(lambda node=node, number=number: node.report()["next"] > number, "traffic")

    def account(self):
        """Checks that every missing number was counted, once the last one has arrived. If the last ones are lost, it publishes more."""
        while True:
            self.publish("0 0")
            reports = [node.report() for node in self.nodes]
            end = time.monotonic() + 2
            while not self.is_complete(*reports) and time.monotonic() < end:
                reports = [node.report() for node in self.nodes]
            if self.is_complete(*reports):
                break
            self.publish(CALM)
            self.flows()
        for mine, other in (reports, reversed(reports)):
            assert mine["wrong"] == 0
            assert mine["count"] + mine["lost"] == mine["next"] == other["published"]
            assert mine["lost_by_peers"] == mine["lost"]

    @staticmethod
    def is_complete(a, b):
        return a["next"] == b["published"] and b["next"] == a["published"]


def fails_and_heals(pair, measured, fail, heal):
    pair.flows()
    began = time.monotonic()
    fail()
    failed = time.monotonic()  # commands may take long on a busy machine
    measured("noticed", pair.down(began) - failed, NOTICED)
    begun = time.monotonic()
    healed = heal()
    measured("back", pair.up(begun) - healed, BACK)  # a link may be faster than the last command
    pair.flows()
    pair.account()


@pytest.mark.parametrize("rate", [CALM, HEAVY], ids=["calm", "full buffers"])
@pytest.mark.parametrize("deaf", ["both", "dialler", "listener"])
def test_a_blackhole(lab, measured, deaf, rate):
    machines = {"both": (lab.a, lab.b), "dialler": (lab.a,), "listener": (lab.b,)}[deaf]
    fails_and_heals(
        Pair(lab, rate=rate), measured, lambda: [it.drop() for it in machines], lab.heal
    )


@pytest.mark.parametrize("end", ["dialler", "listener"])
def test_a_cable_that_is_pulled(lab, measured, end):
    machine = lab.a if end == "dialler" else lab.b

    def plug():
        machine.ip("link", "set", machine.port, "up")
        return time.monotonic()

    fails_and_heals(
        Pair(lab), measured, lambda: machine.ip("link", "set", machine.port, "down"), plug
    )


def test_connections_that_are_reset(lab, measured):
    reset = "meta l4proto tcp reject with tcp reset"
    fails_and_heals(Pair(lab), measured, lambda: lab.b.rule(reset), lab.heal)


@pytest.mark.parametrize("end", ["dialler", "listener"])
def test_a_peer_that_is_stopped(lab, measured, end):
    pair = Pair(lab)
    stopped, other = pair.nodes if end == "dialler" else reversed(pair.nodes)
    pair.flows()
    began = time.monotonic()
    stopped.signal(signal.SIGSTOP)
    measured("noticed", other.when("down", began) - began, NOTICED)
    healed = time.monotonic()
    stopped.signal(signal.SIGCONT)
    measured("back", pair.up(healed) - healed, BACK)
    pair.account()


def test_a_dialler_whose_address_changes(lab, measured):
    pair = Pair(lab)
    pair.flows()
    began = time.monotonic()
    lab.a.move("10.1.0.1/24", "10.1.0.9/24")
    noticed = pair.down(began)
    measured("noticed", noticed - began, NOTICED)
    measured("back", pair.up(noticed) - noticed, BACK)
    pair.account()


def test_a_listener_whose_address_changes_is_found_by_its_name(lab, measured):
    lab.hosts({"server.lab": ["10.1.0.2"]})
    pair = Pair(lab, SERVER)
    pair.flows()
    began = time.monotonic()
    lab.b.move("10.1.0.2/24", "10.1.0.8/24")
    lab.hosts({"server.lab": ["10.1.0.8"]})
    noticed = pair.down(began)
    measured("noticed", noticed - began, NOTICED)
    measured("back", pair.up(noticed) - noticed, BACK)
    pair.account()


def test_loss_of_five_in_a_hundred(lab):
    pair = Pair(lab)
    for machine in (lab.a, lab.b):
        machine.rule("numgen random mod 100 < 5 drop")
    began = pair.listener.report()["count"]
    eventually(lambda: pair.listener.report()["count"] > began + 600, "600 messages")
    lab.heal()
    pair.flows()
    pair.account()


def test_a_cable_of_one_megabit(lab):
    pair = Pair(lab)
    for machine in (lab.a, lab.b):
        machine.run(
            *f"tc qdisc add dev {machine.port} root tbf rate 1mbit burst 16kb latency 100ms".split()
        )
    pair.publish("1000 1000")
    began = pair.listener.report()["count"]
    eventually(lambda: pair.listener.report()["published"] > 4000, "four seconds of traffic")
    assert pair.listener.report()["count"] > began
    assert all(node.state() == "up" for node in pair.nodes)
    for machine in (lab.a, lab.b):
        machine.run(*f"tc qdisc del dev {machine.port} root".split())
    pair.flows()
    pair.account()


# --- addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["[fd01::2]", "[fe80::2%a0]", "six.lab"], ids=["IPv6", "link-local", "name"]
)
def test_ipv6(lab, measured, host):
    lab.hosts({"six.lab": ["fd01::2"]})
    pair = Pair(lab, f"tcp://{host}:{PORT}", f"tcp://[::]:{PORT}")
    fails_and_heals(pair, measured, lab.blackhole, lab.heal)


def test_a_listener_at_a_link_local_address(lab):
    pair = Pair(lab, f"tcp://[fe80::2%a0]:{PORT}", f"tcp://[fe80::2%b0]:{PORT}")
    pair.flows()
    pair.account()


def test_a_name_whose_first_address_is_dead(lab, measured):
    lab.hosts({"server.lab": [NOBODY, "10.1.0.2"]})
    fails_and_heals(Pair(lab, SERVER), measured, lab.blackhole, lab.heal)


def test_a_name_whose_first_address_accepts_and_stays_silent(lab):
    lab.b.ip("address", "add", f"{NOBODY}/24", "dev", "b0")
    silent = lab.b.node("listen", f"tcp://{NOBODY}:{PORT}")
    silent.signal(signal.SIGSTOP)
    lab.hosts({"server.lab": [NOBODY, "10.1.0.2"]})
    Pair(lab, SERVER, B).account()


def test_a_name_server_that_fails_leaves_the_address_that_was_good(lab, measured):
    lab.hosts({"server.lab": ["10.1.0.2"]})
    pair = Pair(lab, SERVER)
    lab.hosts({})
    fails_and_heals(pair, measured, lab.blackhole, lab.heal)


def test_a_name_that_resolves_only_later(lab):
    lab.b.node("listen", ANYWHERE)
    dialler = lab.a.node("dial", SERVER)
    lab.hosts({"server.lab": ["10.1.0.2"]})
    dialler.when("up", 0)


def test_a_pending_look_up_does_not_delay_close(lab):
    dialler = lab.a.node("dial", SERVER)
    eventually(lambda: "bus-lookup" in dialler.threads(), "a look-up")
    began = time.monotonic()
    dialler.close()
    assert time.monotonic() - began < 4  # the name server has ten seconds


def test_a_network_that_comes_up_is_tried_at_once(lab, measured):
    """The pauses of an address that was never up are up to half a minute by then."""
    lab.b.node("listen", ANYWHERE)
    lab.a.ip("link", "set", "a0", "down")
    dialler = lab.a.node("dial", B)
    time.sleep(10)
    healed = time.monotonic()
    lab.a.ip("link", "set", "a0", "up")
    measured("back", dialler.when("up", healed) - healed, BACK)


def test_an_interface_that_flaps_asks_for_two_attempts_a_second_at_most(lab):
    lab.b.nft("add chain inet lab counted { type filter hook input priority -1; }")
    lab.b.nft("add rule inet lab counted tcp flags syn counter")
    lab.a.node("dial", B)  # without a listener
    began = time.monotonic()
    flap = "for i in $(seq 200); do ip address add 10.9.9.9/32 dev lo; ip address delete 10.9.9.9/32 dev lo; done"
    lab.a.run("sh", "-c", flap)
    counter = re.search(
        r"packets (\d+)", lab.b.run("nft", "list", "chain", "inet", "lab", "counted")
    )
    first = 10  # whose pauses are shorter
    assert int(counter[1]) <= 2 * (time.monotonic() - began) + first


# --- permission to connect ------------------------------------------------------------------------------------------------


def test_a_lan_listener_refuses_a_public_address(lab, tmp_path):
    users = tmp_path / "users"
    users.touch(0o600)
    listener = lab.b.node("listen", ANYWHERE, lan=users)
    lab.a.ip("address", "add", "198.51.100.7/32", "dev", "a0")
    lab.b.ip("route", "add", "198.51.100.7/32", "via", "10.1.0.1")
    lab.a.ip("route", "change", "10.1.0.0/24", "dev", "a0", "src", "198.51.100.7")
    dialler = lab.a.node("dial", B)
    eventually(lambda: listener.report()["denied"] > 0, "a refusal")
    assert listener.report()["last_error"] == "BUS_E_NOT_LOOPBACK"
    assert dialler.state() == "down"


SCANNED = """
import sys
import libbus
from libbus import _core

named, private = libbus.Bus("scan", directory=sys.argv[1]), libbus.Bus()
push = _core.Push(named)
links = [
    bus.listen(url)
    for bus in (named, private)
    for url in ("tcp://127.0.0.1:0", "tcp://localhost:0", "tcp://[::1]:0", "inproc://a" + str(bus is named))
]
dialled = libbus.Bus().dial(links[0].url)
named.publish("a", 1, retain=True)
print(len(links), flush=True)
input()
"""
LOOPBACK = re.compile(r"0100007F:|0{24}01000000:")


def test_no_default_address_listens_beyond_this_machine(lab, tmp_path):
    tmp_path.chmod(0o700)
    command = lab.a.command(sys.executable, "-c", SCANNED, tmp_path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"8\n"
        found = lab.a.listening()
        program.communicate(b"\n")
    assert len(found) == 6
    assert [row for row in found if not LOOPBACK.match(row.split()[1])] == []
    lab.a.node("listen", ANYWHERE)
    assert lab.a.listening() == [f"tcp 00000000:{PORT:04X}"]
