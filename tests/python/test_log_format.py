"""docs/internals/log-format.md is enough to read a log: this reader was made from that page."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from log_reader import LogReader, listens

import libbus

WRITER = Path(os.environ.get("LIBBUS_BUILD", "build")) / "tests" / "log_writer"


def test_the_filters_of_a_member_are_read_by_the_page_too(tmp_path):
    tmp_path.chmod(0o700)
    long = "long/" + "x" * 1000
    with libbus.Bus("test", directory=tmp_path) as bus:
        one, two = bus.subscribe("room/#"), bus.subscribe(long, full="latest")
        bus.subscribe("gone").close()
        log, file = LogReader(tmp_path / "test.bus"), tmp_path / "test.listens-0"
        head, mailboxes, filters = listens(log, file)
        assert (head["pid"], head["filters"]) == (os.getpid(), 2)
        assert log.listens(0) == (4, 0)  # changes, filters beyond
        assert head["changes"] == 4 and head["program"].startswith("py")
        assert sorted(name for *_, name in filters) == [long, "room/#"]
        (first,) = (m for *m, name in filters if name == "room/#")
        full, _drain, peer, reached, delivered, lost, noted = mailboxes[tuple(first)]
        assert (full, peer, delivered, lost) == (0, 0, 0, 0)
        assert 0 < reached <= log.tail()
        assert 0 <= time.monotonic() - noted / 1e9 < 60
        assert len(mailboxes) == 2
        one.close(), two.close()
        assert listens(log, file)[1:] == ({}, [])
    assert not file.exists()


def expected(index):
    return {
        "payload": str(index).encode() + b"x" * (index % 300),
        "headers": b"\x81\xa1k\xa1v" if index % 5 == 0 else b"",
        "type": index % 5,
        "origin": 0,
        "expires_ns": index if index % 3 == 0 else None,
        "reply": index if index % 4 == 0 else None,
    }


@pytest.mark.parametrize("count", [10, 3000, 50000])
def test_a_reader_made_from_the_page_reads_the_log(tmp_path, count):
    tmp_path.chmod(0o700)
    writer = subprocess.Popen(
        [WRITER, tmp_path, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    last = int(writer.stdout.readline())
    log = LogReader(tmp_path / "test.bus")
    records = list(log.records())
    # After more records than the file holds, it has the newest ones, without a gap.
    assert last == count + 8
    assert [sequence for sequence, _ in records] == list(range(records[0][0], last + 1))
    assert (len(records) == last) == (count < 10000)
    for sequence, record in records:
        if sequence == 1 or sequence > count + 1:
            continue
        index = sequence - 1
        assert {key: record[key] for key in expected(index)} == expected(index)
        assert record["topic"] == f"t/{index % 7}"
    # A value stays after its first record is overwritten.
    assert log.value("kept/first") == b"one"
    assert log.value("kept/last") == b"end"
    assert log.value("t/1") is None
    # The second change of this bus; a deletion by another bus; and that bus's second change, which is the third here.
    own, gone = log.newest("kept/own"), log.newest("kept/gone")
    assert (own["payload"], own["changes"], own["bus"], own["until_ns"]) == (b"two", 2, None, None)
    assert (gone["payload"], gone["changes"], gone["bus"]) == (b"", 7, bytes(range(16)))
    other = log.newest("kept/other")
    assert (other["payload"], other["changes"], other["theirs"]) == (b"three", 3, 2)
    assert other["bus"] == bytes(range(16))
    assert 590 < gone["until_ns"] / 1e9 - time.monotonic() <= 600
    assert writer.communicate("")[0] == ""
    assert writer.returncode == 0
    assert list(tmp_path.iterdir()) == []
