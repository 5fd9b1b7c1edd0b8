# ruff: noqa: RUF001 (pages are typeset, and so are the texts that are searched here)
"""Every measured number in the README and in docs/ is the one in docs/figures.json, or stands in a dated record.

What this cannot see: a figure in words ("twice as fast"), and whole numbers of bytes, milliseconds or seconds, which here
are nearly always limits and timeouts.
"""

import importlib
import json
import re
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs/figures.json"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Records of what was decided, and why: their figures are those of that day, by the command or on the date that the page
# names. transports.md compares two faces of NNG, which no change to libbus makes faster.
RECORDS = [p for p in PAGES if p.parent.name == "design" or p.name == "transports.md"]
COMMAND_OR_DATE = re.compile(r"\./dev bench|build/o2/bench/|\b20\d\d-\d\d\b")

NUMBER = r"\d[\d.,]*(?:\s?(?:to|or|and|–)\s?\d[\d.,]*)?"
MEASURED = re.compile(
    rf"""(?<!\d\s)×\s?\d[\d.,]*
    | (?<![\w.]){NUMBER}\s?(?:ns|[µu]s|%|times|instructions|faults|[Mk](?:\s?(?:/s|msg/s)))(?!\w)
    | (?<![\w.,])\d+\.\d+(?!\.?\d|\w)""",
    re.VERBOSE,
)
# Fenced blocks, generated parts, code, targets of links: a version or an example there is no claim.
NO_CLAIM = re.compile(
    r"^```.*?^```$|<!-- figures: .*?<!-- end of figures -->|<!-- figure: .*?<!-- / -->|<!--.*?-->|`[^`\n]*`|\]\([^)]*\)",
    re.DOTALL | re.MULTILINE,
)
# Versions, limits, timeouts, settings of a measurement, and what other systems typically take.
NOT_MEASURED = {
    "debugging.md": ["runs 30 times the schedules"],
    "delivery.md": ["was published 1,000 times", "take 80 % of", "below 70 % since"],
    "flask-socketio.md": ["python-socketio 5.14"],
    "install.md": ["3.10 to 3.13", "Ubuntu 22.04", "Ubuntu 24.04", "(2.28 or 3.6)"],
    "log-format.md": ["before 1.0", "hash × 9E37"],
    "memory.md": ["speaks at 80 %"],
    "memory-order.md": ["waited 0.1 s"],
    "named-bus.md": ["after 0.25 s", "after 0.1 s", "At 80 % of either"],
    "limits.md": ["16 times the message", "a warning at 80 %"],
    "not-arrived.md": ["was published 1,000 times"],
    "performance.md": ["with 300 µs between messages", "for up to 50 µs"],
    "python.md": ["Python 3.10"],
    "security.md": ["Version 2.28 speaks TLS 1.2, version 3.6 also TLS 1.3"],
    "which-protocol.md": [
        "0.1–1 ms", "libbus 0.1", "Version 0.1", "AMQP 1.0",
    ],
}  # fmt: skip


def name_of(page):
    return str(page.relative_to(ROOT))


def measured(text, not_measured=()):
    """Numbers that look like measurements, outside markers."""
    text = " ".join(NO_CLAIM.sub(" … ", text).split())
    for phrase in not_measured:
        text = text.replace(phrase, "")
    return [found[0] for found in MEASURED.finditer(text)]


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module("figures")


