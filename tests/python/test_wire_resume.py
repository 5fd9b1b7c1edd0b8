"""A peer that disconnects, forgets or restarts: its losses are reported as docs/internals/wire.md specifies."""

import time

import pytest
from patience import WATCHDOG
from wire_reader import LINKED, MET, RESTARTED
from wire_world import CALM, ROOM, eventually, peer, says

import libbus


def publish(served, topic, count):
    for number in range(count):
        served.bus.publish_raw(topic, bytes([number]))


def again(served, peer):
    """Disconnects, and waits until the bus has noticed."""
    peer.break_off()
    served.is_alone()


def test_resume_says_whether_two_buses_have_met(served):
    with served.attacker() as it:
        theirs, _ = it.handshake("to/it")
        assert theirs.flags == 0
        again(served, it)
        it.dial(served.url)
        theirs, _ = it.handshake("to/it")
        assert theirs.flags & MET
        it.bye(0)
        served.is_alone()
        it.dial(served.url)
        theirs, _ = it.handshake("to/it")
        assert theirs.flags == MET


def test_a_peer_that_reconnects_learns_its_losses(served):
    with served.attacker() as it:
        theirs, began = it.handshake("to/it")
        assert says(theirs) == (0, 0, 0, 0)
        id = began["id"]
        assert says(began) == (id, 0, 0, 0)
        publish(served, "to/it", 3)
        for _ in range(3):
            it.until("MSG")
        again(served, it)
        publish(served, "to/it", 4)
        publish(served, "to/nobody", 5)
        served.bus.flush(WATCHDOG)
        before = served.link.stats()
        # It had handled one of the three: two were lost in transit.
        it.dial(served.url)
        theirs, began = it.handshake("to/it", resume=(id, 1, 0))
        assert says(began) == (id, 7, 4, 0)
        served.bus.flush(WATCHDOG)
        after = served.link.stats()
        assert after["sent"] - before["sent"] == -2
        assert after["lost"] - before["lost"] == 2 + 4
        publish(served, "to/it", 1)
        it.until("MSG")
        # All is handled.
        again(served, it)
        it.dial(served.url)
        theirs, began = it.handshake("to/it", resume=(id, 8, 6))
        assert says(began) == (id, 8, 0, 0)


def test_a_peer_that_forgot_the_sequence_learns_so(served):
    with served.attacker() as it:
        _, began = it.handshake("to/it")
        id = began["id"]
        publish(served, "to/it", 3)
        for _ in range(3):
            it.until("MSG")
        again(served, it)
        publish(served, "to/it", 4)
        it.dial(served.url)
        _, began = it.handshake("to/it", resume=(0, 0, 0))
        assert began["id"] not in (0, id)
        assert began.flags == RESTARTED
        assert began["next"] == began["missing"] == 4


def test_a_peer_that_restarts_as_another_bus_starts_over(served):
    with served.attacker() as it:
        _, began = it.handshake("to/it")
        publish(served, "to/it", 3)
        for _ in range(3):
            it.until("MSG")
        again(served, it)
        publish(served, "to/it", 4)
        it.id = b"it has restarted"
        it.dial(served.url)
        theirs, anew = it.handshake("to/it", resume=(0, 0, 0))
        assert says(theirs) == (0, 0, 0, 0)
        assert anew["id"] not in (0, began["id"])
        assert says(anew)[1:] == (0, 0, 0)
        # It remembers the losses reported to its former bus.
        again(served, it)
        it.id = b"it restarts again"[:16]
        it.dial(served.url)
        _, third = it.handshake("to/it", resume=(began["id"], 2, 0))
        assert third["id"] not in (0, began["id"], anew["id"])
        assert says(third)[1:] == (0, 0, RESTARTED)


