"""Pastes the README into bare systems, as root and as a user, and looks at what it promises.

A system is "hidden" (this machine, with all but the packages that docs/install.md names hidden; nothing is downloaded) or a
release of Debian or Ubuntu, made by debootstrap. What is tested is the last commit. Whatever a system prints goes
to LOGS/SYSTEM-USER.log. Needs root.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from readme import Readme, packages
from system import System
from terminal import Failure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HIDDEN = "hidden"
# debootstrap's arguments. Debian has no package with Ubuntu's keys.
RELEASES = {
    "bookworm": [],
    "trixie": [],
    "noble": ["--components=main,universe", "--no-check-gpg"],
}
DEBOOTSTRAP = Path("/usr/share/debootstrap")
PACKAGES = r"\n  apt-get update && apt-get install([^\r\n]*)\r?\n"
ESCAPES = re.compile(r"\x1b\[[\d;]*[A-Za-z]|.*\r(?=.)")


def with_script(release, folder):
    """debootstrap's own folder, or one beside it where it does not know the release: all of Ubuntu's share a script."""
    if (DEBOOTSTRAP / "scripts" / release).exists():
        return DEBOOTSTRAP
    ours = folder / "debootstrap"
    shutil.rmtree(ours, ignore_errors=True)
    shutil.copytree(DEBOOTSTRAP, ours, symlinks=True)
    (ours / "scripts" / release).symlink_to("gutsy" if release == "noble" else "sid")
    return ours


def base(release, folder):
    """The release's minimal root, downloaded once."""
    root = folder / release
    if not (root / "complete").exists():
        print(f"making a minimal {release}", flush=True)
        subprocess.run(["rm", "-rf", root], check=True)
        command = ["debootstrap", "--variant=minbase", *RELEASES[release], release, root]
        environ = os.environ | {"DEBOOTSTRAP_DIR": str(with_script(release, folder))}
        log = folder / f"{release}.log"
        with log.open("w") as out:
            if subprocess.run(command, stdout=out, stderr=out, env=environ, check=False).returncode:
                raise SystemExit(f"fresh: debootstrap {release} failed: see {log}")
        (root / "complete").touch()
    return root


def received_bytes():
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    counters = (line.replace(":", " ").split() for line in lines)
    return sum(int(fields[1]) for fields in counters if fields[0] != "lo")


class Walk:
    """One newcomer on one system. Each step is timed; the first that fails ends the walk."""

    def __init__(self, system, name, user, tests):
        self.system, self.name, self.user, self.tests = system, name, user, tests
        self.folder = system.clone(ROOT, user)
        self.readme = Readme(system.read(f"{self.folder}/README.md"))
        self.shell = system.terminal(user, self.folder)
        self.steps = []

    @contextlib.contextmanager
    def step(self, what):
        begin, bytes_before = time.monotonic(), received_bytes()
        try:
            yield
        except Failure as failure:
            raise Failure(f"{self.name}, {self.user}, {what}: {failure}") from None
        seconds = time.monotonic() - begin
        loaded = f"{(received_bytes() - bytes_before) / 1e6:6.1f} MB" if self.system.online else ""
        print(f"  {what:<58} {seconds:6.1f} s {loaded}", flush=True)
        self.steps.append((what, seconds))

    def all(self):
        print(
            f"{self.name}, as {'root' if self.user == 'root' else 'a user without root'}",
            flush=True,
        )
        demo, test = self.readme.take("See it run").text.splitlines()
        with self.step("./dev demo, to the first reading on a page"):
            self.demo(demo)
        if self.tests:
            with self.step("./dev test"):
                self.dev_test(test)
        with self.step("the packages of one line in docs/install.md"):
            line = packages(self.system.read(f"{self.folder}/docs/install.md"))
            self.system.terminal("root", "/").succeed(line)
        with self.step("a virtual environment and pip install"):
            self.shell.succeed(self.readme.take("See it run").text)
        with self.step("a terminal: sub and pub"):
            self.shows(self.readme.take("In a terminal").text, "room/kitchen/temperature 21.5")
        with self.step("Python: hello.py"):
            self.save(self.readme.take("Python", "python"))
            self.shows("python hello.py", "room/kitchen/temperature 21.5", "{'on': True}")
        with self.step("a live page, changed from a second terminal"):
            self.page()
        with self.step("C: ./dev install --prefix ~/.local, cc, ./hello"):
            self.c()
        with self.step("C: ./dev install, where this user's default is"):
            self.c_by_default()
        if self.readme.left:
            raise Failure(f"no step pastes this block of README:\n{self.readme.left[0].text}")

    def shows(self, text, *wanted):
        output = self.shell.succeed(text)
        for line in wanted:
            if line not in output:
                raise Failure(f"{line!r} was not printed by\n{text}\nbut\n{output}")

    def with_packages(self, command, done):
        """Runs a command of ./dev; without root it may ask for packages once, in one line, that root then pastes."""
        self.shell.paste(command)
        if self.user != "root" and self.system.online:
            match = self.shell.expect(f"{PACKAGES}|{done}")
            if match[1] is None:
                return match
            self.shell.finish()
            line = f"apt-get update && apt-get install -y {match[1].strip()}"
            self.system.terminal("root", "/").succeed(line)
            self.shell.paste(command)
        return self.shell.expect(done)

    def demo(self, command):
        # One reading on the page is what the command itself waits for before it prints the address.
        self.with_packages(command, r"first reading .* after ([\d.]+) s")
        url = self.shell.expect(r"http://127\.0\.0\.1:\d+/")[0]
        self.visit(url, "host/#")
        self.shell.expect("Ctrl-C ends it")
        self.shell.interrupt()
        self.shell.finish()

    def dev_test(self, command):
        match = self.with_packages(command, r"all tests passed[^\n]*")
        print(f"    {ESCAPES.sub('', match[0]).strip()}", flush=True)
        self.shell.finish()

    def visit(self, *arguments):
        with self.system.visitor(*arguments) as visitor:
            output = visitor.communicate()[0]
        if visitor.returncode != 0:
            raise Failure(output)

    def save(self, block, folder=None):
        self.system.save(f"{folder or self.folder}/{block.file}", block.text, self.user)

    def page(self):
        self.save(self.readme.take("A live page", "python"))
        server = self.shell
        server.paste(self.readme.take("A live page").text)
        url, topic = "http://127.0.0.1:8000/", "room/kitchen/temperature"
        with self.system.visitor(url, "room/#", "22.5") as visitor:
            if visitor.stdout.readline() != "live\n":
                raise Failure(visitor.communicate()[0])
            second = self.system.terminal(self.user, self.folder)
            second.succeed(self.readme.take("A live page").text)
            output = visitor.communicate()[0]
        if f"{topic} 22.5\n" not in output:
            raise Failure(f"the page did not get {topic} 22.5: {output}")
        server.interrupt()
        server.finish()

    def c(self):
        self.hello = self.readme.take("C", "c")
        self.save(self.hello)
        self.shows(self.readme.take("C").text, "room/kitchen/temperature says 21.5")

    def c_by_default(self):
        fresh = self.system.terminal(self.user, self.folder)
        printed = fresh.succeed("./dev install")
        # The line that it prints where the shell does not search there.
        for line in re.findall(r"^  (export .*)$", printed, re.MULTILINE):
            fresh.succeed(line)
        output = fresh.succeed(
            "cc hello.c $(pkg-config --cflags --libs libbus) -o hello && ./hello && libbus --version"
        )
        if "says 21.5" not in output or "0.1" not in output:
            raise Failure(output)


