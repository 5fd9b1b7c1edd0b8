"""Puts the figures of a results file into docs/performance.md, as a table and a plot: no number there is typed.

Run by `./dev bench-page`. Only what stands between the two marks of the page is replaced.
"""

import argparse
import re
from pathlib import Path

from matplotlib import pyplot, ticker
from table import HEADS, bar, lines_of, number, reached, rows

MARKS = re.compile(r"(<!-- figures: .*? -->\n).*(<!-- end of figures -->)", re.DOTALL)
# The same figures make the same file, with text that can be searched.
STYLE = {"svg.hashsalt": "libbus", "svg.fonttype": "none"}
REACHED, MISSED, INK = "#1f6f8b", "#c8553d", "#333333"


def markdown_table(lines):
    heads = (*HEADS, "reproduce")
    body = [
        (*cells, f"`{line['command']}`") for cells, line in zip(rows(lines), lines, strict=True)
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, ("---",) * len(heads), *body))


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


def plot(lines, path):
    lines = plotted(lines)[::-1]
    pyplot.switch_backend("svg")
    pyplot.rcParams.update(STYLE)
    figure, axes = pyplot.subplots(figsize=(11, 0.34 * len(lines) + 1.1))
    for y, line in enumerate(lines):
        colour = REACHED if reached(line) else MISSED
        ends = [beyond(line, line.get(f"ratio_{end}", line["ratio"])) for end in ("min", "max")]
        axes.plot(ends, (y, y), color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(beyond(line, line["ratio"]), y, "o", color=colour)
        axes.annotate(
            number(line["ratio"]),
            (max(ends), y),
            xytext=(6, 0),
            textcoords="offset points",
            verticalalignment="center",
            fontsize=8,
            color=INK,
        )
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_yticks(range(len(lines)), [label(line) for line in lines], fontsize=8)
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.set_xlabel(
        "times the bar: right of the line it is reached; beside the dot, the ratio itself"
    )
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})


def summary(lines):
    barred = [line for line in lines if line["bar"] is not None]
    met = sum(map(reached, barred))
    machines = sorted({line["machine"] for line in lines})
    rounds = sorted({line["rounds"] for line in lines if line["line_rtt_ns"]})
    rtts = [
        line[f"line_rtt_ns{end}"]
        for line in lines
        if line["line_rtt_ns"]
        for end in ("_min", "_max")
    ]
    text = f"{met} of {len(barred)} bars are reached. Measured on {'; '.join(machines)}"
    if rounds:
        text += (
            f"; medians of {' or '.join(map(str, rounds))} rounds, during which a cache line went there and"
            f" back between two CPUs in {number(min(rtts))} to {number(max(rtts))} ns"
        )
    return text + ".\n"


def main():
    parser = argparse.ArgumentParser(prog="./dev bench-page", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("docs", type=Path)
    options = parser.parse_args()
    lines = lines_of(options.results)
    if not lines:
        parser.error(f"{options.results} has no figures: run ./dev bench first")
    page = options.docs / "performance.md"
    image = "![How far each figure is from its bar](performance.svg)\n"
    figures = "\n".join((summary(lines), image, markdown_table(lines)))
    text, found = MARKS.subn(
        lambda marks: f"{marks[1]}\n{figures}\n{marks[2]}", page.read_text(encoding="utf-8")
    )
    if found != 1:
        parser.error(f"{page} lacks its two marks")
    page.write_text(text, encoding="utf-8")
    plot(lines, options.docs / "performance.svg")
    print(f"{page}: {len(lines)} figures")


if __name__ == "__main__":
    main()