def test_bye_0_ends_the_memory_of_a_peer(served):
    with served.attacker() as it:
        _, began = it.handshake("to/it")
        it.publish("from/it", b"1")
        served.inbox.recv(WATCHDOG)
        publish(served, "to/it", 3)
        for _ in range(3):
            it.until("MSG")
        it.bye()
        served.is_alone()
        publish(served, "to/it", 4)
        it.dial(served.url)
        theirs, anew = it.handshake("to/it", resume=(0, 0, 0))
        assert says(theirs) == (0, 0, 0, 0)
        assert anew["id"] != began["id"]
        assert says(anew)[1:] == (0, 0, 0)


@pytest.mark.parametrize("reason", [1, 2, 3, 4, 5, 6])
def test_any_other_bye_breaks_the_connection(served, reason):
    with served.attacker() as it:
        _, began = it.handshake("to/it")
        it.publish("from/it", b"1")
        served.inbox.recv(WATCHDOG)
        it.bye(reason)
        served.is_alone()
        publish(served, "to/it", 4)
        it.dial(served.url)
        theirs, anew = it.handshake("to/it")
        assert says(theirs) == (it.own[0], 1, 0, 0)
        assert says(anew) == (began["id"], 4, 4, 0)


def test_the_losses_in_the_start_of_a_peer_are_counted(served):
    with served.attacker() as it:
        it.handshake()

        def lost():
            it.publish("from/it", b"1")
            return served.inbox.recv(WATCHDOG).lost

        assert lost() == 0
        it.lost(5)
        assert lost() == 5
        assert it.own[1] == 7
        # It goes on: exactly the difference.
        again(served, it)
        it.own[1], it.unsent = 10, 2
        it.dial(served.url)
        theirs, _ = it.handshake()
        assert says(theirs) == (it.own[0], 7, 5, 0)
        assert lost() == 3
        # It begins anew, and says so: at least those.
        again(served, it)
        it.own, it.unsent = [99, 6, 0], 6
        it.dial(served.url)
        theirs, _ = it.handshake(flags=RESTARTED)
        assert says(theirs)[1:] == (11, 8, 0)
        assert lost() == 6
        # It begins anew without a word: it has forgotten.
        again(served, it)
        it.own = [100, 2, 0]
        it.unsent = 2
        it.dial(served.url)
        theirs, _ = it.handshake()
        assert says(theirs) == (99, 7, 6, 0)
        assert lost() == 2
        assert served.link.stats()["lost_by_peers"] == 5 + 3 + 6 + 2


def test_a_new_peer_has_lost_nothing(served):
    with served.attacker() as it:
        it.handshake(start=(5, 9, 0))
        it.publish("from/it", b"1")
        assert served.inbox.recv(WATCHDOG).lost == 0


def test_a_dialled_peer_may_restart_too(tmp_path):
    with libbus.Bus() as bus, bus.subscribe("from/#") as inbox, peer(1) as it:
        url = it.listen("tcp://127.0.0.1:0")
        link = bus.dial(url, heartbeat=CALM)
        theirs, began = it.accept().handshake("to/it")
        assert says(theirs) == (0, 0, 0, 0)
        assert says(began)[1:] == (0, 0, 0)
        it.publish("from/it", b"1")
        assert inbox.recv(WATCHDOG).lost == 0
        it.break_off()
        eventually(lambda: link.state == "down")
        bus.publish("to/it", 1)
        theirs, began_again = it.accept().handshake("to/it")
        assert says(theirs) == (it.own[0], 1, 0, 0)
        assert says(began_again) == (began["id"], 1, 1, 0)
        it.break_off()
        # Another bus at the same address.
        it.id, it.own, it.heard = b"it has restarted", [77, 0, 0], [0, 0, 0]
        theirs, anew = it.accept().handshake("to/it")
        assert says(theirs) == (0, 0, 0, 0)
        assert says(anew)[1:] == (0, 0, 0)
        it.publish("from/it", b"1")
        assert inbox.recv(WATCHDOG).lost == 0
        link.close()
        assert it.ended() == 0


