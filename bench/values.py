"""What values cost in Python, beside msgpack and json, in one run of interleaved rounds: CPU time of the thread, below 1 is less than theirs.

Run: ./dev bench values [ROUNDS]. Needs msgpack, which ./dev installs; NumPy for the array, if it is there.
"""

import json
import operator
import statistics
import sys
import time

import msgpack

import libbus

SMALL = {"id": 17, "name": "sensor-17", "celsius": 21.5, "ok": True, "tags": ["a", "b"]}
LARGE = {
    f"sensor-{i}": {
        "id": i,
        "name": f"sensor {i}",
        "celsius": 20 + i / 10,
        "ok": i % 3 == 0,
        "tags": ["a", "b"],
    }
    for i in range(500)
}
DIGITS = {"samples": [i / 7 for i in range(5000)]}  # floats of 16 and 17 digits
CASES = {"small dict": (SMALL, 3000), "large dict": (LARGE, 12), "5000 floats": (DIGITS, 12)}


def seconds(work, items):
    start = time.thread_time()
    for item in items:
        work(item)
    return (time.thread_time() - start) / len(items)


def messages(bus, value, count):
    with bus.subscribe("t", max_bytes=1 << 28) as sub:
        for _ in range(count):
            bus.publish("t", value)
        return list(sub.iter(timeout=0))


# One call into C each, as what they are compared with.
read_value = operator.attrgetter("value")
read_json = operator.methodcaller("json")


def compare(rounds):
    """{case: {name: (ours, theirs)}}, each a list of seconds."""
    found = {}
    with libbus.Bus() as bus:
        for _ in range(rounds):
            for case, (value, count) in CASES.items():
                packed = [libbus.packb(value)] * count
                values = [value] * count
                pairs = {
                    ".value vs msgpack.unpackb": (
                        lambda value=value, count=count: seconds(
                            read_value, messages(bus, value, count)
                        ),
                        lambda packed=packed: seconds(msgpack.unpackb, packed),
                    ),
                    "unpackb vs msgpack.unpackb": (
                        lambda packed=packed: seconds(libbus.unpackb, packed),
                        lambda packed=packed: seconds(msgpack.unpackb, packed),
                    ),
                    "packb vs msgpack.packb": (
                        lambda values=values: seconds(libbus.packb, values),
                        lambda values=values: seconds(msgpack.packb, values),
                    ),
                    ".json() vs json.dumps": (
                        lambda value=value, count=count: seconds(
                            read_json, messages(bus, value, count)
                        ),
                        lambda values=values: seconds(json.dumps, values),
                    ),
                }
                for name, sides in pairs.items():
                    for kept, side in zip(
                        found.setdefault((case, name), ([], [])), sides, strict=True
                    ):
                        kept.append(side())
    return found


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    for (case, name), (ours, theirs) in compare(rounds).items():
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        print(
            f"{case:12} {name:28} {statistics.median(ours) * 1e6:10.2f} µs {statistics.median(theirs) * 1e6:10.2f} µs"
            f"   {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
