"""How long to wait before the next try."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.backoff import MAX_RETRY_AFTER_S, delay_s, parse_retry_after

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("tries_made", "drawn", "expected_s"),
    [
        pytest.param(1, 0.0, 0.05, id="the floor is a tenth of the base"),
        pytest.param(1, 0.5, 0.275, id="half of the first window"),
        pytest.param(3, 0.5, 1.025, id="the window doubles with each try"),
        pytest.param(9, 0.999999, 10.0, id="the cap ends the doubling"),
        pytest.param(10_000, 0.5, 5.025, id="very many tries do not overflow"),
        pytest.param(0, 0.0, 0.05, id="no try counts as the first"),
    ],
)
def test_delay_is_drawn_from_a_doubling_window(tries_made, drawn, expected_s):
    """The wait is drawn from a window that doubles up to the cap."""
    delay = delay_s(tries_made, base_s=0.5, cap_s=10.0, random=lambda: drawn)
    assert delay == pytest.approx(expected_s, abs=1e-4)


@given(
    tries_made=st.integers(0, 10**6),
    base_s=st.floats(0.001, 100),
    cap_s=st.floats(0.001, 100),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_delay_stays_between_floor_and_cap(tries_made, base_s, cap_s, drawn):
    """Whatever is drawn, the wait is positive and never longer than the cap."""
    delay = delay_s(tries_made, base_s=base_s, cap_s=cap_s, random=lambda: drawn)
    assert 0 < delay <= cap_s
    assert delay >= min(cap_s, base_s / 10) * 0.999


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        pytest.param(None, None, id="no header"),
        pytest.param("", None, id="an empty header"),
        pytest.param("120", 120.0, id="seconds"),
        pytest.param(" 7 ", 7.0, id="seconds with spaces"),
        pytest.param("0", 0.0, id="at once"),
        pytest.param("9" * 5000, MAX_RETRY_AFTER_S, id="absurdly many digits"),
        pytest.param("99999999", MAX_RETRY_AFTER_S, id="more than a week"),
        pytest.param("-5", None, id="a negative number is no number of seconds"),
        pytest.param("1.5", None, id="a fraction is not allowed by the standard"),
        pytest.param("١٢", None, id="digits of another script"),
        pytest.param("Sun, 22 Nov 2026 12:00:30 GMT", 30.0, id="a date"),
        pytest.param("Sun, 22 Nov 2026 12:00:30 -0000", 30.0, id="a date without a zone counts as UTC"),
        pytest.param("Sun, 22 Nov 2026 14:00:30 +0200", 30.0, id="a date in another zone"),
        pytest.param("Sun, 22 Nov 2026 11:00:00 GMT", 0.0, id="a date that has passed"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S, id="a date far away"),
        pytest.param("Sun, 99 Nov 2026 12:00:30 GMT", None, id="a date that does not exist"),
        pytest.param("soon", None, id="a word"),
    ],
)
def test_retry_after_is_read(value, expected_s):
    """Both forms of Retry-After are read, and what is neither says nothing."""
    assert parse_retry_after(value, now=NOW) == expected_s


@given(st.text(max_size=60))
def test_retry_after_never_fails(value):
    """No text in the header raises or gives more than the bound."""
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=6)), st.integers(-12, 12))
def test_retry_after_reads_every_date_back(ahead, offset_h):
    """A date written in any zone is read as the seconds until then."""
    until = (NOW + ahead).replace(microsecond=0)
    text = format_datetime(until.astimezone(timezone(timedelta(hours=offset_h))))
    assert parse_retry_after(text, now=NOW) == (until - NOW).total_seconds()
