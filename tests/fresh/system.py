"""A bare system: a root file system in namespaces of its own, on which nothing that is written stays."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from terminal import Terminal

HERE = Path(__file__).resolve().parent
USER = ("new", 4242)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
# How this machine reaches package registries, if that takes settings; a file that one names comes along.
NETWORK = (
    "PIP_CERT",
    "SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)

# Runs as the first process of the namespaces: an overlay whose upper half is in memory.
SETUP = """
set -e
mount -t tmpfs -o mode=755 fresh "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" fresh "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=1777,size=64m shm dev/shm
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755 run run
[ -z "$3" ] || ip link set lo up
echo ready
exec sleep infinity
"""


class System:
    """lower: the root's folder. online: shares this machine's network; otherwise it has a loopback of its own only."""

    def __init__(self, lower, online, log, limit_s):
        self.online, self.log, self.limit_s = online, log, limit_s
        self.folder = Path(tempfile.mkdtemp(prefix="libbus-fresh-"))
        self.root = self.folder / "root"
        self.terminals = []
        namespaces = [
            *("setpriv", "--pdeathsig", "KILL"),  # nothing stays behind, however this program ends
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
        ]
        if not online:
            namespaces.append("--net")
        self.holder = subprocess.Popen(
            [*namespaces, "sh", "-c", SETUP, "sh", self.folder, lower, "" if online else "offline"],
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.holder.stdout.readline() != "ready\n":
            self.close()
            raise SystemExit(
                "fresh: no namespaces or no overlay here: run it as root, on Linux 5.11 or later"
            )
        pid = self.holder.pid
        self.first = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
        name, uid = USER
        self.outside(
            "sh", "-ec",
            'echo "$2:x:$3:$3::/home/$2:/bin/bash" >>"$1/etc/passwd"; mkdir -p "$1/home/$2"; chown "$3:$3" "$1/home/$2"',
            "sh", self.root, name, str(uid),
        )  # fmt: skip
        self.environ = (
            {name: os.environ[name] for name in NETWORK if name in os.environ} if online else {}
        )
        for name, value in self.environ.items():
            if value.startswith("/"):  # under a name that no package of the bare system has
                self.environ[name] = f"/fresh-{name}"
                self.outside("install", "-m", "644", value, f"{self.root}/fresh-{name}")
        if online:
            self.outside(
                "cp", "--remove-destination", "/etc/resolv.conf", "/etc/hosts", self.root / "etc"
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for terminal in self.terminals:
            terminal.close()
        self.holder.kill()
        self.holder.wait()
        self.folder.rmdir()

    def read(self, path):
        command = ["nsenter", "--target", self.first, "--mount", "cat", f"{self.root}{path}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def outside(self, *command):
        """Runs a program of this machine that sees the bare system's files below self.root."""
        subprocess.run(["nsenter", "--target", self.first, "--mount", *command], check=True)

    def visitor(self, *arguments):
        """visit.py, a page's view, on the bare system's network."""
        command = [
            "nsenter",
            "--target",
            self.first,
            "--net",
            sys.executable,
            HERE / "visit.py",
            *arguments,
        ]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def home(self, user):
        return f"/home/{user}" if user != "root" else "/root"

    def clone(self, repository, user):
        """A clone of what is committed, in the home of the user."""
        target = f"{self.root}{self.home(user)}/libbus"
        # The checkout may belong to a user other than root.
        self.outside(
            "env", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
            "git", "clone", "--quiet", "--no-hardlinks", repository, target,
        )  # fmt: skip
        self.outside("chown", "-R", self.owner(user), target)
        return f"{self.home(user)}/libbus"

    def save(self, path, text, user):
        self.outside("sh", "-c", 'printf %s "$2" >"$1"', "sh", f"{self.root}{path}", text)
        self.outside("chown", self.owner(user), f"{self.root}{path}")

    def owner(self, user):
        return "0:0" if user == "root" else f"{USER[1]}:{USER[1]}"

    def terminal(self, user, folder):
        """A shell that has just been opened there."""
        rights = (
            [] if user == "root" else [f"--reuid={USER[1]}", f"--regid={USER[1]}", "--clear-groups"]
        )
        environ = self.environ | {
            "HOME": self.home(user),
            "USER": user,
            "PATH": SYSTEM_PATH if user == "root" else USER_PATH,
            "TERM": "dumb",
        }
        command = ["nsenter", "--target", self.first, "--mount", "--pid", "--net"]
        command += [
            "chroot",
            self.root,
            "setpriv",
            *rights,
            "env",
            "-i",
            *(f"{k}={v}" for k, v in environ.items()),
        ]
        command += [
            "setsid",
            "--ctty",
            "--wait",
            "bash",
            "--norc",
            "--noprofile",
            "--noediting",
            "-i",
        ]
        self.terminals.append(Terminal(command, self.log, self.limit_s))
        self.terminals[-1].succeed(f"cd {folder}")
        return self.terminals[-1]
