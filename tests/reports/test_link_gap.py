"""A receiver is stopped for longer than its link lasts: what it missed is counted, and its next message tells of it."""

import json
import signal
import subprocess
import sys
import time

from patience import WATCHDOG

import libbus

# It prints each number with what was lost before it, and at the end its link's counters.
RECEIVER = """
import json, sys, libbus
bus = libbus.Bus()
link = bus.listen("tcp://127.0.0.1:0", heartbeat=0.1)
numbers = bus.subscribe("n/#")
print(link.url, flush=True)
for msg in numbers:
    print(json.dumps([msg.value, msg.lost]), flush=True)
    if msg.value["last"]:
        break
print(json.dumps(link.stats()["lost_by_peers"]), flush=True)
"""


def await_state(link, state):
    deadline = time.monotonic() + WATCHDOG
    while link.state != state:
        assert time.monotonic() < deadline, f"the link is not {state}"
        time.sleep(0.001)


def test_a_receiver_that_was_stopped_learns_how_many_it_missed():
    receiver = subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True)
    bus = libbus.Bus()
    link = bus.dial(receiver.stdout.readline().strip(), heartbeat=0.1)
    await_state(link, "up")
    published = 0

    def publish(count, last=False):
        nonlocal published
        for _ in range(count):
            bus.publish("n/x", {"number": published, "last": last})
            published += 1
            time.sleep(0.0005)

    publish(200)
    receiver.send_signal(signal.SIGSTOP)
    publish(200)
    await_state(link, "down")
    publish(1000)
    receiver.send_signal(signal.SIGCONT)
    await_state(link, "up")
    publish(200)
    while receiver.poll() is None:  # with such a heartbeat a busy machine may break the link again
        publish(1, last=True)
        time.sleep(0.05)
    lines = receiver.stdout.read().splitlines()
    assert receiver.returncode == 0
    messages, lost_by_peers = [json.loads(line) for line in lines[:-1]], json.loads(lines[-1])
    numbers = [value["number"] for value, _ in messages]
    lost = sum(lost for _, lost in messages)
    assert lost >= 1000
    assert len(messages) + lost == numbers[-1] + 1
    assert numbers == sorted(set(numbers))
    assert lost_by_peers == lost
    bus.close()
