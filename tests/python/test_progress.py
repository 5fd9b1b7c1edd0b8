"""bus.progress(): the progress of a job as the value of a topic, for pages and other processes."""

import asyncio
import gc
import subprocess
import sys
import threading

import pytest
from interpreter import run
from patience import WATCHDOG

import libbus
import libbus.testing


@pytest.fixture
def told(bus):
    return libbus.testing.record(bus, "job/#")


def test_a_loop_over_progress_yields_the_items_and_publishes_its_progress(bus, told):
    assert list(bus.progress("job/42", "abc", interval=0)) == ["a", "b", "c"]
    values = told.values("job/42")
    assert [value["done"] for value in values] == [0, 1, 2, 3, 3]
    assert [value["state"] for value in values] == ["running"] * 4 + ["done"]
    assert {value["total"] for value in values} == {3}
    kept = bus.get("job/42")
    assert kept.value == values[-1]
    assert set(kept.value) == set(libbus.ProgressValue.__annotations__)


def test_published_values_are_readable_as_their_type(bus):
    with bus.progress("job/1", 10) as job:
        job.advance(2.5)
    value = bus.get("job/1", type=libbus.ProgressValue).value
    assert (value["state"], value["done"], value["total"]) == ("done", 2.5, 10)
    assert value["error"] is value["note"] is value["eta"] is None
    assert value["rate"] > 0


def test_a_with_block_publishes_how_it_ended(bus):
    with bus.progress("job/1", total=3) as job:
        job.note("reading")
        job.advance()
        job.advance(2)
        assert (job.done, job.total, job.state) == (3, 3, "running")
    assert (job.state, bus.get("job/1").value["note"]) == ("done", "reading")
    with pytest.raises(ValueError, match="bad row"), bus.progress("job/2") as job:
        raise ValueError("bad row \udc80")
    value = bus.get("job/2").value
    assert (value["state"], value["error"]) == ("failed", "ValueError: bad row \\udc80")
    assert (value["total"], value["eta"]) == (None, None)
    with pytest.raises(KeyboardInterrupt), bus.progress("job/3", range(3)) as job:
        for _ in job:
            raise KeyboardInterrupt
    value = bus.get("job/3").value
    assert (value["state"], value["error"], value["done"]) == ("failed", "KeyboardInterrupt", 0)


def test_a_loop_that_is_left_early_has_stopped(bus):
    for item in bus.progress("job/1", range(10)):
        if item == 3:
            break
    value = bus.get("job/1").value
    assert (value["state"], value["done"]) == ("stopped", 3)

    def failing():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError):
        for _ in bus.progress("job/2", failing()):
            pass
    value = bus.get("job/2").value
    assert (value["state"], value["error"]) == ("failed", "LookupError: no more")
    assert (value["done"], value["total"]) == (1, None)


def test_a_loop_in_a_with_block_may_end_early_and_be_done(bus):
    with bus.progress("job/1", range(10)) as job:
        for item in job:
            if item == 3:
                break
        assert job.state == "running"
    assert bus.get("job/1").value["state"] == "done"


def test_the_rate_of_messages_is_capped_and_the_last_one_always_arrives(bus, told):
    with bus.progress("job/1", 100_000, interval=3600) as job:
        for _ in range(100_000):
            job.advance()
    assert [value["done"] for value in told.values()] == [0, 100_000]
    assert told.values()[-1]["state"] == "done"


def test_changes_in_between_are_published_after_the_interval(bus, told):
    job = bus.progress("job/1", 10, interval=0.01)
    job.advance()
    job.note("the rest takes long")
    while not (told.values()[-1]["note"] and told.values()[-1]["done"] == 1):
        told.wait(len(told) + 1, WATCHDOG)
    job.close()


