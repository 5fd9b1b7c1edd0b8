"""The measured figures that the pages quote: one committed file, and how each page shows them.

`./dev bench-page` merges the latest results into docs/figures.json and renders the pages again; tests/project/test_figures.py
compares both. A page holds two kinds of markers, and what stands inside them is generated:

    <!-- figure: 1-to-1-64-zeromq-inproc -->14.7<!-- / -->      one number; ID.ours, ID.peer, ID.least, ID.most, ID.bar
    <!-- figures: small -->…<!-- end of figures -->             a block: performance, small, memory, python or python-steps
"""

import difflib
import json
import re

from table import HEADS, ORDER, PYTHON, bar, command, number, quantity, ratio_end, reached, rows

INLINE = re.compile(r"(<!-- figure: (\S+) -->)(.*?)(<!-- / -->)")
BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
RUN = ("date", "machine", "quick")
FIGURE = (
    "group", "case", "payload", "ours", "peer", "peer_name", "ratio", "ratio_min", "ratio_max", "bar", "aim", "sense",
    "unit", "lost_share", "rounds", "line_rtt_ns_min", "line_rtt_ns_max",
)  # fmt: skip


class FigureError(Exception):
    """A page asks for a figure that was never measured, or its markers are broken."""


# --- the file ---


def rounded(value):
    return float(f"{value:.6g}") if isinstance(value, float) else value


def figure(result):
    """The fields of a line of results that the file keeps; a field that does not apply is None."""
    return {key: rounded(result.get(key)) for key in (*FIGURE, *RUN)}


