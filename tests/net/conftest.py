"""Prints the measurements of the network tests at the end of their output."""

import pytest
from lab import Lab

MEASURED = []


@pytest.fixture
def lab():
    with Lab() as lab:
        yield lab


@pytest.fixture
def measured(request):
    """measured("noticed", seconds, limit)"""

    def add(what, seconds, limit):
        MEASURED.append(f"{request.node.name:70} {what:8} {seconds:6.2f} s, of at most {limit:g}")
        assert seconds <= limit, MEASURED[-1]

    return add


def pytest_terminal_summary(terminalreporter):
    for line in MEASURED:
        terminalreporter.write_line(line)
