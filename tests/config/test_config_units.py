"""How durations, sizes and ratios are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.config import (
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from mirror.config.units import MAX_SIZE_BYTES, parse_ratio
from mirror.core.words.durations import MAX_DURATION_S

DURATIONS = {
    "10s": 10,
    "15m": 900,
    "12h": 43_200,
    "30d": 2_592_000,
    "2w": 1_209_600,
    "1h30m": 5400,
    "1w1d1h1m1s1ms": 694_861.001,
    "1.5h": 5400,
    "250ms": 0.25,
    "0": 0,
    "0s": 0,
}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items(), ids=DURATIONS)
def test_duration(text, seconds):
    """Durations are read in all their units."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "5", "m", "-1s", "1s1m", "1s1s", "1 s", "1S", "1e3s", "٣s", "101w5300d9999999h", "9" * 30 + "s", 5, None, 1.5],
)
def test_no_duration(value):
    """What is no duration, or one of centuries, is refused."""
    with pytest.raises(ValueError, match=r"not a duration|longer than"):
        parse_duration(value)


@given(st.integers(min_value=0, max_value=int(MAX_DURATION_S * 1000)))
def test_duration_round_trip(milliseconds):
    """A written duration is read as the same one."""
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


SIZES = {
    "0": 0,
    "1024": 1024,
    "5B": 5,
    "1kB": 1000,
    "1KB": 1000,
    "1KiB": 1024,
    "50MiB": 52_428_800,
    "4GB": 4_000_000_000,
    "1.5 GiB": 1_610_612_736,
    "2TiB": 2_199_023_255_552,
    "1pb": 10**15,
}


@pytest.mark.parametrize(("text", "size"), [*SIZES.items(), (7, 7)], ids=[*SIZES, "number"])
def test_size(text, size):
    """Sizes are read in decimal and binary units."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value", ["", "5M", "MB", "-1", "1 MB ", "1e3", "5XB", "9999999999999999999PiB", -1, True, 1.5, None]
)
def test_no_size(value):
    """What is no size, or an ambiguous one, is refused."""
    with pytest.raises(ValueError, match=r"not a size|out of range"):
        parse_size(value)


@given(st.integers(min_value=0, max_value=MAX_SIZE_BYTES))
def test_size_round_trip(size):
    """A written size is read as the same one."""
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("value", "ratio"), [("10%", 0.1), ("0.5 %", 0.005), ("100%", 1), (0, 0), (1, 1), (0.25, 0.25)]
)
def test_ratio(value, ratio):
    """Ratios are read as numbers and per cent."""
    assert parse_ratio(value) == ratio


@pytest.mark.parametrize("value", ["", "0.1", "101%", "-1%", 1.01, -0.1, float("nan"), True, None])
def test_no_ratio(value):
    """What is no part of a whole is refused."""
    with pytest.raises(ValueError, match=r"not a ratio|out of range"):
        parse_ratio(value)
