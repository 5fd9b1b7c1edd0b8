"""What C programs and distributions get, in the ways of examples/build. Each command and its output are printed.

./dev packaging runs this: LIBBUS_PREFIX is a folder that libbus is installed in, and the build directory lies around it.
"""

import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from patience import WATCHDOG

pytestmark = pytest.mark.packaging
ROOT = Path(__file__).resolve().parents[2]
SAYS = "room/kitchen/temperature is 21.5\n"
PACKAGE_OF = {
    "abidw": "abigail-tools",
    "cmake": "cmake",
    "make": "make",
    "mandoc": "mandoc",
    "musl-gcc": "musl-tools",
}


def need(*programs):
    for name in programs:
        assert shutil.which(name), f"{name} is missing: apt install {PACKAGE_OF[name]}"


def run(command, folder, status=0, **env):
    """Runs a line of a shell, and returns what it prints."""
    print(f"\n$ {command}")
    done = subprocess.run(
        command,
        shell=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=5 * WATCHDOG,
        cwd=folder,
        env=os.environ | {key: str(value) for key, value in env.items()},
    )
    print(done.stdout, end="")
    assert done.returncode == status, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix():
    return Path(os.environ["LIBBUS_PREFIX"])


@pytest.fixture
def samples(tmp_path):
    """The samples, in a folder where they may leave what they build."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path / "examples/build"


@pytest.fixture(scope="module")
def archive(prefix, tmp_path_factory):
    """The source archive of the last commit, unpacked."""
    build = prefix.parent
    run("meson dist --no-tests --formats gztar --allow-dirty", build)
    (made,) = (build / "meson-dist").glob("libbus-*.tar.gz")
    out = tmp_path_factory.mktemp("dist")
    run(f"tar -xzf {made}", out)
    (folder,) = out.iterdir()
    return folder


def needed_libraries(program, folder):
    lines = run(f"readelf -d {program}", folder).splitlines()
    return " ".join(line for line in lines if "(NEEDED)" in line)


def test_make_and_pkg_config_link_the_shared_library(samples, prefix):
    need("make")
    folder = samples / "pkg-config"
    run("make", folder, PKG_CONFIG_PATH=prefix / "lib/pkgconfig")
    assert run("./hello", folder) == SAYS
    assert "libbus.so.0" in needed_libraries("hello", folder)


def test_pkg_config_names_what_a_static_program_links(samples, prefix):
    need("make")
    env = {"PKG_CONFIG_PATH": prefix / "lib/pkgconfig"}
    folder = samples / "pkg-config-static"
    shown = run("pkg-config --libs libbus", folder, **env).split()
    assert {word for word in shown if word.startswith("-l")} == {"-lbus"}
    private = run("pkg-config --static --libs libbus", folder, **env).split()
    assert {"-lbus", "-lmbedtls", "-ljansson", "-Wl,-z,nodelete"} <= set(private)
    assert not [word for word in private if ".so" in word]
    run("make", folder, **env)
    assert needed_libraries("hello", folder) == ""
    assert run("./hello", folder) == SAYS


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_cmake_finds_each_library(samples, prefix, kind):
    need("cmake")
    folder = samples / "cmake"
    static = "ON" if kind == "static" else "OFF"
    run(
        f"cmake -S . -B build -DCMAKE_PREFIX_PATH={prefix} -Dlibbus_USE_STATIC_LIBS={static}",
        folder,
    )
    run("cmake --build build", folder)
    assert run("build/hello", folder) == SAYS
    assert ("libbus" in needed_libraries("build/hello", folder)) == (kind == "shared")


def test_cmake_uses_the_static_library_where_there_is_no_other(samples, prefix, tmp_path):
    need("cmake")
    shutil.copytree(prefix, tmp_path / "moved", symlinks=True)
    for name in (tmp_path / "moved/lib").glob("libbus.so*"):
        name.unlink()
    folder = samples / "cmake"
    run(f"cmake -S . -B build -DCMAKE_PREFIX_PATH={tmp_path}/moved", folder)
    run("cmake --build build", folder)
    assert run("build/hello", folder) == SAYS
    (tmp_path / "moved/lib/libbus.a").unlink()
    shown = run(f"cmake -S . -B none -DCMAKE_PREFIX_PATH={tmp_path}/moved", folder, status=1)
    assert "build libbus with" in shown
    assert "-Ddefault_library=both" in shown


@pytest.mark.parametrize("wanted", ["0.2", "1.0"])
def test_cmake_refuses_a_version_that_is_not_installed(samples, prefix, wanted):
    need("cmake")
    lists = samples / "cmake/CMakeLists.txt"
    lists.write_text(lists.read_text().replace("libbus 0.1 CONFIG", f"libbus {wanted} CONFIG"))
    shown = run(f"cmake -S . -B build -DCMAKE_PREFIX_PATH={prefix}", lists.parent, status=1)
    assert f'requested version "{wanted}"' in shown


def test_meson_uses_an_installed_libbus(samples, prefix):
    folder = samples / "meson-subproject"
    run("meson setup build", folder, PKG_CONFIG_PATH=prefix / "lib/pkgconfig")
    run("ninja -C build", folder)
    assert run("build/hello", folder) == SAYS


@pytest.mark.parametrize(
    "options",
    [
        "",
        "-Dwerror=true -Dwarning_level=everything -Dc_std=c99 -Dunity=on -Ddefault_library=static",
    ],
    ids=["plain", "a strict parent"],
)
def test_meson_builds_the_source_archive_as_a_subproject(samples, archive, options):
    folder = samples / "meson-subproject"
    (folder / "subprojects").mkdir()
    shutil.copytree(archive, folder / "subprojects/libbus")
    run(f"meson setup build --force-fallback-for=libbus -Doptimization=0 {options}", folder)
    run("ninja --quiet -C build", folder)
    assert run("build/hello", folder) == SAYS
    assert "No tests defined" in run("meson test -C build", folder)


def test_the_compiler_alone_builds_a_program(samples, prefix):
    folder = samples / "cc"
    run("./build.sh", folder, PREFIX=prefix)
    assert run("./hello", folder) == SAYS


def test_every_sample_is_built_here():
    text = Path(__file__).read_text()
    for folder in (ROOT / "examples/build").iterdir():
        assert folder.name == "README.md" or f'samples / "{folder.name}' in text


def test_the_page_about_installing_shows_the_lines_of_the_samples():
    text = (ROOT / "docs/install.md").read_text()
    shown = text[text.index("## C programs") : text.index("## The command")]
    for name in ("cmake/CMakeLists.txt", "meson-subproject/meson.build"):
        lines = (ROOT / "examples/build" / name).read_text().splitlines()
        lines = [
            line for line in lines if line and not line.startswith(("#", "project(", "cmake_"))
        ]
        assert "\n".join(lines).replace("../../c/hello.c", "hello.c") in shown


def test_source_archive_builds_and_passes_a_test(archive, tmp_path):
    listed = subprocess.check_output(["git", "ls-tree", "-r", "--name-only", "HEAD"], cwd=ROOT)
    tracked = listed.decode().splitlines()
    assert {name for name in tracked if not (archive / name).exists()} == set()
    build = tmp_path / "build"
    run(
        f"meson setup {build} -Doptimization=0 -Dpython=disabled -Dtools=false -Dexamples=false",
        archive,
    )
    run(f"ninja --quiet -C {build} tests/test_ring", archive)
    assert "Ok:                1" in run(f"meson test -C {build} --no-rebuild ring", archive)


# What a system with musl has beside it: the libraries' headers and those of the kernel.
FOREIGN = "msgpack msgpack.h jansson.h jansson_config.h nng mbedtls psa linux asm-generic"
WARNINGS = (
    "-Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wno-sign-conversion -Wvla"
    " -Wformat=2 -Wundef -Werror"
)


def test_every_file_of_the_library_compiles_with_musl(prefix, tmp_path):
    need("musl-gcc")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in FOREIGN.split():
        (foreign / name).symlink_to(Path("/usr/include") / name)
    machine = subprocess.run(
        ["gcc", "-print-multiarch"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (foreign / "asm").symlink_to(Path("/usr/include") / machine / "asm")
    files = sorted((ROOT / "libbus").rglob("*.c"))
    options = (
        f"-std=c11 -O2 {WARNINGS} -fvisibility=hidden -pthread -D_FILE_OFFSET_BITS=64 -isystem {foreign}"
        f" -I{ROOT}/include -I{ROOT}/libbus -I{prefix}/include"
    )

    def compiles(file):
        return subprocess.run(
            ["musl-gcc", *shlex.split(options), "-c", file, "-o", tmp_path / f"{hash(file)}.o"],
            check=False,
            capture_output=True,
            text=True,
            timeout=WATCHDOG,
        )

    print(f"\n$ musl-gcc {options} -c FILE   ({len(files)} files, none left out)")
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        done = list(threads.map(compiles, files))
    assert len(files) > 150
    assert "".join(each.stderr for each in done) == ""
    assert {each.returncode for each in done} == {0}


@pytest.fixture
def abi(prefix, tmp_path):
    need("abidw")

    def compare(record, status):
        return run(f"{sys.executable} tools/abi.py {prefix} --record {record}", ROOT, status=status)

    return compare


def test_interface_is_the_recorded_one(abi):
    if os.uname().machine != "x86_64":
        pytest.skip("the record is of x86-64")
    abi(ROOT / "tests/build/libbus.abi", 0)


def test_a_changed_interface_is_shown_with_the_command_that_records_it(abi, prefix, tmp_path):
    recorded = tmp_path / "libbus.abi"
    run(f"{sys.executable} tools/abi.py {prefix} --remake --record {recorded}", ROOT)
    abi(recorded, 0)
    text = recorded.read_text()
    assert str(ROOT) not in text
    assert text.count("'bus_flush'") > 1
    recorded.write_text(text.replace("'bus_flush'", "'bus_flushed'"))
    shown = abi(recorded, 1)
    assert "function int bus_flushed" in shown
    assert "needs another soname" in shown
    assert "./dev abi --remake" in shown