@pytest.fixture
def lines(figures):
    return figures.read(FIGURES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_has_the_figures_that_were_measured(figures, lines, page):
    text = page.read_text(encoding="utf-8")
    assert text == figures.render(text, lines), "run ./dev bench-page"


def test_plot_has_the_figures_that_were_measured(figures, lines):
    table = importlib.import_module("table")
    plotted = table.plotted(figures.in_performance(lines))
    svg = xml.etree.ElementTree.parse(ROOT / "docs/performance.svg")
    texts = Counter(text.text for text in svg.iter("{http://www.w3.org/2000/svg}text"))
    labels = Counter(map(table.label, plotted))
    numbers = Counter(table.number(line["ratio"]) for line in plotted)
    assert Counter({t: n for t, n in texts.items() if re.search(r"\([≥≤] ", t)}) == labels
    assert numbers <= texts, "run ./dev bench-page"


def test_figures_name_machine_and_date_and_are_no_quick_ones(lines):
    for line in lines:
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", line["date"])
        assert "CPU" in line["machine"] and re.search("-O[23]", line["machine"])
        assert not line["quick"], f"{line['case']} is of a quick run: ./dev bench {line['group']}"


def test_file_of_figures_is_as_bench_page_writes_it(figures, lines):
    assert FIGURES.read_text(encoding="utf-8") == figures.dump(lines)


def test_every_group_that_the_bench_knows_has_figures(lines):
    table = importlib.import_module("table")
    assert {line["group"] for line in lines} == set(table.ORDER)


@pytest.mark.parametrize("page", [p for p in PAGES if p not in RECORDS], ids=name_of)
def test_measured_number_stands_in_a_marker_only(page):
    loose = measured(page.read_text(encoding="utf-8"), NOT_MEASURED.get(page.name, ()))
    assert not loose, (
        "quote docs/figures.json between markers (bench/figures.py), say it without the number, or, if it is"
        " a limit or a version, add the words around it to NOT_MEASURED"
    )


@pytest.mark.parametrize("page", RECORDS, ids=name_of)
def test_record_with_figures_names_their_command_or_date(page):
    text = page.read_text(encoding="utf-8")
    assert not measured(text) or COMMAND_OR_DATE.search(text)


def test_exceptions_are_still_needed():
    for name, phrases in NOT_MEASURED.items():
        (page,) = (page for page in PAGES if page.name == name)
        text = page.read_text(encoding="utf-8")
        for i, phrase in enumerate(phrases):
            others = phrases[:i] + phrases[i + 1 :]
            assert len(measured(text, others)) > len(measured(text, phrases)), phrase


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_marker_begins_no_line(page):
    """A comment at the beginning of a line ends the paragraph before it in Markdown."""
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if re.match(r"\s*<!-- (?:figure:|/)", line)]


@pytest.mark.parametrize(
    "text",
    [
        "17 times ZeroMQ inproc",
        "20\ntimes a queue",
        "0.87 of a bare ring",
        "join in 35 µs each",
        "1–50 µs in a process",
        "63.3 M/s arrive",
        "24 k msg/s",
        "are 850 instructions together",
        "1.62 MiB resident",
        "was 0.45. Now",
        "× 410 as fast",
        "lost 17 %, and",
        "<!-- figure: a -->1<!-- / --> and 2.5 of it",
    ],
)
def test_measured_numbers_are_found(text):
    assert len(measured(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "256 KiB is the default bound",
        "NNG 1.5.2 aborts",
        "MQTT 3.1.1.",
        "512 × 64 bytes",
        "within 30 s",
        "publish `21.5` there",
        "```sh\nsleep 0.5\n```",
        "at most 10,000 topics",
        "[one](page-1.5.md)",
        "<!-- figure: a -->14.7<!-- / --> times ZeroMQ",
    ],
)
def test_limits_versions_and_examples_are_no_measured_numbers(text):
    assert measured(text) == []


LINE = {
    "group": "stream",
    "case": "1 to 1",
    "payload": 64,
    "ours": 20e6,
    "peer": 2e6,
    "peer_name": "a peer",
    "ratio": 10.0,
    "ratio_min": 9.0,
    "ratio_max": 11.0,
    "bar": 9,
    "sense": "at least",
    "unit": "messages/s",
    "rounds": 11,
    "date": "2026-01-02",
    "machine": "a machine",
    "quick": False,
}
COUNT = {
    "group": "small",
    "case": "size",
    "ours": 0.5,
    "ratio": 0.5,
    "bar": 1,
    "sense": "at most",
    "unit": "MiB",
    "date": "2026-01-02",
    "machine": "a machine",
    "quick": False,
}


def kept(figures, tmp_path, *lines):
    """Written and read again."""
    path = tmp_path / "figures.json"
    path.write_text(figures.dump(lines))
    return figures.read(path)


def test_figure_is_written_and_read_as_it_was(figures, tmp_path):
    known, count = kept(figures, tmp_path, LINE, COUNT)
    assert {key: known[key] for key in LINE} == LINE
    assert {key: count[key] for key in COUNT} == COUNT and count["peer"] is None
    assert len(json.loads((tmp_path / "figures.json").read_text())["runs"]) == 1


