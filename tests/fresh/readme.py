"""The README's blocks, in the order and under the names under which a newcomer meets them."""

import re
from dataclasses import dataclass

BLOCK = re.compile(
    r"^(?:## (?P<heading>[^\n]*)|```(?P<kind>\w+)\n(?P<text>.*?)^```)$", re.MULTILINE | re.DOTALL
)
PACKAGES = re.compile(r"^apt update && apt install -y .*$", re.MULTILINE)
FILE = re.compile(r"`(\w+\.(?:py|c))`[^`]*\Z")


@dataclass
class Block:
    section: str
    kind: str  # sh, python, c
    text: str
    file: str | None  # the name that the sentence before the block gives it


def blocks(page):
    """All blocks of a page, as a list."""
    found, section = [], ""
    for match in BLOCK.finditer(page):
        if match["heading"] is not None:
            section = match["heading"]
        else:
            file = FILE.search(page[: match.start()]) if match["kind"] != "sh" else None
            found.append(Block(section, match["kind"], match["text"], file and file[1]))
    return found


def packages(page):
    """The one line of docs/install.md that installs all packages."""
    (line,) = PACKAGES.findall(page)
    return line


class Readme:
    """Hands out each block once; what nobody took at the end is a block that no step covers."""

    def __init__(self, page):
        self.left = blocks(page)

    def take(self, section, kind="sh"):
        """The next block of this kind below this heading."""
        for block in self.left:
            if (block.section, block.kind) == (section, kind):
                self.left.remove(block)
                return block
        raise AssertionError(f"README has no (further) {kind} block below '## {section}'")
