"""Valid filters, and the filters they cover: C decides, for Python and for Flask."""

import pytest

import libbus


@pytest.mark.parametrize(
    ("topic_filter", "other", "covers"),
    [
        ("#", "a/+/b", True),
        ("a/#", "a", True),
        ("a/+", "a/#", False),
        ("+/#", "#", True),
        ("#", "$bus/#", False),
        ("$bus/#", "$bus/drops", True),
    ],
)
def test_a_filter_covers_another_or_does_not(topic_filter, other, covers):
    assert libbus.filter_covers(topic_filter, other) is covers


def test_a_good_filter_passes_the_check():
    assert libbus.filter_check("sensors/+/temp") is None


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: libbus.filter_check("a/#/b"), r"^a/#/b: malformed filter: level 2 is #"),
        (lambda: libbus.filter_covers("a+", "b"), r"^a\+: malformed"),
        (lambda: libbus.filter_covers("a", "#b"), "^#b: malformed"),
        (lambda: libbus.filter_check("a\0b"), "x00"),
    ],
)
def test_a_malformed_filter_is_named(call, text):
    with pytest.raises(libbus.FilterError, match=text):
        call()


def test_a_filter_of_another_type_is_refused():
    with pytest.raises(TypeError, match="a filter is a str, not int"):
        libbus.filter_covers("a", 5)
