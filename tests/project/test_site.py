"""The look over the built documentation site sees what is broken."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def look():
    spec = importlib.util.spec_from_file_location("check", ROOT / "tools/site/check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.look


def test_site_whose_links_lead_somewhere_has_no_complaint(look, tmp_path):
    (tmp_path / "there.html").write_text('<h2 id="a">A</h2><a href="index.html">back</a>')
    (tmp_path / "index.html").write_text(
        '<a href="there.html#a">a</a><a href="#top">top</a><a href="https://example.org/">far</a><i id="top"></i>'
    )
    assert look(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        '<a href="gone.html">x</a>',
        '<a href="#gone">x</a>',
        '<img src="gone.png">',
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
    ],
)
def test_what_is_broken_is_named(look, tmp_path, text):
    (tmp_path / "index.html").write_text(text)
    assert len(look(tmp_path)) == 1


def test_sheet_that_loads_a_font_from_elsewhere_is_named(look, tmp_path):
    (tmp_path / "index.html").write_text("")
    (tmp_path / "a.css").write_text("@font-face { src: url(https://example.org/a.woff) }")
    assert len(look(tmp_path)) == 1


def test_empty_site_is_no_success(look, tmp_path):
    assert look(tmp_path)
