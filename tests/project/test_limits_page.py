"""docs/limits.md: each row that names a constant has its value."""

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SOURCE = re.compile(r"\[(\w+)\]\((\S+)\)$")


def rows():
    """What, limit, constant and file of each row with a constant."""
    for line in (DOCS / "limits.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        source = SOURCE.match(cells[-1])
        if source:
            yield cells[0], cells[1], *source.groups()


def number(text):
    """The last number of a limit, such as "16 MiB, unless set" or "three heartbeats of 5,000 ms"."""
    digits, unit = re.findall(r"(\d[\d,]*)(?: (KiB|MiB|GiB))?", text)[-1]
    return int(digits.replace(",", "")) * UNITS.get(unit, 1)


def value(name, text):
    """A constant of a C file: of an enum or of a macro, written with numbers, * and <<."""
    found = re.search(rf"\b{name}(?:\s*=|\s)\s*\(?([^,;}}/\n]+)", text)
    assert found, f"{name} is not there"
    term = re.sub(r"UINT64_C\((\w+)\)", r"\1", found[1]).split("/*")[0]
    term = re.sub(r"\b(\d+)u\b", r"\1", term).strip().rstrip(")")
    tree = ast.parse(term, mode="eval")
    allowed = (ast.Expression, ast.BinOp, ast.Constant, ast.Mult, ast.LShift)
    assert all(isinstance(node, allowed) for node in ast.walk(tree)), term
    return eval(compile(tree, name, "eval"))


@pytest.mark.parametrize(
    ("what", "limit", "name", "file"), list(rows()), ids=lambda cell: cell[:40]
)
def test_the_page_has_the_value_of_the_source(what, limit, name, file):
    assert number(limit) == value(name, (DOCS / file).read_text()), what


def test_the_page_has_rows():
    assert len(list(rows())) > 30
