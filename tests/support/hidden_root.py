"""A root in which this machine has neither msgpack-c nor jansson nor mbedTLS, and no network but loopback.

Run as a program, in fresh namespaces, it hides them and then runs a command: `in_hidden_root()` gives the whole line. A file is
hidden by an empty one on top of it, a folder by an empty folder, which also a user without root may do. The linker of Debian loads
libjansson.so.4 itself: where something is to be built, that file stays.
"""

import fcntl
import glob
import os
import re
import shutil
import socket
import struct
import subprocess
import sys

LIBRARIES = ("msgpack", "jansson", "mbed")
PLACES = (
    "/usr/lib/lib{}*",
    "/usr/lib/*/lib{}*",
    "/usr/local/lib/lib{}*",
    "/usr/include/{}*",
    "/usr/local/include/{}*",
    "/usr/lib/*/pkgconfig/{}*",
    "/usr/share/pkgconfig/{}*",
    "/usr/local/lib/pkgconfig/{}*",
    "/usr/lib/*/cmake/{}*",
)
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # of <linux/sockios.h> and <linux/if.h>
EMPTY = "/run"  # a folder of every system; its contents do not matter once it is covered


def in_hidden_root(*command, keep=()):
    """The command line that runs command there. keep: names of LIBRARIES that stay; "ld": what the linker loads."""
    outer = ["unshare", "--mount", "--net", "--propagation", "private"]
    if os.geteuid() != 0:
        outer += ["--map-root-user"]
    return [*outer, sys.executable, __file__, ",".join(keep), *map(str, command)]


def of_linker():
    """The files that the linker loads."""
    ld = shutil.which("ld") or ""
    listed = subprocess.run(["ldd", ld], capture_output=True, text=True, check=False).stdout
    return {os.path.realpath(path) for path in re.findall(r"=> (/\S+)", listed)}


def hide(names, stay):
    mount = ["mount", "-t", "tmpfs", "-o", "mode=755", "hidden", EMPTY]
    subprocess.run(mount, check=True)
    folder = f"{EMPTY}/empty"
    os.mkdir(folder)
    covered = set(stay)
    for name in names:
        for place in PLACES:
            for path in glob.glob(place.format(name)):
                real = os.path.realpath(path)
                if real in covered or not os.path.exists(real):
                    continue
                covered.add(real)
                cover = folder if os.path.isdir(real) else "/dev/null"
                subprocess.run(["mount", "--bind", cover, real], check=True)


def bring_up(interface):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", interface.encode(), IFF_UP)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)


def main(keep, *command):
    words = keep.split(",")
    hide([name for name in LIBRARIES if name not in words], of_linker() if "ld" in words else ())
    bring_up("lo")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
