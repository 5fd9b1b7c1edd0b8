"""The table of goals: readable figures, and whether each goal is reached."""

import json
from pathlib import Path

# Groups of cases, in the order of tables. The timed ones come from bench_time.
TIMED = (
    "stream", "batch", "publishers", "callbacks", "large", "rtt", "wake", "names", "match", "named", "links",
)  # fmt: skip
PYTHON = ("python", "python-steps")  # of bench/python.py
ORDER = (
    *TIMED,
    "instructions",
    "syscalls",
    "named-counts",
    "link-counts",
    "memory",
    "small",
    *PYTHON,
)
HEADS = ("case", "bytes", "libbus", "peer", "ratio (least to most)", "bar", "reached")


def lines_of(path):
    path = Path(path)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def command(line):
    """What measures it again."""
    if line["group"] == "small":
        return "./dev bench-small"
    return f"./dev bench {line['group'].removesuffix('-steps')}"


def number(value):
    """Three digits that matter."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def quantity(value, unit):
    if unit.endswith("/s"):
        for size, prefix in ((1e6, " M"), (1e3, " k")):
            if value >= size:
                return f"{number(value / size)}{prefix}/s"
        return f"{number(value)} /s"
    if unit == "ns":
        return f"{number(value / 1000)} µs" if value >= 10_000 else f"{number(value)} ns"
    if unit in ("bytes", "threads"):
        return f"{value:,.0f} {unit}"
    return f"{number(value)} {'' if unit in ('calls', 'instructions') else unit}".rstrip()


def reached(line):
    if line["bar"] is None:
        return None
    if line["sense"] == "at least":
        return line["ratio"] >= line["bar"]
    return line["ratio"] <= line["bar"]


def bar(line):
    if line["bar"] is None:
        return ""
    sign = "≥" if line["sense"] == "at least" else "≤"
    aim = f", aim {line['aim']:g}" if line.get("aim") else ""
    return f"{sign} {line['bar']:g}{aim}"


def ratio_end(line, end):
    """The least (min) or the most (max) of the rounds; a count is the same in all."""
    value = line.get(f"ratio_{end}")
    return line["ratio"] if value is None else value


def ratio(line):
    if line["peer"] is None:
        return ""
    return f"{number(line['ratio'])} ({number(ratio_end(line, 'min'))} to {number(ratio_end(line, 'max'))})"


def row(line):
    ours = quantity(line["ours"], line["unit"])
    if line.get("lost_share"):
        ours += f", {number(100 * line['lost_share'])} % lost"
    peer = ""
    if line["peer"] is not None:
        peer = f"{line['peer_name']}: {quantity(line['peer'], line['unit'])}"
    answer = {True: "yes", False: "NO", None: ""}[reached(line)]
    return (line["case"], str(line["payload"] or ""), ours, peer, ratio(line), bar(line), answer)


def beyond(line, ratio):
    """How many times better than its bar."""
    return ratio / line["bar"] if line["sense"] == "at least" else line["bar"] / ratio


def plotted(lines):
    """A bar of 0, or a figure of 0, has no place on a scale of ratios."""
    return [line for line in lines if line["bar"] and line["ratio"] > 0]


def label(line):
    size = f", {line['payload']} B" if line["payload"] > 64 else ""
    peer = f" vs {line['peer_name']}" if line["peer_name"] else ""
    return f"{line['case']}{size}{peer} ({bar(line)})"


def rows(lines):
    return [row(line) for line in lines]


def text_table(body):
    widths = [max(len(cells[i]) for cells in [HEADS, *body]) for i in range(len(HEADS))]
    rule = tuple("─" * width for width in widths)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in [HEADS, rule, *body]
    )
