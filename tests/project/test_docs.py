"""Every code block of the documentation runs as it stands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import migrate_lines
import pytest
from patience import WATCHDOG

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LIBBUS_BUILD", ROOT / "build"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Blocks that open a bus of the same name share its log, so they run one behind the other.
BUSES = re.compile(r"\b(home|chat|plant)\b")


def block(page, page_text, m):
    kind, text = m.groups()
    line = page_text[: m.start()].count("\n") + 1
    marks = [pytest.mark.xdist_group(name) for name in BUSES.findall(text)[:1]]
    return pytest.param(kind, text, id=f"{page.relative_to(ROOT)}:{line}", marks=marks)


BLOCKS = [
    block(page, page_text, m)
    for page in PAGES
    for page_text in [page.read_text(encoding="utf-8")]
    for m in BLOCK.finditer(page_text)
    # README's shell blocks set a machine up: tests/fresh pastes them into bare ones. The tutorial's blocks go on from one another:
    # tests/python/test_tutorial.py follows it.
    if (m[1], page.name) != ("sh", "README.md") and page.name != "tutorial.md"
]
# Set-up commands that other tests and this very run execute; here only their names are checked.
SETUP = ("./dev", "meson", "ninja", "build/bench/", "pip install ")
# What libbus is compared with. A block that needs a package which is not installed is skipped; one that needs a server too is
# compiled and not run.
PEERS = {"blinker", "flask_socketio", "gevent", "socketio", "taipy", "zmq"}
SERVERS = {"redis", "paho"}
REDIS = "redis://"
# gui.run() returns at once.
TAIPY_SERVES_NOBODY = """\
import functools
import taipy.gui
taipy.gui.Gui.run = functools.partialmethod(taipy.gui.Gui.run, run_server=False)
"""
IMPORTED = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)


def run(command, tmp_path, **env):
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * WATCHDOG,
        cwd=tmp_path,
        env=os.environ | env,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def run_python(text, tmp_path):
    imported = set(IMPORTED.findall(text))
    if "from libbus.socketio" in text:
        imported.add("socketio")
    for name in imported & PEERS:
        pytest.importorskip(name)
    if imported & SERVERS or REDIS in text:
        compile(text, "block.py", "exec")
        return
    if "taipy" in imported:
        text = TAIPY_SERVES_NOBODY + text
    (tmp_path / "block.py").write_text(text)
    # A block with tests is a test module; Hypothesis, which it does not use, takes most of the start.
    plugins = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    pytest_here = ["-m", "pytest", "-q", *plugins] if "\ndef test_" in text else []
    path = f"{BUILD / 'tools'}:{os.environ['PATH']}"
    run([sys.executable, *pytest_here, "block.py"], tmp_path, PATH=path)


def run_c(text, tmp_path):
    (tmp_path / "block.c").write_text(text)
    include = [f"-I{ROOT / 'include'}", f"-I{BUILD / 'include'}"]
    lib = BUILD / "libbus"
    run(
        [
            "cc",
            "-Wall",
            "-Wextra",
            "-Werror",
            "block.c",
            *include,
            f"-L{lib}",
            "-lbus",
            "-o",
            "block",
        ],
        tmp_path,
    )
    run(["./block"], tmp_path, LD_LIBRARY_PATH=str(lib))


def run_sh(text, tmp_path):
    rest = []
    for line in text.splitlines():
        if not line.startswith(SETUP):
            rest.append(line)
        elif line.startswith("./dev "):
            usage = subprocess.run(
                [ROOT / "dev"], check=False, capture_output=True, text=True, timeout=WATCHDOG
            ).stdout
            assert f"\n  {line.split()[1]} " in usage, line
    path = f"{BUILD / 'tools'}:{os.environ['PATH']}"
    run(["bash", "-euc", "\n".join(rest)], tmp_path, PATH=path)


def run_html(text, tmp_path):
    """A page takes a browser, in tests/browser/test_migrated_pages.py: that has the pages of migrate_lines.apps()."""
    shown = [page for _, _, page in migrate_lines.apps().values()]
    assert text.strip() in [page.strip() for page in shown if page], "no test shows this page"


def run_console(text, tmp_path):
    """A command and its output, which stand beside the programs of their page: test_not_arrived.py compares them."""
    page = (ROOT / "docs/not-arrived.md").read_text(encoding="utf-8")
    assert f"```console\n{text}```" in page, "no test runs this command"


RUNNERS = {"python": run_python, "c": run_c, "console": run_console, "sh": run_sh, "html": run_html}


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_code_block_runs(kind, text, tmp_path):
    assert kind in RUNNERS, (
        f"a block of kind {kind}: teach this test to run it, or make it plain text"
    )
    assert kind != "c" or shutil.which("cc")
    RUNNERS[kind](text, tmp_path)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_statements_about_delivery_name_tests_that_exist():
    named = re.findall(
        r"`(py )?(\w+):\s+(\w+)`", (ROOT / "docs/delivery.md").read_text(encoding="utf-8")
    )
    assert len(named) > 40
    for python, file, test in named:
        if file not in ("file", "report_file"):  # the example of how they are named
            path = f"tests/unit/test_{file}.c"
            if python:
                path = f"tests/python/test_{file}.py"
            elif file == "contract":
                path, test = "tests/contract/promises.def", f"PROMISE({test},"
            elif file.startswith("report_"):
                path = f"tests/reports/test_{file.removeprefix('report_')}.c"
            assert test in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {test}"
