"""promises.def as Python sees it: doors, promises, and why a door cannot keep one."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("promises.def")
ENTRY = re.compile(r"^(DOOR|PROMISE|EXCEPT|MATCH)\((.*)\)$", re.MULTILINE)
FIELD = re.compile(r'"(?:[^"\\]|\\.)*"|[^,"\s][^,"]*')


class Door(NamedTuple):
    name: str
    half: str  # which program tests it: c or python
    title: str


class Table(NamedTuple):
    doors: dict[str, Door]
    promises: dict[str, str]  # name: sentence
    reasons: dict[tuple[str, str], str]  # (promise, door): why it is not kept there
    matches: list[tuple[str, str, bool]]  # filter, topic, whether it matches

    def cells(self, half: str) -> list[tuple[str, str]]:
        """(promise, door) of all that this half has to show."""
        return [
            (promise, door.name)
            for promise in self.promises
            for door in self.doors.values()
            if door.half == half and (promise, door.name) not in self.reasons
        ]


def _fields(text: str) -> list[str]:
    fields = [field.strip() for field in FIELD.findall(text)]
    return [ast.literal_eval(field) if field[0] == '"' else field for field in fields]


def load() -> Table:
    table = Table({}, {}, {}, [])
    for kind, text in ENTRY.findall(SOURCE.read_text(encoding="utf-8")):
        fields = _fields(text)
        if kind == "DOOR":
            table.doors[fields[0]] = Door(*fields)
        elif kind == "PROMISE":
            table.promises[fields[0]] = fields[1]
        elif kind == "MATCH":
            table.matches.append((fields[0], fields[1], fields[2] == "1"))
        else:
            promise, doors, reason = fields
            for door in doors.split():
                if promise not in table.promises or door not in table.doors:
                    raise ValueError(f"{SOURCE.name}: EXCEPT({promise}, {door}) names nothing")
                if (promise, door) in table.reasons:
                    raise ValueError(f"{SOURCE.name}: two reasons for {promise} at {door}")
                table.reasons[promise, door] = reason
    return table
