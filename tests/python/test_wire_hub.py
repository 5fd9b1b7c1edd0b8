"""The frames and log records of a hub, by docs/internals/wire.md and docs/internals/log-format.md."""

import contextlib

import pytest
from log_reader import LogReader
from patience import WATCHDOG
from wire_proxy import Proxy
from wire_reader import RELAY, RETAIN, History
from wire_world import eventually

import libbus


@pytest.fixture(params=["private", "named"])
def hub(request, tmp_path):
    tmp_path.chmod(0o700)
    where = {"name": "hub", "directory": tmp_path} if request.param == "named" else {}
    with libbus.Bus(**where) as bus:
        yield bus, tmp_path / "hub.bus" if where else None


def events(proxy, side):
    """Returns the forwarded messages of one side. A change right after the connection may have been sent as a kept value."""
    return [found for found in proxy.last.said(side, "PASSED") if not found.flags & RETAIN]


def publish_all(bus, name):
    bus.publish(f"n/{name}", 1)
    bus.publish(f"n/{name}", 2, headers={"h": 1}, ttl=60)
    bus.publish(f"v/{name}", 3, retain=True)


def test_events_of_a_hub_name_their_publisher_and_losses_the_peers_told(hub):
    bus, log = hub
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(libbus.Bus()) for _ in range(2))
        values, inbox = b.subscribe("v/#"), b.subscribe("n/#")
        listening = bus.listen("tcp://127.0.0.1:0", relays=True)
        to_a, to_b = (stack.enter_context(Proxy(listening.url)) for _ in range(2))
        dialled = a.dial(to_a.url)
        also = b.dial(to_b.url)
        eventually(lambda: dialled.state == also.state == "up")
        publish_all(a, "a")
        publish_all(bus, "hub")
        eventually(lambda: len(events(to_b, "listening")) == 4)

        hello = {side: to_a.last.said(side, "HELLO")[0]["id"] for side in ("dialling", "listening")}
        said = events(to_a, "dialling")
        assert {found["source"] for found in said} == {hello["dialling"]}
        assert [(found["number"], found["hubs"]) for found in said] == [(1, 0), (2, 0)]
        passed = events(to_b, "listening")
        assert [found["hubs"] for found in passed] == [1] * 4
        of_a = [f["number"] for f in passed if f["source"] == hello["dialling"]]
        of_hub = [f["number"] for f in passed if f["source"] == hello["listening"]]
        assert of_a == [1, 2]
        assert of_hub == sorted(of_hub) and len(of_hub) == 2
        assert to_b.last.said("listening", "HELLO")[0]["features"] & RELAY
        assert to_b.last.said("dialling", "HELLO")[0]["features"] == 0
        if log is not None:
            records = [r for _, r in LogReader(log).records() if r["topic"] == "n/a"]
            assert [r["passed"] for r in records] == [
                (hello["dialling"], 1, 1),
                (hello["dialling"], 2, 1),
            ]

        # A loss on the way to the hub.
        to_a.last.hold("dialling")
        a.publish("n/a", 4)
        eventually(lambda: dialled.stats()["sent"] == 4)
        to_a.last.end()
        eventually(lambda: [f for f in to_b.last.said("listening", "LOST") if f["count"] == 1])
        lost = to_b.last.said("listening", "LOST")[0]
        assert (lost["number"], lost["hubs"]) == (1, 1)
        assert lost["source"] not in hello.values()
        a.publish("n/a", 5)
        told = 0
        for msg in inbox.iter(timeout=WATCHDOG):
            told += msg.lost
            if msg.topic == "n/a" and msg.value == 5:
                break
        assert told == 1
        topics = {"v/a", "v/hub"}
        while topics:
            topics.discard(values.recv(WATCHDOG).topic)
        for proxy in (to_a, to_b):
            past = History()
            for each in proxy.connections:
                each.judge(past)
