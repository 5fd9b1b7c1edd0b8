"""What MkDocs does besides for the site: pages from files outside docs/, and links to such files.

The pages of docs/ are also read where they lie, so their links lead to files. A link to a file that is a page of the site
leads to that page; one to another file of the source, a test for instance, becomes its text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
HEADERS = ["bus.h", "pack.h", "error.h", "transport.h", "own_transport.h"]
# File of the source, from the root: page of the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
} | {f"include/libbus/{name}": f"api/{name}.md" for name in HEADERS}

LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    for section in config.nav:
        for entry in next(iter(section.values())):
            if isinstance(entry, dict) and "Decisions" in entry:
                entry["Decisions"] = [
                    f"design/{page.name}" for page in sorted((ROOT / "docs/design").glob("*.md"))
                ]
            elif isinstance(entry, dict) and "C headers" in entry:
                entry["C headers"] = ["api/c.md", *(f"api/{name}.md" for name in HEADERS)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source.endswith(".h"):
            text = f"# {posixpath.basename(source)}\n\n```c\n{text}```\n"
        elif source == "README.md":
            continue  # docs/index.md is the first page
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    uri = page.file.src_uri
    source = next((path for path, other in ELSEWHERE.items() if other == uri), f"docs/{uri}")
    if uri == "index.md":
        source = "docs/index.md"

    def lead(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in ELSEWHERE:
            there = ELSEWHERE[path]
        elif path.startswith("docs/"):
            there = path.removeprefix("docs/")
        elif (ROOT / path).exists():
            return text
        else:
            return link[0]  # MkDocs complains
        return f"[{text}]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{anchor})"

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lead, part) for part in parts[::2]]
    return "".join(parts)
