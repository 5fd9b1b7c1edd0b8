"""The man pages name what the command and the library have, and nothing else."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from patience import WATCHDOG

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LIBBUS_BUILD", ROOT / "build"))
COMMAND_PAGE = (ROOT / "man/libbus.1").read_text()
LIBRARY_PAGE = (ROOT / "man/libbus.3").read_text()
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")
# Where a help defines options: its usage, and the left column of its table.
DEFINES = re.compile(r"^(?:Usage:.*|       libbus .*|  --\S+(?: \S+)*)", re.MULTILINE)


def printed(*command, **env):
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        env=os.environ | env,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def help_of(*command):
    return printed(BUILD / "tools/libbus", *command, "--help")


def options_of(*command):
    return set(OPTION.findall("\n".join(DEFINES.findall(help_of(*command)))))


def commands():
    return {
        tuple(line.split()[:1])
        for line in re.findall(r"^  libbus ([a-z].*)$", help_of(), re.MULTILINE)
    }


def section(title):
    (text,) = re.findall(
        rf"^\.S[hs] {title}\n(.*?)(?=^\.S[hs] |\Z)", COMMAND_PAGE, re.MULTILINE | re.DOTALL
    )
    return text


def options_in(text):
    return set(re.findall(r"\bFl -([a-z-]+)", text))


def test_each_command_has_a_section_with_its_options():
    names = {name for (name,) in commands()}
    assert len(names) > 7
    assert set(re.findall(r"^\.Ss libbus (\w+)$", COMMAND_PAGE, re.MULTILINE)) == names
    shared = options_in(section("Options of several commands"))
    for name in names:
        own = options_in(section(f"libbus {name}"))
        shown = options_of(name)
        if name == "log":
            shown |= options_of("log", "tail")
            own |= options_in(section("libbus sub"))
        assert shown <= own | shared, f"libbus {name}: not in its section of man/libbus.1"


def test_the_page_has_no_option_that_no_command_has():
    there = set().union(
        *(options_of(*command) for command in commands()), options_of("log", "tail")
    )
    assert options_in(COMMAND_PAGE) - {"version"} <= there


def test_subcommands_are_in_the_page():
    for name in ("user", "cert", "log"):
        usage = help_of(name).partition("\n\n")[0]
        for each in re.findall(rf"libbus {name} ([a-z]+)", usage):
            assert re.search(rf"^\.(It )?Cm ({name} )?{each}\b", COMMAND_PAGE, re.MULTILINE), each


def test_every_function_is_in_the_overview():
    listed = set((ROOT / "tests/project/exports.txt").read_text().split())
    assert set(re.findall(r"\bFn (bus_\w+)", LIBRARY_PAGE)) == listed


def test_the_example_of_the_overview_runs(tmp_path):
    (text,) = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", LIBRARY_PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "example.c").write_text(text.replace("\\e", "\\"))
    lib = BUILD / "libbus"
    include = [f"-I{ROOT / 'include'}", f"-I{BUILD / 'include'}"]
    out = tmp_path / "example"
    flags = ["-Wall", "-Wextra", "-Werror", *include, f"-L{lib}", "-lbus"]
    printed("cc", tmp_path / "example.c", *flags, "-o", out)
    assert printed(out, LD_LIBRARY_PATH=str(lib)) == "room/door is open\n"


@pytest.mark.packaging
def test_pages_are_installed_and_are_well_formed():
    for program, package in {"mandoc": "mandoc", "man": "man-db"}.items():
        assert shutil.which(program), f"{program} is missing: apt install {package}"
    pages = sorted(Path(os.environ["LIBBUS_PREFIX"]).glob("share/man/man*/libbus.*"))
    assert [page.name for page in pages] == ["libbus.1", "libbus.3"]
    assert printed("mandoc", "-T", "lint", "-W", "warning", *pages) == ""
    for page in pages:
        shown = printed("man", "--warnings", "-l", "-P", "cat", page, LC_ALL="C.UTF-8")
        assert shown.count("\n") > 100
