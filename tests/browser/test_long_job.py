"""examples/python/long_job: the page of a job in a process of its own, under gunicorn with two workers."""

import os
import shutil
import signal

import pytest
from browser import chromium
from page import picture, until
from programs import REPO
from webserver import Server

EXAMPLE = REPO / "examples/python/long_job"

pytestmark = pytest.mark.xdist_group("long_job")


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def server(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    name = f"test-long-job-{os.getpid()}-{os.urandom(4).hex()}"
    for program in tmp_path.glob("*.py"):
        source = program.read_text()
        assert source.count('"long-job"') == 1
        program.write_text(source.replace("long-job", name))
    with Server(tmp_path, "--workers", "2") as server:
        server.jobs = []
        yield server


def start(browser, server, numbers=None):
    """Presses the button; returns the process of the job that then runs."""
    browser.get(server.url)
    if numbers is not None:
        field = browser.find_element("css selector", "textarea")
        field.clear()
        field.send_keys(numbers)
    browser.find_element("css selector", "button").click()
    until(browser, "document.querySelectorAll('article').length", len(server.jobs) + 1)
    pids = (
        "[...document.querySelectorAll('b')].map((each) => Number(each.textContent.split('/')[2]))"
    )
    (job,) = set(browser.execute_script(f"return {pids}")) - set(server.jobs)
    server.jobs.append(job)
    return job


def row(job):
    return f"[...document.querySelectorAll('article')].find((each) => each.innerText.includes('/{job}\\n'))"


def state(job):
    return f"{row(job)}?.dataset.state"


def done(job):
    return f"{row(job)}?.querySelector('progress').value"


def text(browser, job):
    return browser.execute_script(f"return {row(job)}.querySelector('p').textContent")


def test_a_job_that_fails_says_where_and_why(browser, server):
    job = start(browser, server, "15 twelve 7")
    until(browser, state(job), "failed")
    assert text(browser, job) == (
        "failed · 1 of 3 · ValueError: invalid literal for int() with base 10: 'twelve'"
    )


def test_a_job_that_is_killed_has_failed(browser, server):
    job = start(browser, server)
    os.kill(job, signal.SIGKILL)
    until(browser, state(job), "failed")
    assert text(browser, job).endswith("the process was killed")


def test_a_page_opened_late_shows_how_far_each_job_is_and_new_workers_end_none(browser, server):
    done_job = start(browser, server, "600851475143 1234567891011")
    until(browser, state(done_job), "done")
    failed_job = start(browser, server, "15 28 twelve 7")
    until(browser, state(failed_job), "failed")
    job = start(browser, server)
    until(browser, f"{done(job)} > 9", True)
    os.kill(job, signal.SIGSTOP)

    early = browser.current_window_handle
    browser.switch_to.new_window("window")
    late = browser.current_window_handle
    browser.get(server.url)
    until(browser, f"{done(job)} > 9 && {state(job)}", "running")
    until(browser, f"{done(failed_job)} + {state(failed_job)}", "2failed")
    until(browser, f"{done(done_job)} + {state(done_job)}", "2done")
    picture(browser, "long_job.png", 900, 720)

    os.kill(job, signal.SIGCONT)  # first: Linux ends a stopped job when a worker of its group exits
    server.process.send_signal(signal.SIGHUP)  # other workers
    for page in (early, late):
        browser.switch_to.window(page)
        until(browser, done(job), 40)
        until(browser, state(job), "done")
    browser.close()
    browser.switch_to.window(early)


def test_the_example_has_less_than_100_lines():
    files = [file for file in EXAMPLE.rglob("*.*") if file.suffix != ".pyc"]
    assert {file.suffix for file in files} == {".py", ".html"}
    assert sum(len(file.read_text().splitlines()) for file in files) < 100
