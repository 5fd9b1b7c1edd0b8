"""host_sensors as a process: recorded and live readings over a real link."""

import json
import os
import signal

import pytest
from patience import WATCHDOG
from programs import (
    HOST_SENSORS,
    LIBBUS,
    REPO,
    ipc_address,  # noqa: F401 (a fixture)
    run,
    started,
)

DATA = REPO / "tests" / "data"


def point_at(root, tree):
    """Replaces the tree by a later one."""
    (root.parent / "next").symlink_to(DATA / tree)
    os.replace(root.parent / "next", root)


def values_until(sub, done):
    """Reads messages into a dict of the newest values until done(values)."""
    values = {}
    while not done(values):
        line = sub.stdout.readline()
        assert line, sub.stderr.read()
        message = json.loads(line)
        values[message["topic"].removeprefix("host/raspberrypi/")] = message["value"]
    return values


RATES = (
    "net/eth0/rx_bytes_per_s",
    "net/eth0/tx_bytes_per_s",
    "disk/mmcblk0/read_bytes_per_s",
)


def a_second_later(sub, root):
    """The first values of each kind in a tree of one second later, and whether one round read all of that tree.

    A round that the change of trees falls into reads some files of each, and rates of two rounds are over two times.
    """
    point_at(root, "pi-root-1s-later")
    moved = values_until(
        sub, lambda v: "cpu/3" in v and all(v.get(rate) for rate in RATES) and "uptime_s" in v
    )
    rx, tx, read = (moved[rate] for rate in RATES)
    return moved, [rx / tx, read / rx] == pytest.approx([125000 / 6250, 2048 * 512 / 125000])


def test_a_recorded_raspberry_pi_is_published_exactly(tmp_path, ipc):
    root = tmp_path / "root"
    point_at(root, "pi-root")
    with (
        started(HOST_SENSORS, "--listen", ipc, "--root", root, "--interval", "50") as sensors,
        started(LIBBUS, "sub", "--json", "--dial", ipc, "host/#") as sub,
    ):
        in_one_round = False
        while not in_one_round:
            point_at(root, "pi-root")
            still = values_until(
                sub,
                lambda v: (
                    v.get("net/wlan0/rx_bytes_per_s") == 0 and v.keys() >= {RATES[0], "uptime_s"}
                ),
            )
            moved, in_one_round = a_second_later(sub, root)
        assert still["net/eth0/rx_bytes_per_s"] == 0
        assert "cpu/0" not in still  # no tick counted: the share is unknown
        assert [moved[f"cpu/{i}"] for i in range(4)] == pytest.approx([25, 0, 100, 7])

        latest = values_until(
            sub,
            lambda v: (
                "voltage/iio:device1/ads1015/voltage0" in v
                and v.get("uptime_s") == 21676.31
                and "memory/used_percent" in v
            ),
        )
        assert latest["memory/used_percent"] == 50
        sensors.send_signal(signal.SIGTERM)
        assert sensors.wait(WATCHDOG) == 0
        assert sensors.stderr.read() == ""


def test_late_joiners_get_kept_values(ipc):
    with started(
        HOST_SENSORS, "--listen", ipc, "--root", DATA / "pi-root", "--print", "--interval", "600000"
    ) as sensors:
        while "temperature/w1/" not in sensors.stdout.readline():
            pass
        done = run(
            LIBBUS, "sub", "--json", "--count", "1", "--dial", ipc, "host/+/memory/total_bytes"
        )
        message = json.loads(done.stdout)
        assert message["topic"] == "host/raspberrypi/memory/total_bytes"
        assert message["value"] == 3884328 * 1024
        assert type(message["value"]) is int
        assert message["kept"] is True


def test_readings_of_this_machine_match_proc():
    done = run(HOST_SENSORS, "--print", "--count", "2", "--interval", "100", "--host", "$me/+")
    assert done.returncode == 0, done.stderr
    readings = dict(line.rsplit(" ", 1) for line in done.stdout.decode().splitlines())
    with open("/proc/meminfo") as meminfo:
        total = next(int(line.split()[1]) for line in meminfo if line.startswith("MemTotal:"))
    assert int(readings["host/_me__/memory/total_bytes"]) == total * 1024
    with open("/proc/uptime") as uptime:
        assert 0 < float(readings["host/_me__/uptime_s"]) <= float(uptime.read().split()[0])
    assert 0 <= float(readings["host/_me__/memory/used_percent"]) <= 100


def test_sigint_ends_it_cleanly_between_rounds(ipc):
    with started(HOST_SENSORS, "--listen", ipc, "--print", "--interval", "600000") as sensors:
        assert sensors.stdout.readline().startswith("host/")
        sensors.send_signal(signal.SIGINT)
        assert sensors.wait(WATCHDOG) == 0


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        ((), 2, "give --bus NAME, --listen URL, --dial URL or --print"),
        (("--interval", "0", "--print"), 2, "--interval 0: give a whole number"),
        (("--print", "extra"), 2, "extra: unexpected argument"),
        (("--print", "--root", "/nowhere"), 2, "check --root, or give --host NAME"),
        (("--listen", "smoke://hill"), 1, "smoke://hill: unknown scheme"),
    ],
)
def test_a_mistake_is_answered_with_the_next_step(args, status, text):
    done = run(HOST_SENSORS, *args)
    assert text in done.stderr.decode()
    assert done.returncode == status


def test_a_tree_that_vanishes_for_a_while_does_not_end_the_program(tmp_path):
    done = run(
        HOST_SENSORS, "--print", "--host", "pi", "--root", tmp_path / "later", "--count", "1"
    )
    assert done.returncode == 0
    assert b"No such file or directory; trying again" in done.stderr
