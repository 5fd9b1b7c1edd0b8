"""Floors: each file of libbus/ includes only its own folder and the floors below, so no circle of includes leaves a folder;
third-party names stop at one file each; files are short, circles of files inside a folder small, and whether a bus is private or
named is a table (bus/kind.h, mailbox/source.h) and hardly ever an `if`.

Run: python3 tools/check_floors.py [ROOT] [--svg FILE [--before COMMIT]]. Prints each offence; status 1 if there is any. Otherwise it
prints the floors, the lines of each folder, and its largest circle of files, which can only be understood together; then each limit
with the present number. --svg also draws the floors, below those of an earlier commit.
"""

import argparse
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FLOOR = {
    "base": 0,
    "queue": 1,
    "log": 1,
    "topic": 1,
    "value": 1,
    "loop": 1,
    "crypto": 1,
    "access": 2,
    "mailbox": 2,
    "bus": 3,
    "named": 4,
    "link": 5,
    "transport": 6,
    "push": 6,
}
ONLY_IN = {  # header: the one file of libbus/, or folder, that may include it
    "nng/": "transport/nng_wire.c",
    "msgpack": "value/pack.c",
    "jansson.h": "value/json.c",
    "mbedtls/": "crypto/",
    "psa/": "crypto/",
}
# Files outside may use public headers only; the extension, which holds the whole library, also floor 0 and the packing of values.
OUTSIDE = {"tools": (), "examples": (), "gateways": (), "bindings": ("base", "value")}
EARLIER = {"core": 3}  # removed rooms, for drawings of earlier commits
LINES_MOST = 600
TEST_LINES_MOST = 800
CIRCLE_MOST = 9
KIND_TESTS_MOST = 8
KIND_TEST = re.compile(r"->(?:log|reader) [!=]= NULL")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)


def includes(path):
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def is_above(name, folder):
    """Returns whether a file of folder may not include name: name is on a floor above, or in another room of the same floor."""
    other = name.split("/")[0]
    if other == folder or other not in FLOOR:
        return False
    return FLOOR[other] >= FLOOR[folder]


def offences(root):
    for path in sorted((root / "libbus").rglob("*.[ch]")):
        inside = path.relative_to(root / "libbus")
        for name in includes(path):
            if is_above(name, inside.parts[0]):
                yield f"libbus/{inside} includes {name}, which is not on a floor below"
            for foreign, home in ONLY_IN.items():
                if name.startswith(foreign) and not str(inside).startswith(home):
                    yield f"libbus/{inside} includes {name}; only {home} may"
    for folder, allowed in OUTSIDE.items():
        for path in sorted((root / folder).rglob("*.[ch]")):
            for name in includes(path):
                first = name.split("/")[0]
                if first in FLOOR and first not in allowed:
                    yield f"{path.relative_to(root)} includes {name}; it may use public headers only"


def graph(root):
    """Each unit, a .c with its .h, and the units whose headers it includes."""
    units = {}
    for path in sorted((root / "libbus").rglob("*.[ch]")):
        unit = str(path.relative_to(root / "libbus").with_suffix(""))
        units.setdefault(unit, set()).update(name[:-2] for name in includes(path))
    return {unit: (names & units.keys()) - {unit} for unit, names in units.items()}


def circles(units):
    """The sets of units that reach each other, largest first."""
    reached = {}
    for unit in units:
        seen, left = set(), list(units[unit])
        while left:
            other = left.pop()
            if other not in seen:
                seen.add(other)
                left += units[other]
        reached[unit] = seen
    found = {
        frozenset(other for other in seen if unit in reached[other])
        for unit, seen in reached.items()
        if unit in seen
    }
    return sorted(found, key=len, reverse=True)


def sizes(root, folder, suffixes):
    """Lines and path of each such file, the largest first."""
    files = [path for path in (root / folder).rglob("*") if path.suffix in suffixes]
    counted = [(path.read_text(encoding="utf-8").count("\n"), path) for path in files]
    return sorted(((lines, str(path.relative_to(root))) for lines, path in counted), reverse=True)


def of_library(root):
    return sizes(root, "libbus", {".c", ".h"})


def of_tests(root):
    return sizes(root, "tests", {".c", ".h", ".cpp", ".hpp", ".py"})


def count_kind_tests(root):
    files = [root / name for _, name in of_library(root)]
    return sum(len(KIND_TEST.findall(path.read_text(encoding="utf-8"))) for path in files)


