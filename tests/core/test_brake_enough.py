from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.policy import brake_holds, enough_published


@given(
    leaving=st.integers(0, 10**9), max_shrink=st.floats(1e-9, 1, exclude_min=False), published=st.integers(0, 10**12)
)
def test_counting_up_to_enough_says_the_same_as_counting_all(leaving, max_shrink, published):
    """The brake judges the files counted up to that number as it judges all of them."""
    counted = min(published, enough_published(leaving=leaving, max_shrink=max_shrink))
    told = [brake_holds(leaving=leaving, published=n, max_shrink=max_shrink) for n in (published, counted)]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("leaving", "max_shrink", "enough"),
    [(5, 0.1, 0), (6, 0.1, 61), (6, 1.0, 7), (6, 0.0, 2**53), (10**9, 1e-12, 2**53)],
    ids=["few", "tenth", "all", "none-may", "as-good-as-none"],
)
def test_enough_published(leaving, max_shrink, enough):
    """Few files always may leave; where none may, no number is enough."""
    assert enough_published(leaving=leaving, max_shrink=max_shrink) == enough