def test_run_of_some_cases_replaces_only_those(figures, tmp_path):
    lines = kept(figures, tmp_path, LINE, LINE | {"peer_name": "one that is gone"}, COUNT)
    fresh = LINE | {"ratio": 12.0, "date": "2026-02-03", "machine": "another"}
    merged = figures.merge(lines, [fresh])
    assert [(m["group"], m["ratio"], m["date"]) for m in merged] == [
        ("stream", 12.0, "2026-02-03"),
        ("small", 0.5, "2026-01-02"),
    ]


def test_result_of_a_count_is_shown_once_it_is_merged(figures, tmp_path):
    count = COUNT | {"ours": 1 / 3, "ratio": 1 / 3, "line_rtt_ns": None, "more": 1}
    merged = figures.merge(kept(figures, tmp_path, LINE), [count])
    assert merged == kept(figures, tmp_path, *merged)
    assert merged[1]["ours"] == 0.333333 and "more" not in merged[1]
    page = "<!-- figures: performance -->\n<!-- end of figures -->\n"
    assert "| size |  | 0.33 MiB |" in figures.render(page, merged)


def test_results_of_an_older_day_replace_nothing(figures):
    older, same = LINE | {"date": "2026-01-01"}, LINE | {"ratio": 12.0}
    undated = {key: value for key, value in LINE.items() if key != "date"}
    assert figures.newer([older], [LINE]) == figures.newer([undated], [LINE]) == []
    assert figures.newer([same], [LINE]) == [same]
    assert figures.newer([older], [COUNT]) == [older]


def test_page_changes_with_its_figures(figures, tmp_path):
    page = "a <!-- figure: 1-to-1-64-a-peer -->9<!-- / --> b\n<!-- figures: small -->\nold\n<!-- end of figures -->\n"
    text = figures.render(page, kept(figures, tmp_path, LINE, COUNT))
    assert text.startswith("a <!-- figure: 1-to-1-64-a-peer -->10.0<!-- / --> b\n")
    assert "| size | 0.50 MiB | 1 MiB | yes |\n" in text and "old" not in text
    assert figures.render(text, kept(figures, tmp_path, LINE, COUNT)) == text
    changed = figures.render(text, kept(figures, tmp_path, LINE | {"ratio": 12.5}, COUNT))
    assert "-->12.5<!--" in changed


def test_days_of_one_machine_are_told_together(figures):
    days = [LINE, LINE | {"date": "2026-02-03"}, COUNT | {"machine": "another"}]
    told = "2026-01-02 and 2026-02-03 on a machine; 2026-01-02 on another"
    assert figures.measured_on(days) == told


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ("", "10.0"),
        (".ratio", "10.0"),
        (".least", "9.00"),
        (".most", "11.0"),
        (".ours", "20.0 M/s"),
        (".peer", "2.00 M/s"),
        (".bar", "≥ 9"),
    ],
)
def test_marker_shows_the_part_that_it_names(figures, part, shown):
    page = f"a <!-- figure: 1-to-1-64-a-peer{part} --><!-- / -->"
    assert figures.render(page, [LINE]) == page.replace("--><!--", f"-->{shown}<!--")


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("a <!-- figure: 1-to-1-64-a-pear -->9<!-- / -->", "no figure 1-to-1-64-a-pear: 1-to-1"),
        ("a <!-- figure: 1-to-1-64-a-peer.colour -->9<!-- / -->", "has no part colour"),
        ("a <!-- figure: 1-to-1-64-a-peer -->9", "a marker is not of the form"),
        ("<!-- figures: small -->\n", "a marker is not of the form"),
        ("<!-- figures: large -->\n<!-- end of figures -->", "no block large"),
    ],
)
def test_broken_marker_is_an_error(figures, page, error):
    with pytest.raises(figures.FigureError, match=error):
        figures.render(page, [LINE])


def test_two_figures_of_one_name_are_an_error(figures):
    with pytest.raises(figures.FigureError, match="two figures are called 1-to-1-64-a-peer"):
        figures.by_id([LINE, LINE | {"group": "batch"}])
