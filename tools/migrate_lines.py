#!/usr/bin/env python3
"""Counts the lines of the apps of docs/migrate/live-pages.md, before and after, and prints the page's table."""

import re
from collections import Counter
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs/migrate/live-pages.md"

SECTION = re.compile(r"^## (.*?)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEAD = "| from | lines before | lines after | new or changed |\n|---|---|---|---|\n"


def apps():
    """Returns for each section: the app before, the app after, and the page of both, if there is one."""
    found = {}
    for title, text in SECTION.findall(PAGE.read_text(encoding="utf-8")):
        blocks = BLOCK.findall(text)
        if programs := [block for kind, block in blocks if kind == "python"]:
            before, after = programs
            found[title] = (
                before,
                after,
                next((page for kind, page in blocks if kind == "html"), None),
            )
    return found


def lines(program):
    return [
        line for line in program.splitlines() if line.strip() and not line.strip().startswith("#")
    ]


def table():
    rows = []
    for title, (before, after, _) in apps().items():
        new = (Counter(lines(after)) - Counter(lines(before))).total()
        rows.append(f"| {title} | {len(lines(before))} | {len(lines(after))} | {new} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(table(), end="")