def excesses(root, found):
    for files, most in ((of_library(root), LINES_MOST), (of_tests(root), TEST_LINES_MOST)):
        for lines, name in files:
            if lines > most:
                yield f"{name} has {lines} lines, of at most {most}: split it by idea"
    for circle in found:
        if len(circle) > CIRCLE_MOST:
            yield f"a circle of {len(circle)} files, of at most {CIRCLE_MOST}: {' '.join(sorted(circle))}"
    kind_tests = count_kind_tests(root)
    if kind_tests > KIND_TESTS_MOST:
        yield f"{kind_tests} tests for private or named, of at most {KIND_TESTS_MOST}: make them an entry of bus/kind.h"


def limits(root, found):
    """Returns each limit with the present number."""
    rooms = [{name.split("/")[0] for name in circle} for circle in found]
    inside = max(found, key=len, default=())
    yield f"largest circle of files: {len(inside)} of at most {CIRCLE_MOST}"
    yield f"circles that leave a folder: {sum(len(room) > 1 for room in rooms)} of 0"
    yield f"tests for private or named: {count_kind_tests(root)} of at most {KIND_TESTS_MOST}"
    for files, most in ((of_library(root), LINES_MOST), (of_tests(root), TEST_LINES_MOST)):
        if files:
            yield f"largest file: {files[0][1]}, {files[0][0]} lines of at most {most}"


def picture(root, found):
    """One line for each folder, the highest floor first."""
    floor = FLOOR | EARLIER
    lines = {}
    for path in (root / "libbus").rglob("*.[ch]"):
        folder = path.relative_to(root / "libbus").parts[0]
        lines[folder] = lines.get(folder, 0) + path.read_text(encoding="utf-8").count("\n")
    for folder in sorted(lines, key=lambda name: (-floor[name], name)):
        largest = max((len(c) for c in found if folder == min(c).split("/")[0]), default=0)
        circle = f"   largest circle {largest} files" if largest else ""
        yield f"{floor[folder]}  {folder:<10}{lines[folder]:>7} lines{circle}"


WIDTH, HEIGHT, GAP = 760, 44, 8  # of the drawing, of a floor, between floors


def box(x, y, width, words):
    room, lines = words.split()[1:3]
    circle = f", circle of {words.split()[-2]}" if "circle" in words else ""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="4" class="room"/>'
        f'<text x="{x + 10}" y="{y + 19}" class="name">{room}/</text>'
        f'<text x="{x + 10}" y="{y + 36}">{int(lines):,} lines{circle}</text>'
    )


def house(lines, top):
    """Draws the floors as boxes, the highest on top; rooms of one floor share it evenly. Returns the boxes and their lower end."""
    floors = {}
    for words in lines:
        floors.setdefault(words.split()[0], []).append(words)
    boxes = []
    for level, rooms in enumerate(floors.values()):
        share = (WIDTH - GAP * (len(rooms) - 1)) / len(rooms)
        y = top + level * (HEIGHT + GAP)
        for i, words in enumerate(rooms):
            boxes.append(box(round(i * (share + GAP)), y, round(share), words))
    return boxes, top + len(floors) * (HEIGHT + GAP) - GAP


def drawing(lines, before=()):
    """Draws the floors, below those of the earlier commit."""
    boxes, height = [], 0
    if before:
        boxes, height = house(before, 0)
        height += 4 * GAP
    boxes += (now := house(lines, height))[0]
    height = now[1]
    style = (
        "text{font:12px sans-serif;fill:#444}.name{font-weight:bold;font-size:14px;fill:#111}"
        ".room{fill:#eef3f8;stroke:#7a93ac}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {WIDTH + 2} {height + 2}">',
            f"<title>The folders of libbus{', before and after' if before else ''}; each includes those below</title><style>{style}</style>",
            *boxes,
            "</svg>\n",
        ]
    )


def picture_of(root, commit):
    """The same of a commit, from git."""
    command = ["git", "-C", root, "archive", commit, "libbus"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(
            f"--before {commit}: no such commit with a folder libbus/: {done.stderr.decode().strip()}"
        )
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        then = Path(folder)
        return list(picture(then, circles(graph(then))))


def main():
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    args.add_argument("root", nargs="?", type=Path, default=Path())
    args.add_argument("--svg", type=Path, help="a file for the drawing")
    args.add_argument("--before", metavar="COMMIT", help="the commit whose floors are drawn above")
    args = args.parse_args()
    root = args.root
    found = circles(graph(root))
    wrong = [*offences(root), *excesses(root, found)]
    lines = list(picture(root, found))
    print("\n".join(wrong or lines))
    if args.svg:
        before = picture_of(root, args.before) if args.before else ()
        args.svg.write_text(drawing(lines, before), encoding="utf-8")
    if not wrong:
        print(*limits(root, found), sep="\n")
        print("floors: all includes go down")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
