"""Numbers, sizes, times and advice as people read them."""

from __future__ import annotations

import pytest

from mirror.core.times import utc_text
from mirror.core.words.advice import ADVICE, INDEX_DENIED, advice_for
from mirror.core.words.amounts import ago, counted, duration, size
from mirror.errors import Reason

SIZES = {
    None: "unknown size",
    0: "0 B",
    999: "999 B",
    1000: "1.0 kB",
    12_400_000: "12.4 MB",
    99_949: "99.9 kB",
    99_950: "100 kB",
    999_499: "999 kB",
    999_500: "1.0 MB",
    10**13: "10.0 TB",
    10**18: "1,000 PB",
    10**20: "100,000 PB",
}


@pytest.mark.parametrize(("count", "expected"), SIZES.items(), ids=str)
def test_size(count: int | None, expected: str) -> None:
    """Sizes are written with powers of ten and no more digits than matter."""
    assert size(count) == expected


def test_counted() -> None:
    """Nouns agree with their number."""
    assert [counted(n, "file") for n in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]
    assert [counted(n, "index") for n in (1, 2)] == ["1 index", "2 indexes"]


DURATIONS = {-5: "0.0 s", 0.04: "0.0 s", 0.5: "0.5 s", 1: "1 s", 89: "89 s", 90: "2 min", 5399: "90 min", 5400: "2 h"}
DURATIONS |= {48 * 3600: "2 days", 86_400 * 4000: "4,000 days"}


@pytest.mark.parametrize(("seconds", "expected"), DURATIONS.items(), ids=str)
def test_duration(seconds: float, expected: str) -> None:
    """A length of time is written to the precision that matters."""
    assert duration(seconds) == expected


def test_ago() -> None:
    """What lies in the future, by a clock that was set back, is «just now»."""
    assert (ago(100, 160), ago(160, 100), ago(100, 100.5)) == ("60 s ago", "just now", "just now")


def test_utc_text() -> None:
    """Times are shown to the second, in UTC."""
    assert utc_text(1_700_000_000.9) == "2023-11-14T22:13:20Z"


def test_advice_for_an_index() -> None:
    """An index as a whole that is denied needs its credential looked at; a file of it does not."""
    assert advice_for(Reason.DENIED, is_index=True) == INDEX_DENIED
    assert advice_for(Reason.DENIED, is_index=False) == ADVICE[Reason.DENIED]
    assert advice_for(Reason.SHRINK, is_index=True) == ADVICE[Reason.SHRINK]
