"""Turns a copy of this machine into a bare one: only the required packages and the named ones, with what they depend on, stay.

hide.py ROOT PACKAGE...: edits ROOT in place. Of the other packages it removes the programs, headers and libraries, and
their entries in dpkg's list; apt-get answers for what stayed, since nothing is to be downloaded.
"""

import re
import shutil
import sys
from pathlib import Path

GONE = re.compile(
    r"/(usr/)?(s?bin|include|lib|libexec|share/(pkgconfig|cmake|aclocal|python3|node[^/]*|perl5?))/"
)

APT = """#!/bin/sh
# The packages that this system is to have are there; others are not to be had.
for word in "$@"; do
	case $word in
	-* | update | install) ;;
	*=*) ;; # the value of an option
	*)
		dpkg-query -W "$word" >/dev/null 2>&1 || {
			echo "E: $word is not among the packages of docs/install.md, nor needed by one of them" >&2
			exit 100
		}
		;;
	esac
done
"""


class Package:
    def __init__(self, paragraph):
        self.paragraph = paragraph
        fields = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.MULTILINE))
        self.name = fields["Package"]
        self.provides = names(fields.get("Provides", ""))
        self.installed = fields["Status"].endswith(" installed")
        self.required = fields.get("Essential") == "yes" or fields.get("Priority") == "required"
        # Each element: the alternatives, of which the first that is there counts.
        depends = ", ".join(fields[key] for key in ("Depends", "Pre-Depends") if key in fields)
        self.depends = [names(choice.replace("|", ",")) for choice in depends.split(",")]
        self.architecture = fields["Architecture"]


def names(text):
    return [re.split(r"[ :(]", word.strip())[0] for word in text.split(",") if word.strip()]


def closure(packages, wanted):
    """The packages that apt would have installed for the wanted ones, as far as they are here."""
    by_name = {}
    for package in packages:
        for name in [package.name, *package.provides]:
            by_name.setdefault(name, []).append(package)
    stay, todo = set(), [p for p in packages if p.required]
    for name in wanted:
        if name not in by_name:
            raise SystemExit(f"hide.py: {name} is not installed here")
        todo += by_name[name]
    while todo:
        package = todo.pop()
        if package in stay:
            continue
        stay.add(package)
        for choice in package.depends:
            todo += next((by_name[name] for name in choice if name in by_name), [])
    return stay


def files(root, package):
    info = root / "var/lib/dpkg/info"
    for name in (package.name, f"{package.name}:{package.architecture}"):
        if (info / f"{name}.list").exists():
            return (info / f"{name}.list").read_text().split("\n")
    return []


def main(root, *wanted):
    root = Path(root)
    status = root / "var/lib/dpkg/status"
    packages = [Package(p) for p in status.read_text().strip().split("\n\n")]
    packages = [p for p in packages if p.installed]
    stay = closure(packages, wanted)
    kept = {file for package in stay for file in files(root, package)}
    removed = 0
    for package in packages:
        for file in files(root, package) if package not in stay else ():
            path = root / file.lstrip("/")
            if GONE.match(file) and file not in kept and (path.is_symlink() or path.is_file()):
                path.unlink()
                removed += 1
    status.write_text("\n\n".join(p.paragraph for p in packages if p in stay) + "\n")
    # Whatever did not come in packages.
    for folder in ("usr/local", "opt", "root", "home"):
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(exist_ok=True)
    for name in ("apt", "apt-get"):
        (root / "usr/bin" / name).unlink(missing_ok=True)
        (root / "usr/bin" / name).write_text(APT)
        (root / "usr/bin" / name).chmod(0o755)
    print(f"{len(stay)} packages stay, {len(packages) - len(stay)} are hidden ({removed} files)")


main(*sys.argv[1:])
