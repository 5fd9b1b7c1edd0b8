"""A headless browser for ./dev demo --check and the tests of pages: the first one that starts here."""

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

# Their names in Debian, in Ubuntu's snap and by Google.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVERS = ("chromedriver", "chromium.chromedriver")
START_LIMIT_S = 60

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,1100",
]


class NoBrowserError(Exception):
    """No browser starts here; the text says what to do."""


def startable(names):
    """Returns the first of these programs that starts. On Ubuntu chromium is a script that only asks for snapd."""
    for name in names:
        path = shutil.which(name)
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if (
                path
                and not subprocess.run(
                    [path, "--version"], capture_output=True, timeout=START_LIMIT_S, check=False
                ).returncode
            ):
                return path
    return None


def archive_has_one():
    """Returns whether apt-get can install a browser that starts: on Debian, not on Ubuntu and its derivatives."""
    with contextlib.suppress(OSError):
        lines = Path("/etc/os-release").read_text().splitlines()
        return not any(line.startswith("ID") and "ubuntu" in line for line in lines)
    return True


def find():
    """Paths of a browser and its driver."""
    browser, driver = startable(BROWSERS), startable(DRIVERS)
    if browser and driver:
        return browser, driver
    missing = (
        f"none of {', '.join(BROWSERS)} starts" if not browser else "chromedriver does not start"
    )
    if archive_has_one():
        raise NoBrowserError(f"{missing}: apt-get install chromium chromium-driver")
    raise NoBrowserError(
        f"{missing}, and the archive of this system has no browser: install one with its driver from elsewhere, "
        "so that chromium --version and chromedriver --version answer"
    )


@contextlib.contextmanager
def chromium():
    """A running browser, as selenium's driver object."""
    browser, driver = find()
    try:
        from selenium import webdriver
    except ImportError:
        raise NoBrowserError(
            "selenium is missing, which drives the browser: pip install selenium"
        ) from None
    with tempfile.TemporaryDirectory(
        prefix="libbus-chromium-", ignore_cleanup_errors=True
    ) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield started
        finally:
            started.quit()
