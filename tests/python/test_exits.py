"""Interpreters that end under traffic; `./dev exits` has a hundred of them."""

import random

import exits
import pytest

ENDS = sorted(exits.ENDS)


@pytest.mark.parametrize("end", ENDS)
def test_an_interpreter_ends_silently_whatever_is_under_way(end):
    """Each end with half of the parts under way; every part has its turn."""
    parts = sorted(exits.PARTS)
    random.Random(ENDS.index(end) // 2).shuffle(parts)
    half = len(parts) // 2
    for place, chosen in zip(("private", "named"), (parts[:half], parts[half:]), strict=True):
        if (place == "named") == ENDS.index(end) % 2:
            assert exits.fault(exits.program(place, chosen, end, 0.005)) is None
