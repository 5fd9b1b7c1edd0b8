"""Tests run in several processes (./dev test)."""

import os

import pytest


def encodable(data):
    if isinstance(data, str):
        return data.encode(errors="backslashreplace").decode()
    if isinstance(data, dict):
        return {encodable(key): encodable(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(map(encodable, data))
    return data


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session, items):
    """Before some are left for ./dev check."""
    session.files_with_tests = {item.path for item in items}


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable():
    """A report goes to the process that prints it as UTF-8, which has no lone surrogates. Tests print some."""
    return encodable((yield))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """In a lane that installs what its tests need, a skip would hide that it did not."""
    report = yield
    if report.skipped and "LIBBUS_NO_SKIPS" in os.environ:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} is skipped in its own lane: {report.longrepr}"
    return report
