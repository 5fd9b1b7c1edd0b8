"""ThreadSanitizer in a user's program: quiet about libbus, and not about the program."""

import os
import platform
import re
import subprocess
from pathlib import Path

import pytest
from patience import WATCHDOG

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LIBBUS_BUILD", ROOT / "build"))

pytestmark = pytest.mark.xdist_group("tsan")

PROGRAM = r"""
#include <libbus/libbus.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static int given, taken, raced;

static void show(void *arg, const struct bus_msg *msg)
{
	(void)arg;
	(void)msg;
	taken += given; /* written before the publish */
}

static void *race(void *arg)
{
	raced++;
	return arg;
}

static int link_up(struct bus *bus, const char *url)
{
	struct bus *other = NULL;
	struct bus_mailbox *mbox = NULL;
	const struct bus_msg *msg;
	struct bus_link *link = NULL;
	char address[256];
	int err = bus_listen(bus, url, NULL, &link);

	if (err == 0)
		err = bus_link_url(link, address, sizeof address); /* the port that the system chose */
	if (err > 0)
		err = bus_open(NULL, NULL, &other);
	if (err == 0)
		err = bus_mailbox_open(other, NULL, &mbox);
	if (err == 0)
		err = bus_mailbox_subscribe(mbox, "kept", NULL, NULL, NULL);
	if (err == 0)
		err = bus_dial(other, address, NULL, NULL);
	if (err == 0 && bus_recv(mbox, 60000, &msg) != 1)
		err = BUS_E_TIMEDOUT;
	bus_mailbox_close(mbox);
	bus_close(other, 1000);
	bus_link_close(link);
	return err;
}

int main(int argc, char **argv)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = argv[2]};
	const struct bus_msg kept = {
	    .size = sizeof kept, .topic = "kept", .data = "1", .len = 1, .flags = BUS_MSG_RETAIN};
	pthread_t threads[2];
	struct bus *bus = NULL;
	int err = argv[1][0] == '-' ? bus_open(NULL, NULL, &bus) : bus_open(argv[1], &cfg, &bus);

	if (err == 0)
		err = bus_subscribe(bus, "room/+/temperature", show, NULL, NULL);
	given = 7;
	for (int i = 0; err == 0 && i < 100; i++)
		err = bus_publish(bus, "room/kitchen/temperature", "21.5", 4);
	if (err == 0)
		err = bus_flush(bus, 60000);
	if (err == 0)
		err = bus_publish_msg(bus, &kept);
	if (err == 0 && argc > 4)
		err = link_up(bus, argv[4]);
	bus_close(bus, 60000);
	for (int i = 0; strcmp(argv[3], "race") == 0 && i < 2; i++)
		pthread_create(&threads[i], NULL, race, NULL);
	for (int i = 0; strcmp(argv[3], "race") == 0 && i < 2; i++)
		pthread_join(threads[i], NULL);
	printf("taken %d, %s\n", taken, bus_strerror(err));
	return 0;
}
"""


def without_random_addresses():
    """What a command starts with where the kernel places memory at random by more bits than older ThreadSanitizers
    know. Containers may forbid it, and there it may be needed or not."""
    prefix = ["setarch", platform.machine(), "-R"]
    allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    return prefix if allowed else []


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    install = ["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", root]
    subprocess.run(install, check=True, timeout=2 * WATCHDOG)
    return root


@pytest.fixture(scope="module")
def program(installed):
    (lib,) = {path.parent for path in installed.rglob("libbus.so")}
    (include,) = installed.rglob("include")
    out = installed / "program"
    subprocess.run(
        f"gcc -std=c11 -g -fsanitize=thread -I{include} -xc - -o {out}"
        f" -L{lib} -Wl,-rpath,{lib} -lbus -pthread".split(),
        check=True,
        input=PROGRAM,
        text=True,
        timeout=2 * WATCHDOG,
    )
    (suppressions,) = installed.rglob("share/libbus/tsan.supp")

    def run(*args, suppressed=True):
        options = f"suppressions={suppressions}" if suppressed else ""
        return subprocess.run(
            [*without_random_addresses(), out, *args],
            env=os.environ | {"TSAN_OPTIONS": options},
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * WATCHDOG,
        )

    return run


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("-", []),
        ("tsan", []),
        ("-", ["inproc://tsan"]),
        ("-", ["ipc://{}/tsan.sock"]),
        ("-", ["tcp://127.0.0.1:0"]),
    ],
    ids=["private", "named", "inproc", "ipc", "tcp"],
)
def test_a_sanitized_program_gets_no_report_about_libbus(program, name, url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("t")
    url = [each.format(folder) for each in url]
    done = program(name, folder, "quiet", *url)
    assert (done.returncode, done.stdout) == (0, "taken 700, success\n"), done.stderr
    assert "WARNING: ThreadSanitizer" not in done.stderr
    # The control: this very program is one that gets reports without the suppressions.
    done = program(name, folder, "quiet", *url, suppressed=False)
    assert done.stdout == "taken 700, success\n", done.stderr
    assert "WARNING: ThreadSanitizer: data race" in done.stderr


def test_a_race_of_the_program_itself_is_still_reported(program, tmp_path):
    done = program("-", tmp_path, "race")
    assert "data race" in done.stderr
    assert re.search(r"\brace\b .*<stdin>:", done.stderr)


def test_pkg_config_knows_where_the_suppressions_are(installed):
    (pc,) = installed.rglob("libbus.pc")
    found = subprocess.run(
        ["pkg-config", "--variable=tsan_suppressions", "libbus"],
        env=os.environ | {"PKG_CONFIG_PATH": str(pc.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (installed / found.stdout.strip().lstrip("/")).exists()