def test_a_named_bus_resumes_after_any_number_of_breaks(tmp_path):
    tmp_path.chmod(0o700)
    url = f"ipc://{tmp_path}/bus.sock"
    count = 40
    with (
        libbus.Bus("wire", directory=tmp_path) as bus,
        bus.listen(url, heartbeat=CALM) as link,
        peer(1) as it,
    ):
        it.dial(url).handshake("to/it")
        for away in range(3):
            it.break_off()
            eventually(lambda: link.stats()["peers"] == 0)
            if away == 0:
                # More than the kernel holds, so that most of it stays in the log.
                for _ in range(count):
                    bus.publish_raw("to/it", bytes(1 << 16))
            it.dial(url).handshake("to/it")
        bus.publish_raw("to/it", b"last")
        while it.until("MSG")["payload"] != b"last":
            pass
        assert len(it.messages) + it.heard[2] == it.heard[1] == count + 1


def test_messages_of_an_unsubscribed_filter_are_not_missed(served):
    with served.attacker() as it:
        _, began = it.handshake("to/it", "to/it/too")
        it.unsubscribe("to/it")
        assert served.judges(it, b"") == "alive"
        publish(served, "to/it", 2)
        publish(served, "to/it/too", 1)
        assert it.until("MSG")["topic"] == "to/it/too"
        again(served, it)
        publish(served, "to/it", 3)
        publish(served, "to/it/too", 4)
        it.dial(served.url)
        _, goes_on = it.handshake()
        assert says(goes_on) == (began["id"], 5, 4, 0)
        # It has asked for nothing in this connection, so from READY on nothing is missed.
        again(served, it)
        publish(served, "to/it/too", 4)
        it.dial(served.url)
        _, goes_on = it.handshake()
        assert says(goes_on) == (began["id"], 5, 0, 0)


def test_a_second_connection_of_a_bus_takes_the_place_of_the_first(served):
    with served.attacker() as it, served.attacker() as twin:
        _, began = it.handshake("to/it")
        it.publish("from/it", b"1")
        assert served.inbox.recv(WATCHDOG).data == b"1"
        publish(served, "to/it", 2)
        for _ in range(2):
            it.until("MSG")
        twin.id, twin.own, twin.heard = it.id, it.own, it.heard
        theirs, goes_on = twin.handshake("to/it")
        assert it.ended() in (LINKED, None)
        assert says(theirs) == (it.own[0], 1, 0, 0)
        assert says(goes_on) == (began["id"], 2, 0, 0)
        publish(served, "to/it", 1)
        assert twin.until("MSG")["payload"] == bytes([0])


def test_an_expired_message_is_reported_as_lost(tmp_path):
    tmp_path.chmod(0o700)
    url = f"ipc://{tmp_path}/bus.sock"
    with libbus.Bus() as bus, bus.listen(url, heartbeat=CALM, max_bytes=ROOM), peer(1) as it:
        it.dial(url).handshake("to/it")
        # More than the kernel holds, so that what comes behind waits in the bus.
        for _ in range(40):
            bus.publish_raw("to/it", bytes(1 << 16))
        bus.publish_raw("to/it", b"short", ttl=0.01)
        time.sleep(0.02)
        bus.publish_raw("to/it", b"last")
        while (found := it.until("MSG"))["payload"] != b"last":
            assert found["payload"] != b"short"
        assert (len(it.messages), it.heard[1], it.heard[2]) == (41, 42, 1)


@pytest.mark.parametrize("forgets", [False, True])
def test_messages_waiting_when_the_connection_broke_were_never_sent(tmp_path, forgets):
    tmp_path.chmod(0o700)
    url = f"ipc://{tmp_path}/bus.sock"
    count = 40
    with (
        libbus.Bus() as bus,
        bus.listen(url, heartbeat=CALM, max_bytes=ROOM) as link,
        peer(1) as it,
    ):
        it.dial(url).handshake("to/it")
        # More than the kernel holds: most of it waits.
        for _ in range(count):
            bus.publish_raw("to/it", bytes(1 << 16))
        it.break_off()
        eventually(lambda: link.stats()["peers"] == 0)
        it.dial(url)
        _, began = it.handshake("to/it", resume=(0, 0, 0) if forgets else None)
        assert began["missing"] >= count // 2
