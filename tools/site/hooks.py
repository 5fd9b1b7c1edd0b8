"""MkDocs hooks of the site: pages made of files outside docs/, and links to such files.

The pages of docs/ are also read in the repository, so their links lead to files. A link to a file that is a page of the site
leads to that page; a link to any other source file, a test for instance, becomes plain text.
"""

import ast
import posixpath
import re
import sys
import textwrap
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

HEADERS = ["access.h", "bus.h", "pack.h", "error.h", "transport.h", "own_transport.h"]
# Source file, from the root: page of the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "CHANGELOG.md": "changes.md",
} | {f"include/libbus/{name}": f"api/{name}.md" for name in HEADERS}

TASKS_LEFT_OUT = """
Each task with libbus, and with the library that needs the fewest lines for it. Imports, opening the bus or the connection, and the
input of the example are left out. The whole programs are in `examples/python/tasks`; a test runs those of libbus.
"""

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
    files.append(File.generated(config, "guide/tasks.md", content=tasks()))
    return files


def tasks() -> str:
    """Makes the page of everyday tasks: the counted part of each program, beside those of its peers."""
    sys.path.insert(0, str(ROOT / "tools"))
    import task_lines

    page = ["# Everyday tasks\n", TASKS_LEFT_OUT]
    for task in task_lines.ORDER:
        ours = task_lines.TASKS / f"{task}.py"
        page += [
            f"## {ast.get_docstring(ast.parse(ours.read_text())).splitlines()[0].rstrip('.')}\n"
        ]
        if task in task_lines.REMARKS:
            page += [f"({task_lines.REMARKS[task]})\n"]
        for name, path in {"libbus": ours, **task_lines.peers_of(task)}.items():
            page += [f"**{name}**\n", f"```python\n{counted(path)}\n```\n"]
    return "\n".join(page)


def counted(path: Path) -> str:
    """Returns the text between each pair of task marks."""
    found = re.findall(r"^ *# task\n(.*?)^ *# end$", path.read_text(), re.MULTILINE | re.DOTALL)
    return "\n\n".join(textwrap.dedent(part).strip("\n") for part in found)


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
