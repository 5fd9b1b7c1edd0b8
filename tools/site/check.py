"""Checks the built site: every link within it leads to an existing file and anchor, and no page loads anything from another
server.

usage: python3 tools/site/check.py build/site
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
# A link tag that loads nothing.
NAMED_ONLY = {"next", "prev", "canonical"}


class Reader(HTMLParser):
    """The anchors, links and loaded files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {name for name in (given.get("id"), given.get("name")) if name}
        for name, value in attrs:
            if value is None:
                continue
            if (tag, name) in LOADED and given.get("rel") not in NAMED_ONLY:
                self.loads.append(value)
            elif tag == "a" and name == "href":
                self.links.append(value)


def look(site: Path) -> list[str]:
    """Complaints."""
    pages = {
        page: Reader(page.read_text(encoding="utf-8")) for page in sorted(site.rglob("*.html"))
    }
    found = [] if pages else [f"{site} has no page"]
    for page, read in pages.items():
        name = page.relative_to(site)
        if name.name == "404.html":
            continue  # its addresses begin at the root of a server
        for target in read.loads:
            if urlsplit(target).netloc:
                found.append(f"{name} loads {target}")
        for target in read.links + read.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if there.is_dir():
                there /= "index.html"
            if not there.exists():
                found.append(f"{name} links to {target}, which does not exist")
            elif there in pages and unquote(parts.fragment) not in pages[there].anchors:
                found.append(f"{name} links to {target}: that page has no such anchor")
    for sheet in sorted(site.rglob("*.css")):
        text = sheet.read_text(encoding="utf-8")
        for before in ("url(http", "url(//", '@import "http'):
            if before in text:
                found.append(f"{sheet.relative_to(site)} loads from another server: {before}")
    return found


def main() -> None:
    site = Path(sys.argv[1]).resolve()
    found = look(site)
    print(*found, sep="\n", end="\n" if found else "")
    if found:
        sys.exit(f"{len(found)} broken links")
    print(f"{len(list(site.rglob('*.html')))} pages; every link within the site leads somewhere")


if __name__ == "__main__":
    main()
