"""Words about gaps and advisories."""

import pytest

from mirror.core.words.advisory_words import words_of_advisories, words_of_vulnerable
from mirror.core.words.gap_advice import ADVICE, advice_for_gap


def test_gap_advice():
    """Each reason has advice; that of another version has none."""
    assert all(advice_for_gap(reason) for reason in ADVICE)
    assert advice_for_gap("of another version") == ""


@pytest.mark.parametrize(
    ("fixed", "is_held", "expected"),
    [
        (None, False, "high, GHSA-1, CVE-2; no fixed version is named"),
        ("2.0", False, "high, GHSA-1, CVE-2; fixed in 2.0, which is not held"),
        ("2.0", True, "high, GHSA-1, CVE-2; fixed in 2.0, which is held"),
    ],
)
def test_vulnerable(fixed, is_held, expected):
    """Level, identifiers, and where it is fixed."""
    assert words_of_advisories("high", ["GHSA-1", "CVE-2"]) == "high, GHSA-1, CVE-2"
    assert words_of_vulnerable("high", ["GHSA-1", "CVE-2"], fixed, fixed_held=is_held) == expected