def parse():
    parser = argparse.ArgumentParser(
        prog="dev fresh", description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n")[1]
    )
    parser.add_argument(
        "systems",
        nargs="*",
        default=[HIDDEN],
        metavar="SYSTEM",
        help=f"{HIDDEN} (the default), {', '.join(RELEASES)}",
    )
    parser.add_argument(
        "--user", choices=("root", "new"), help="one of them only; both unless given"
    )
    parser.add_argument(
        "--no-tests", action="store_true", help="leave out ./dev test, which takes minutes"
    )
    parser.add_argument(
        "--limit", type=float, default=1200, metavar="S", help="watchdog of a step (1200)"
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build/fresh", help="roots and logs (build/fresh)"
    )
    options = parser.parse_args()
    for name in options.systems:
        if name not in (HIDDEN, *RELEASES):
            parser.error(f"there is no system {name!r}: {HIDDEN}, {', '.join(RELEASES)}")
    return options


def named_packages():
    """For the system that hides the others."""
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    return packages(page).split("install -y", 1)[1].split()


def walk(name, user, options):
    hidden = name == HIDDEN
    (options.folder / "logs").mkdir(parents=True, exist_ok=True)
    lower = Path("/") if hidden else base(name, options.folder)
    log = options.folder / "logs" / f"{name}-{user}.log"
    with log.open("w") as out, System(lower, not hidden, out, options.limit) as system:
        if hidden:
            system.outside(sys.executable, HERE / "hide.py", system.root, *named_packages())
            system.outside("cp", "-r", options.folder / "wheels", system.root / "wheels")
            system.environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
            system.outside("mkdir", "-p", f"{system.root}/home/new")
            system.outside("chown", system.owner("new"), f"{system.root}/home/new")
        Walk(system, name, user, not hidden and not options.no_tests).all()


def main():
    # In a shell's background they are ignored, and so would Ctrl-C be inside.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    options = parse()
    if os.geteuid() != 0:
        print("fresh: it needs root, for namespaces in which another system is /", file=sys.stderr)
        return 1
    begin = time.monotonic()
    try:
        for name in options.systems:
            for user in [options.user] if options.user else ["root", "new"]:
                walk(name, user, options)
    except Failure as failure:
        print(f"fresh: {failure}\nfresh: all output is in {options.folder}/logs/", file=sys.stderr)
        return 1
    print(f"README holds on {', '.join(options.systems)} ({time.monotonic() - begin:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
