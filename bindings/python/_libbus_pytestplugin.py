"""The pytest plugin of libbus: the fixtures bus, named_bus and open_bus.

It lies beside the package and imports it when a test uses a fixture: test runs without a bus do not load libbus.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from libbus.testing import Bus

# Seconds that callbacks have after a test to handle its messages.
SETTLE_S = 1.0

HINT = "(a test that expects this exception removes it from bus.failures)"

buses_key = pytest.StashKey[Any]()


@pytest.fixture
def open_bus(request: pytest.FixtureRequest) -> Iterator[Callable[..., Bus]]:
    """Opens buses and closes them after the test: open_bus() a private one; open_bus("home") a named one, in a directory of
    the test, where the same name is the same bus. Takes the arguments of libbus.Bus(). The test fails if a callback raises."""
    from libbus.testing import Bus

    buses: list[Bus] = []
    request.node.stash[buses_key] = buses
    with tempfile.TemporaryDirectory(prefix="libbus-") as directory:

        def open_one(name: str | None = None, **options: Any) -> Bus:
            if name is not None:
                options.setdefault("directory", directory)
            bus = Bus(name, **options)
            buses.append(bus)
            return bus

        try:
            yield open_one
        finally:
            for bus in reversed(buses):
                bus.close(SETTLE_S)
    if text := _failures(buses):
        pytest.fail(text, pytrace=False)


@pytest.fixture
def bus(open_bus: Callable[..., Bus]) -> Bus:
    """A private libbus.Bus for this test. The test fails if a callback raises."""
    return open_bus()


@pytest.fixture
def named_bus(open_bus: Callable[..., Bus]) -> Bus:
    """A named libbus.Bus, in a directory of this test. open_bus(named_bus.name) joins it once more, and so does
    libbus.Bus(named_bus.name, directory=named_bus.directory) in another process."""
    return open_bus("test")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, None]:
    """Checks here: a failure in a fixture's teardown would be an error beside a passed test."""
    outcome = yield
    if call.when != "call" or not (text := _failures(item.stash.get(buses_key, []))):
        return
    report = outcome.get_result()
    if report.passed and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = text
    else:
        report.sections.append(("libbus", text))


def _failures(buses: list[Bus]) -> str:
    texts = [text for bus in buses if (text := bus._take_failures(SETTLE_S))]
    return "\n\n".join([*texts, HINT]) if texts else ""
