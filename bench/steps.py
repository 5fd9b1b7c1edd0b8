"""One step of a message's way through Python, COUNT times: bench/python.py counts its instructions.

Run: bench/steps.py STEP COUNT. Each step does what the one named beside it does, and one thing more; the difference is its cost.
"""

import sys
import tempfile

import libbus

SMALL = {"id": 17, "name": "sensor-17", "celsius": 21.5, "ok": True, "tags": ["a", "b"]}
BYTES = b"x" * 64
ROOM = 1 << 26


def loop(count):
    for _ in range(count):
        pass


def with_bus(work, *, named=False):
    """work(bus, publisher, subscription, count) on a bus of its own."""

    def run(count):
        with tempfile.TemporaryDirectory() as directory:
            bus = libbus.Bus("steps", directory=directory) if named else libbus.Bus()
            with bus, bus.publisher("t") as pub, bus.subscribe("t", max_bytes=ROOM) as sub:
                work(bus, pub, sub, count)

    return run


def publish(bus, pub, sub, count):
    call = bus.publish
    for _ in range(count):
        call("t", BYTES)


def send(bus, pub, sub, count):
    call = pub.send
    for _ in range(count):
        call(BYTES)


def send_dict(bus, pub, sub, count):
    call = pub.send
    for _ in range(count):
        call(SMALL)


def recv(bus, pub, sub, count):
    call, take = pub.send, sub.recv
    for _ in range(count):
        call(BYTES)
        take()


def recv_data(bus, pub, sub, count):
    call, take = pub.send, sub.recv
    for _ in range(count):
        call(BYTES)
        take().data  # noqa: B018


def recv_dict(bus, pub, sub, count):
    call, take = pub.send, sub.recv
    for _ in range(count):
        call(SMALL)
        take()


def recv_value(bus, pub, sub, count):
    call, take = pub.send, sub.recv
    for _ in range(count):
        call(SMALL)
        take().value  # noqa: B018


def callbacks(bus, pub, sub, count):
    """Callbacks run on a thread of their own, which takes 64 messages at a time."""
    sub.close()
    bus.on("t", lambda msg: None, max_bytes=ROOM)
    send(bus, pub, sub, count)
    bus.flush()


# name: (what is counted, the step without it, what runs)
STEPS = {
    "loop": (None, None, loop),
    "publish": ("bus.publish(topic, 64 bytes)", "loop", with_bus(publish)),
    "send": ("publisher.send(64 bytes)", "loop", with_bus(send)),
    "send-dict": ("publisher.send(small dict)", "loop", with_bus(send_dict)),
    "recv": ("subscription.recv()", "send", with_bus(recv)),
    "data": ("msg.data, 64 bytes", "recv", with_bus(recv_data)),
    "recv-dict": (None, "send-dict", with_bus(recv_dict)),
    "value": ("msg.value, small dict", "recv-dict", with_bus(recv_value)),
    "callback": ("a callback that does nothing", "send", with_bus(callbacks)),
    "named-send": ("publisher.send(64 bytes), named bus", "loop", with_bus(send, named=True)),
    "named-recv": ("subscription.recv(), named bus", "named-send", with_bus(recv, named=True)),
}


if __name__ == "__main__":
    STEPS[sys.argv[1]][2](int(sys.argv[2]))
