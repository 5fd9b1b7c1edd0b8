"""Reads an event stream as the HTML standard's section 9.2.6 says, and refuses what the standard only ignores.

Independent of libbus: tests hold its output against this.
"""

import codecs
import re
from dataclasses import dataclass

# Texts that a careless writer of events breaks.
AWKWARD = [
    "",
    "plain",
    "one\ntwo",
    "one\rtwo",
    "one\r\ntwo",
    "\n\n",
    "\r",
    "ends\n",
    "data: x\n\nevent: forged\ndata: y",
    "\ufeffmark",
    "a\0b",
    "\u2028\u2029",
    " leading space",
    ": colon",
    "é€😀",
    "id: 1\0",
]


@dataclass
class Event:
    name: str
    data: str
    id: str  # of the stream after this event, as EventSource.lastEventId


class Parser:
    """feed() takes bytes however they are cut, and returns the events that they complete."""

    FIELDS = ("data", "event", "id", "retry")

    def __init__(self):
        self.id = ""
        self.retry = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._text, self._begun = "", False
        self._clear()

    def _clear(self):
        self._name, self._data, self._fields = "", [], []

    def feed(self, data):
        self._text += self._decoder.decode(data)
        if not self._begun and self._text:
            self._begun = True
            assert not self._text.startswith("\ufeff"), "a byte order mark"
        found = []
        while match := re.search("\r\n|\n|\r(?=.)", self._text, re.DOTALL):
            assert match[0] == "\n", f"a line ends with {match[0]!r}"
            line, self._text = self._text[: match.start()], self._text[match.end() :]
            found += self._line(line)
        return found

    def _line(self, line):
        if line == "":
            return self._dispatch()
        assert not line.startswith(":"), f"a comment, which no page can see: {line!r}"
        name, colon, value = line.partition(":")
        assert name in self.FIELDS, f"an unknown field: {line!r}"
        assert colon, f"no colon: {line!r}"
        assert value == "" or value.startswith(" "), f"no space behind the colon: {line!r}"
        value = value[1:]
        assert name == "data" or name not in self._fields, f"{name} twice"
        self._fields.append(name)
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id":
            assert "\0" not in value, "an id with NUL"
            self.id = value
        else:
            assert re.fullmatch("[0-9]+", value, re.ASCII), f"retry: {value!r}"
            self.retry = int(value)
        return ()

    def _dispatch(self):
        assert self._fields, "an empty event"
        event = Event(self._name or "message", "\n".join(self._data), self.id)
        has_data = "data" in self._fields
        self._clear()
        # EventSource drops an event without data, also one with a name.
        return (event,) if has_data else ()


def read(chunks):
    """The events of a stream that comes in chunks."""
    parser = Parser()
    for chunk in chunks:
        yield from parser.feed(chunk)


def one_end_of_lines(text):
    """As lines of data bring it: a stream of events knows one end of a line."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
