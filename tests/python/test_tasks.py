"""The fifteen everyday tasks run as they stand, and none takes more lines than with the best peer."""

import runpy
import signal

import pytest
import task_lines

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def interrupts():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("task", [task for task in task_lines.ORDER if task != "test_with_pytest"])
def test_task_runs(task):
    runpy.run_path(task_lines.TASKS / f"{task}.py")


def test_the_task_for_pytest_runs(pytester):
    pytester.makepyfile((task_lines.TASKS / "test_with_pytest.py").read_text(encoding="utf-8"))
    options = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)


def test_no_task_takes_more_lines_than_with_the_best_peer():
    rows = task_lines.table()
    assert len(rows) == 15
    assert [row for row in rows if row[1] > row[2]] == []


def test_all_programs_are_in_the_table_and_compile():
    programs = {path.stem for path in task_lines.TASKS.glob("*.py")}
    assert programs == set(task_lines.ORDER)
    peers = {path for task in task_lines.ORDER for path in task_lines.peers_of(task).values()}
    assert peers == set(task_lines.TASKS.glob("peers/*.py"))
    assert {name for task in programs for name in task_lines.peers_of(task)} <= set(
        task_lines.PEERS
    )
    for path in peers:
        compile(path.read_text(encoding="utf-8"), path, "exec")
