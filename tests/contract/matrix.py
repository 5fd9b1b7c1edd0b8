"""What each door keeps: the matrix of a run, or the page docs/internals/contract.md.

matrix.py C_LOG JUNIT_XML       prints the matrix of both halves; fails if a promise was not kept
matrix.py --page                prints the page
"""

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

from promises import Table, load

KEPT, NOT_OFFERED, FAILED = "✓", "\N{EN DASH}", "✗"
RESULT = re.compile(r"^[^:]+:\d+:([PFE]):(\w+)/(\w+):", re.MULTILINE)  # of Check's log
Cell = tuple[str, str]

PAGE = """# The contract

What libbus promises about delivery, and at which *doors*, that is ways from a publisher to a subscriber. Each ✓ is a
test that can fail: those in C are in the C files of `tests/contract/`, the others `tests/contract/test_doors.py`. Both
read their promises from `tests/contract/promises.def`, and this page is written from it:
`python3 tests/contract/matrix.py --page`. `./dev contract` runs all of them and prints this matrix as it was found.
What the promises mean in detail: [delivery.md](../delivery.md).

## Doors

{doors}

## Promises

✓ kept · {not_offered} not offered, for the reason below

{matrix}

## What a door does not offer, and why

{notes}
"""


def notes(table: Table) -> list[str]:
    return list(dict.fromkeys(table.reasons.values()))


def footnote(table: Table, cell: Cell) -> int:
    return notes(table).index(table.reasons[cell]) + 1


def from_check(text: str) -> dict[Cell, str]:
    found = RESULT.findall(text)
    return {(promise, door): KEPT if how == "P" else FAILED for how, promise, door in found}


def from_junit(text: str) -> dict[Cell, str]:
    results = {}
    for case in ET.fromstring(text).iter("testcase"):
        cell = re.search(r"\[(\w+)/(\w+)\]$", case.get("name", ""))
        if cell:
            kept = all(case.find(bad) is None for bad in ("failure", "error", "skipped"))
            # Setting up and tearing down are results of their own: one failure is enough.
            key = cell.group(1, 2)
            results[key] = KEPT if kept and results.get(key) != FAILED else FAILED
    return results


def mark(table: Table, cell: Cell, results: dict[Cell, str]) -> str:
    """A promise that nobody tested is not kept."""
    if cell in table.reasons:
        return f"{NOT_OFFERED}{footnote(table, cell)}"
    return results.get(cell, FAILED)


def plain(table: Table, results: dict[Cell, str]) -> str:
    width = max(map(len, table.promises)) + 1
    lines = [" " * width + " ".join(f"{door:>9}" for door in table.doors)]
    for promise in table.promises:
        marks = (mark(table, (promise, door), results) for door in table.doors)
        lines.append(f"{promise:<{width}}" + " ".join(f"{text:>9}" for text in marks))
    lines += ["", f"{KEPT} kept  {NOT_OFFERED} not offered  {FAILED} failed, or not tested"]
    lines += [f"{NOT_OFFERED}{number} {note}" for number, note in enumerate(notes(table), 1)]
    return "\n".join(lines)


def page(table: Table) -> str:
    def row(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def cell(promise: str, door: str) -> str:
        if (promise, door) in table.reasons:
            return f"{NOT_OFFERED} [{footnote(table, (promise, door))}](#{anchor})"
        return KEPT

    anchor = "what-a-door-does-not-offer-and-why"
    matrix = [row(["", *table.doors]), row(["---"] * (len(table.doors) + 1))]
    for promise, sentence in table.promises.items():
        matrix.append(
            row([f"**{promise}**: {sentence}", *(cell(promise, door) for door in table.doors)])
        )
    numbered = (f"{number}. {note}" for number, note in enumerate(notes(table), 1))
    doors = (f"- **{door.name}**: {door.title}" for door in table.doors.values())
    return PAGE.format(
        doors="\n".join(doors),
        not_offered=NOT_OFFERED,
        matrix="\n".join(matrix),
        notes="\n".join(numbered),
    )


def read(path: str, parse: Callable[[str], dict[Cell, str]]) -> dict[Cell, str]:
    """A half that did not get as far as a result has shown nothing."""
    file = Path(path)
    return parse(file.read_text(encoding="utf-8")) if file.exists() else {}


def main(arguments: list[str]) -> int:
    table = load()
    if arguments == ["--page"]:
        sys.stdout.write(page(table))
        return 0
    c_log, junit = arguments
    results = read(c_log, from_check) | read(junit, from_junit)
    print(plain(table, results))
    cells = table.cells("c") + table.cells("python")
    return int(any(results.get(cell) != KEPT for cell in cells))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
