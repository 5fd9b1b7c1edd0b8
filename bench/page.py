"""Merges the latest results into docs/figures.json, and renders every page and the plot from it: no figure is typed.

Run by `./dev bench-page`. Without results it only renders again, as after a page was edited.
"""

import argparse
from pathlib import Path

import figures
from matplotlib import pyplot, ticker
from table import beyond, label, lines_of, number, plotted, ratio_end, reached

# The same figures make the same file, with searchable text.
STYLE = {"svg.hashsalt": "libbus", "svg.fonttype": "none"}
REACHED, MISSED, INK = "#1f6f8b", "#c8553d", "#333333"


def plot(lines, path):
    lines = plotted(lines)[::-1]
    pyplot.switch_backend("svg")
    pyplot.rcParams.update(STYLE)
    figure, axes = pyplot.subplots(figsize=(11, 0.34 * len(lines) + 1.1))
    for y, line in enumerate(lines):
        colour = REACHED if reached(line) else MISSED
        ends = [beyond(line, ratio_end(line, end)) for end in ("min", "max")]
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


def merged(results, path):
    """The figures of the file, with each group that was measured since replaced."""
    kept = figures.read(path)
    fresh = figures.newer(results, kept)
    older = sorted({line["group"] for line in results} - {line["group"] for line in fresh})
    if older:
        print(f"left out, since {path} has later figures: {', '.join(older)}")
    if any(line["quick"] for line in fresh):
        print("figures of quick runs: not for a commit")
    print(f"{path}: {len(fresh)} figures are new")
    return figures.merge(kept, fresh)


def main():
    parser = argparse.ArgumentParser(prog="./dev bench-page", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("root", type=Path, help="root of the repository")
    options = parser.parse_args()
    path = options.root / "docs/figures.json"
    lines = merged(lines_of(options.results), path)
    rendered = {}
    for page in figures.pages(options.root):
        try:
            rendered[page] = figures.render(page.read_text(encoding="utf-8"), lines)
        except figures.FigureError as error:
            parser.error(f"{page}: {error}")
    path.write_text(figures.dump(lines), encoding="utf-8")
    for page, text in rendered.items():
        if text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            print(f"{page}: written")
    plot(figures.in_performance(lines), options.root / "docs/performance.svg")


if __name__ == "__main__":
    main()
