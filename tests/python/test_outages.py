"""Events missed while a server fails, and the cost of lost pages, at a small scale; ./dev soak has the large one."""

import lost_pages
import outages
import pytest

pytestmark = pytest.mark.check


@pytest.mark.parametrize("worker", ["gthread", "sync"])
def test_a_page_misses_and_repeats_nothing_while_its_server_fails(worker):
    lines = []
    assert outages.run(worker=worker, outage_s=2, say=lines.append), "\n".join(lines)


@pytest.mark.parametrize("case", ["never-reads", "closed"])
def test_a_page_that_is_not_read_costs_little(case, capsys):
    assert lost_pages.measure(case, heartbeat=15, patient=True), capsys.readouterr().out


def test_a_page_whose_host_vanished_is_removed():
    if not lost_pages.has_networks():
        pytest.skip("no network of its own: the system lets unshare make none")
    assert lost_pages.in_a_network(heartbeat=1, patient=True)
