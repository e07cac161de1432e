"""Upload times in seconds."""

import pytest

from mirror.core.files.upload_time import upload_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("yesterday", None),
        ("2026-13-01T00:00:00Z", None),
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T00:00:10.500000Z", 10.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("2026-01-01T00:00:00.000000Z", 1_767_225_600.0),
    ],
)
def test_seconds(text, seconds):
    """A readable time counts from the epoch, in UTC; anything else is none."""
    assert upload_seconds(text) == seconds
