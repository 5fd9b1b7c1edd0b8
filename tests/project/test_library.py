"""What the C library shows, what it includes, and what is installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import WATCHDOG

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LIBBUS_BUILD", ROOT / "build"))
HEADERS = [*sorted(p.name for p in (ROOT / "include/libbus").glob("*.h")), "version.h"]


def run(*command, **options):
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=2 * WATCHDOG, **options
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_exported_symbols_are_the_reviewed_ones():
    lines = run("nm", "-D", "--defined-only", BUILD / "libbus/libbus.so").splitlines()
    shown = sorted(line.split()[-1] for line in lines)
    listed = (ROOT / "tests/project/exports.txt").read_text().split()
    assert shown == listed, "a symbol came or went: review it and change tests/project/exports.txt"


def test_every_exported_function_is_declared_with_its_contract():
    text = "".join(
        (ROOT / "include/libbus" / name).read_text() for name in os.listdir(ROOT / "include/libbus")
    )
    for name in (ROOT / "tests/project/exports.txt").read_text().split():
        assert re.search(rf"BUS_API [^;]*\b{name}\(", text), (
            f"{name} is exported and in no public header"
        )


def test_every_exported_function_is_called_on_a_small_stack():
    text = (ROOT / "tests/reports/test_small_stack.c").read_text()
    for name in (ROOT / "tests/project/exports.txt").read_text().split():
        assert re.search(rf"\b{name}\(", text), (
            f"{name} is not called in tests/reports/test_small_stack.c"
        )


def test_includes_go_down_the_floors_only():
    run(sys.executable, ROOT / "tools/check_floors.py", ROOT)


def check_floors(root, **files):
    for name, text in files.items():
        path = root / "libbus" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".c").write_text(text)
    done = subprocess.run(
        [sys.executable, ROOT / "tools/check_floors.py", root],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.splitlines()


def test_floor_check_finds_what_goes_up_or_sideways_or_belongs_to_one_file(tmp_path):
    status, lines = check_floors(
        tmp_path,
        base__x='#include "bus/topic.h"\n#include <nng/nng.h>\n',
        value__y='#include "topic/name.h"\n',
    )
    assert status == 1
    assert len(lines) == 3


def test_floor_check_finds_large_files_large_circles_and_tests_of_the_kind(tmp_path):
    status, lines = check_floors(
        tmp_path,
        bus__long="\n" * 601,
        bus__kinds="if (bus->log == NULL)\n" * 9,
        **{f"named__u{i}": f'#include "named/u{(i + 1) % 10}.h"\n' for i in range(10)},
    )
    assert status == 1
    assert len(lines) == 3


def test_floor_check_prints_the_largest_circle_of_each_folder(tmp_path):
    status, lines = check_floors(
        tmp_path,
        bus__a='#include "bus/b.h"\n',
        bus__b='#include "bus/c.h"\n',
        bus__c='#include "bus/a.h"\n',
        base__x="",
    )
    assert status == 0
    assert lines[0].split() == ["3", "bus", "3", "lines", "largest", "circle", "3", "files"]
    assert lines[1].split() == ["0", "base", "0", "lines"]


@pytest.mark.parametrize(("prefix", "home"), [("msgpack_", "value_pack"), ("json_", "value_json")])
def test_third_party_names_stop_at_one_object(prefix, home):
    objects = sorted((BUILD / "libbus").glob("libbus_core.a.p/*.o"))
    lines = [line.split() for line in run("nm", "-u", "-A", *objects).splitlines()]
    users = {Path(line[0]).name for line in lines if line[-1].startswith(prefix)}
    assert len(users) == 1, users
    assert home in users.pop()


def test_library_fits_a_small_machine(tmp_path):
    stripped = tmp_path / "libbus.so"
    run("strip", "-o", stripped, BUILD / "libbus/libbus.so")
    assert stripped.stat().st_size <= 1 << 20


CLANG = shutil.which("clang") or shutil.which("clang-14")
COMPILERS = [
    [compiler, f"-x{language}", f"-std={standard}"]
    for compiler in ["gcc", *([CLANG] if CLANG else [])]
    for language, standards in (("c", "c11 c17"), ("c++", "c++11 c++17 c++20"))
    for standard in standards.split()
]
STRICT = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wundef",
    "-Wcast-qual",
    "-Wredundant-decls",
    "-Werror",
    "-fsyntax-only",
]
STRICT_OF = {
    "gcc -xc": "-Wstrict-prototypes -Wc++-compat",
    "gcc -xc++": "-Wold-style-cast -Wuseless-cast -Wzero-as-null-pointer-constant",
    "clang -xc": "-Wstrict-prototypes -Wc++-compat",
    "clang -xc++": "-Wold-style-cast -Wzero-as-null-pointer-constant",
}
# What a program does with the headers: initialisers and macros are expanded here, under its flags.
PROGRAM = """
int use(struct bus *bus);
int use(struct bus *bus)
{
	struct bus_stats stats;
	struct bus_member member;

	stats.size = sizeof stats;
	member.size = sizeof member;
	for (int i = 0; i < BUS_LOSS_ROOM; i++)
		stats.offered -= stats.lost[i];
	return bus_stats(bus, &stats) + bus_member(bus, 0, &member) + BUS_E_INVAL;
}
"""


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("compiler", COMPILERS, ids=" ".join)
def test_each_header_compiles_under_strict_flags_alone_and_beside_those_of_the_same_prefix(
    header, compiler
):
    source = f"#include <libbus/{header}>\n#include <signal.h>\n#include <linux/input.h>\n"
    kind = "clang" if compiler[0] == CLANG else "gcc"
    flags = [*STRICT, *STRICT_OF[f"{kind} {compiler[1]}"].split()]
    include = [f"-I{ROOT / 'include'}", f"-I{BUILD / 'include'}"]
    run(*compiler, *flags, *include, "-", input=source)
    if header == "libbus.h":
        run(*compiler, *flags, *include, "-", input=source + PROGRAM)


def test_strict_flags_still_find_what_they_are_for():
    """The pragmas of a header end with it: a user's own shadowing is reported behind it."""
    source = "#include <libbus/libbus.h>\nint f(int a) { { int a = 1; (void)a; } return a; }\n"
    include = [f"-I{ROOT / 'include'}", f"-I{BUILD / 'include'}"]
    done = subprocess.run(
        ["gcc", "-xc++", "-std=c++17", *STRICT, *include, "-"],
        check=False,
        capture_output=True,
        text=True,
        input=source,
    )
    assert done.returncode != 0
    assert "-Werror=shadow" in done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The library as `meson install` leaves it, under a root of its own."""
    root = tmp_path_factory.mktemp("root")
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", root)
    (pc,) = root.rglob("libbus.pc")
    (lib,) = {p.parent for p in root.rglob("libbus.so")}
    env = os.environ | {
        "PKG_CONFIG_PATH": str(pc.parent),
        "PKG_CONFIG_SYSROOT_DIR": str(root),
        "LD_LIBRARY_PATH": str(lib),
    }
    return root, env


def test_headers_and_command_are_installed(installed):
    root, env = installed
    assert {p.name for p in root.rglob("include/libbus/*.h")} == set(HEADERS)
    (command,) = [p for p in root.rglob("bin/libbus") if p.is_file()]
    version = run("pkg-config", "--modversion", "libbus", env=env).strip()
    assert run(command, "--version", env=env) == f"libbus {version}\n"
