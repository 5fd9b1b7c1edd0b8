"""What ./dev bench says of a bar follows from the figures, in both senses."""

import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
LINE = {
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
}


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("table")


@pytest.mark.parametrize(
    ("sense", "bar", "answer"),
    [
        ("at least", 10, "yes"),
        ("at least", 10.5, "NO"),
        ("at most", 10, "yes"),
        ("at most", 9.5, "NO"),
        ("at least", None, ""),
    ],
)
def test_a_bar_is_reached_when_the_ratio_is_on_its_side(table, sense, bar, answer):
    assert table.row(LINE | {"sense": sense, "bar": bar})[-1] == answer


def test_a_row_shows_both_sides_and_how_far_the_rounds_lie_apart(table):
    assert table.row(LINE) == (
        "1 to 1",
        "64",
        "20.0 M/s",
        "a peer: 2.00 M/s",
        "10.0 (9.00 to 11.0)",
        "≥ 9",
        "yes",
    )


def test_what_has_no_peer_is_held_against_its_bar_itself(table):
    alone = {"ours": 109.25, "peer": None, "peer_name": None, "ratio": 109.25, "bar": 60}
    assert table.row(LINE | alone | {"sense": "at most", "unit": "instructions"}) == (
        "1 to 1",
        "64",
        "109",
        "",
        "",
        "≤ 60",
        "NO",
    )