def read(path):
    """One dict for each figure, with date and machine of its run."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return [figure(known | kept["runs"][known["run"]]) for known in kept["figures"]]


def dump(lines):
    """The text of the file. Each figure is a line, so a diff shows which figures changed."""
    runs = []
    figures = []
    for line in lines:
        run = {key: line[key] for key in RUN}
        if run not in runs:
            runs.append(run)
        known = {key: line[key] for key in FIGURE if line.get(key) is not None}
        figures.append({"run": runs.index(run)} | known)
    parts = (("runs", runs), ("figures", figures))
    body = ",\n".join(
        f'"{name}": [\n' + ",\n".join(json.dumps(item) for item in items) + "\n]"
        for name, items in parts
    )
    return f"{{\n{body}\n}}\n"


def newer(results, kept):
    """The results of groups that have no later date in the file: build/ may still hold those of an older day."""
    dates = {line["group"]: line["date"] for line in kept}
    return [line for line in results if line.get("date", "") >= dates.get(line["group"], "0")]


def merge(kept, fresh):
    """A fresh group replaces the whole group. Groups that were not measured stay; groups that no longer exist are removed."""
    groups = {line["group"] for line in fresh}
    lines = [line for line in kept if line["group"] not in groups]
    lines += map(figure, fresh)
    return sorted(
        (line for line in lines if line["group"] in ORDER),
        key=lambda line: ORDER.index(line["group"]),
    )


# --- one number ---


def figure_id(line):
    words = f"{line['case']} {line['payload'] or ''} {line['peer_name'] or ''}"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def by_id(lines):
    found = {}
    for line in lines:
        name = figure_id(line)
        if name in found:
            raise FigureError(f"two figures are called {name}: give one of them another case")
        found[name] = line
    return found


PARTS = {
    "ours": lambda line: quantity(line["ours"], line["unit"]),
    "peer": lambda line: quantity(line["peer"], line["unit"]),
    "ratio": lambda line: number(line["ratio"]),
    "least": lambda line: number(ratio_end(line, "min")),
    "most": lambda line: number(ratio_end(line, "max")),
    "bar": bar,
}


def inline(figures, asked):
    name, _, part = asked.partition(".")
    if name not in figures:
        near = ", ".join(difflib.get_close_matches(name, figures)) or "see docs/figures.json"
        raise FigureError(f"there is no figure {name}: {near}")
    line = figures[name]
    part = part or ("ours" if line["peer"] is None else "ratio")
    if part not in PARTS or (line["peer"] is None and part not in ("ours", "bar")):
        raise FigureError(f"{name} has no part {part}")
    return PARTS[part](line)


# --- blocks ---


def markdown_table(heads, body):
    rule = ("---",) * len(heads)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, rule, *body))


def measured_on(lines):
    dates = {}
    for line in lines:
        dates.setdefault(line["machine"], set()).add(line["date"])
    return "; ".join(
        f"{' and '.join(sorted(days))} on {machine}" for machine, days in dates.items()
    )


def summary(lines):
    barred = [line for line in lines if line["bar"] is not None]
    timed = [line for line in lines if line["line_rtt_ns_min"]]
    text = f"{sum(map(reached, barred))} of {len(barred)} bars are reached. Measured {measured_on(lines)}"
    if timed:
        rounds = " or ".join(map(str, sorted({line["rounds"] for line in timed})))
        least = number(min(line["line_rtt_ns_min"] for line in timed))
        most = number(max(line["line_rtt_ns_max"] for line in timed))
        text += (
            f"; medians of {rounds} rounds, during which a cache line went there and back between two CPUs"
            f" in {least} to {most} ns"
        )
    return text + ".\n"


def performance(lines):
    lines = in_performance(lines)
    image = "![How far each figure is from its bar](performance.svg)\n"
    body = [(*cells, f"`{command(line)}`") for cells, line in zip(rows(lines), lines, strict=True)]
    return "\n".join((summary(lines), image, markdown_table((*HEADS, "reproduce"), body)))


def in_performance(lines):
    """The figures of the plot and the table of C. Memory has a page of its own, and Python a table."""
    return [line for line in lines if line["group"] not in ("memory", *PYTHON)]


def small(lines):
    lines = [line for line in lines if line["group"] == "small"]
    body = [
        (
            line["case"],
            quantity(line["ours"], line["unit"]),
            f"{line['bar']:g} {line['unit']}",
            "yes" if reached(line) else "NO",
        )
        for line in lines
    ]
    table = markdown_table(("what", "measured", "budget", "kept"), body)
    return f"{table}\nMeasured {measured_on(lines)}.\n"


def memory(lines):
    lines = [line for line in lines if line["group"] == "memory"]
    table = markdown_table(
        ("one more", "bytes"), [(line["case"], f"{line['ours']:,.0f}") for line in lines]
    )
    return f"{table}\nMeasured {measured_on(lines)}.\n"


def python(lines):
    lines = [line for line in lines if line["group"] == "python"]
    return f"{summary(lines)}\n{markdown_table(HEADS, rows(lines))}"


def python_steps(lines):
    lines = [line for line in lines if line["group"] == "python-steps"]
    table = markdown_table(
        ("step", "instructions"), [(line["case"], f"{line['ours']:,.0f}") for line in lines]
    )
    return f"{table}\nCounted {measured_on(lines)}.\n"


BLOCKS = {
    "performance": performance,
    "small": small,
    "memory": memory,
    "python": python,
    "python-steps": python_steps,
}


def block(lines, name):
    if name not in BLOCKS:
        raise FigureError(f"there is no block {name}: {', '.join(BLOCKS)}")
    return BLOCKS[name](lines)


# --- pages ---


def pages(root):
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def render(text, lines):
    """The page with the figures of today between its markers."""
    figures = by_id(lines)
    text, blocks = BLOCK.subn(lambda m: f"{m[1]}\n{block(lines, m[2])}\n{m[3]}", text)
    text, numbers = INLINE.subn(lambda m: m[1] + inline(figures, m[2]) + m[4], text)
    if blocks + numbers != len(re.findall(r"<!-- figures?:", text)):
        raise FigureError("a marker is not of the form that bench/figures.py describes")
    return text