def test_rate_and_time_left_follow_the_work_done(bus, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("libbus._progress.time.monotonic", lambda: now[0])
    job = bus.progress("job/1", 1000, interval=1)
    assert (job.value()["rate"], job.value()["eta"]) == (None, None)
    for _ in range(10):
        now[0] += 2
        job.advance(20)
    assert (job.value()["rate"], job.value()["eta"], job.value()["elapsed"]) == (10, 80, 20)
    for _ in range(30):  # it has become slower: the rate follows
        now[0] += 2
        job.advance(2)
    assert 1 <= job.value()["rate"] < 1.1
    now[0] += 1
    job.done = job.total = 2000
    job.close()
    value = bus.get("job/1").value
    assert (value["done"], value["total"], value["rate"]) == (2000, 2000, float(f"{2000 / 81:.4g}"))


def test_a_job_that_has_ended_publishes_no_more(bus):
    job = bus.progress("job/1", 3)
    job.fail("no disk")
    job.close()
    assert repr(job) == "<libbus.Progress job/1 failed, 0 of 3>"
    assert bus.get("job/1").value["error"] == "no disk"
    for call in (job.advance, lambda: job.note("x"), lambda: setattr(job, "done", 1)):
        with pytest.raises(libbus.StateError, match=r"^job/1: this job has ended \(failed\)"):
            call()


def test_a_job_that_is_dropped_or_whose_bus_is_closed_has_stopped(bus, told):
    bus.progress("job/1", 3).advance()
    gc.collect()
    assert told.values("job/1")[-1]["state"] == "stopped"
    with libbus.testing.Bus() as other, libbus.testing.record(other, "job/2") as end:
        job = other.progress("job/2", 3)
        other.close()
        assert job.state == "stopped"
        assert end.values()[-1]["state"] == "stopped"


def test_a_job_continues_when_its_progress_cannot_be_published(bus, caplog):
    with (
        bus.progress("job/1", 5, interval=0) as job,
        bus.subscribe("job/1", full="refuse", max_bytes=4096),
    ):
        while not caplog.records:
            job.advance()
        for _ in range(100):
            job.advance()
    assert len(caplog.records) == 1
    assert "progress of a job cannot be published: job/1: " in caplog.text
    assert bus.get("job/1").value["state"] == "done"


def test_bad_arguments_raise_at_the_call(bus):
    with pytest.raises(libbus.TopicError, match=r"job/\+"):
        bus.progress("job/+", 3)
    with pytest.raises(TypeError, match=r"job/1: total is given twice"):
        bus.progress("job/1", 3, total=4)
    with pytest.raises(TypeError, match=r"takes a total or an iterable, not object"):
        bus.progress("job/1", object())
    with pytest.raises(TypeError, match=r"job/1: this loop cannot iterate .*: give it an iterable"):
        iter(bus.progress("job/1", 3))
    with pytest.raises(TypeError, match=r"over the progress: write `for`"):
        aiter(bus.progress("job/1", [3]))
    with pytest.raises(ValueError, match=r"job/1: total=-3: give a number from 0 up"):
        bus.progress("job/1", -3)
    with pytest.raises(TypeError, match=r"job/1: total must be a number or None, not str"):
        bus.progress("job/1", []).total = "many"
    with pytest.raises(TypeError, match="a topic is a str, not int"):
        bus.progress(3)
    with pytest.raises(ValueError, match=r"job/1: interval=-1"):
        bus.progress("job/1", 3, interval=-1)


def test_threads_advance_one_job(bus):
    with bus.progress("job/1", 4000, interval=0) as job:
        threads = [
            threading.Thread(target=lambda: [job.advance() for _ in range(1000)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bus.get("job/1").value["done"] == 4000


def test_in_an_event_loop():
    async def items():
        for n in range(3):
            await asyncio.sleep(0)
            yield n

    async def main():
        async with libbus.Bus() as bus:
            async with bus.progress("job/1", items(), total=3) as job:
                assert [n async for n in job] == [0, 1, 2]
            assert bus.get("job/1").value["state"] == "done"
            assert [n async for n in bus.progress("job/2", items())] == [0, 1, 2]
            value = bus.get("job/2").value
            assert (value["state"], value["done"]) == ("done", 3)
            with pytest.raises(ValueError, match="broken"):
                async with bus.progress("job/3", items()) as job:
                    async for _ in job:
                        raise ValueError("broken")
            assert bus.get("job/3").value["error"] == "ValueError: broken"

    asyncio.run(main())


OTHER = """
import libbus, sys
with libbus.Bus("test", directory=sys.argv[1]) as bus:
    value = bus.wait("job/42", timeout=60).value
    print(value["state"], value["done"], value["total"], value["note"])
"""


def test_another_process_reads_it(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus, bus.progress("job/42", 3) as job:
        job.advance()
        job.note("half of it")
        job.done = 2
        job.close()
        answer = subprocess.check_output([sys.executable, "-c", OTHER, tmp_path], text=True)
    assert answer == "done 2 3 half of it\n"


def test_the_end_of_the_program_ends_its_jobs_and_is_silent(tmp_path):
    with libbus.Bus("test", directory=tmp_path) as bus:
        run(
            """
import libbus
bus = libbus.Bus("test", directory=DIRECTORY)
job = bus.progress("job/1", 3)
job.advance()
""",
            DIRECTORY=str(tmp_path),
        )
        assert bus.get("job/1").value["state"] == "stopped"
