"""Ranges and conditions, by tables; targets that can't be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.serve.requests.conditions import ByteRange, Unsatisfiable, is_unchanged, select_part
from mirror.serve.requests.routes import find_route
from mirror.serve.requests.target import MalformedTargetError, Target, parse_target

ETAG, MODIFIED = '"abc"', 1_800_000_000.5
DATE, OTHER_DATE = "Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:00:01 GMT"

RANGES = {
    "none": ({}, None),
    "first": ({"Range": "bytes=0-0"}, ByteRange(first=0, end=1)),
    "middle": ({"Range": "bytes=2-5"}, ByteRange(first=2, end=6)),
    "spaces": ({"Range": "bytes = 2 - 5"}, ByteRange(first=2, end=6)),
    "capitals": ({"Range": "Bytes=2-5"}, ByteRange(first=2, end=6)),
    "open": ({"Range": "bytes=7-"}, ByteRange(first=7, end=10)),
    "too-far": ({"Range": "bytes=7-99"}, ByteRange(first=7, end=10)),
    "absurdly-far": ({"Range": f"bytes=7-{'9' * 40}"}, ByteRange(first=7, end=10)),
    "last": ({"Range": "bytes=-3"}, ByteRange(first=7, end=10)),
    "last-more-than-all": ({"Range": "bytes=-30"}, ByteRange(first=0, end=10)),
    "last-absurdly-many": ({"Range": f"bytes=-{'9' * 40}"}, ByteRange(first=0, end=10)),
    "last-none": ({"Range": "bytes=-0"}, Unsatisfiable()),
    "past-the-end": ({"Range": "bytes=10-"}, Unsatisfiable()),
    "absurdly-past": ({"Range": f"bytes={'9' * 40}-"}, Unsatisfiable()),
    "several": ({"Range": "bytes=0-1,3-4"}, None),
    "unknown-unit": ({"Range": "lines=0-1"}, None),
    "malformed": ({"Range": "bytes=a-b"}, None),
    "empty": ({"Range": "bytes=-"}, None),
    "backwards": ({"Range": "bytes=5-2"}, None),
    "same-tag": ({"Range": "bytes=0-0", "If-Range": ETAG}, ByteRange(first=0, end=1)),
    "other-tag": ({"Range": "bytes=0-0", "If-Range": '"x"'}, None),
    "weak-tag": ({"Range": "bytes=0-0", "If-Range": f"W/{ETAG}"}, None),
    "same-date": ({"Range": "bytes=0-0", "If-Range": DATE}, ByteRange(first=0, end=1)),
    "other-date": ({"Range": "bytes=0-0", "If-Range": OTHER_DATE}, None),
    "no-date": ({"Range": "bytes=0-0", "If-Range": "yesterday"}, None),
}


@pytest.mark.parametrize(("headers", "expected"), RANGES.values(), ids=RANGES)
def test_range(headers, expected):
    """One range is a part; what is not understood is the whole."""
    assert select_part(headers, size=10, etag=ETAG, modified=MODIFIED) == expected


CONDITIONS = {
    "none": ({}, False),
    "tag": ({"If-None-Match": ETAG}, True),
    "weak": ({"If-None-Match": f"W/{ETAG}"}, True),
    "among-others": ({"If-None-Match": f'"x", {ETAG}'}, True),
    "any": ({"If-None-Match": "*"}, True),
    "other": ({"If-None-Match": '"x"'}, False),
    "tag-before-date": ({"If-None-Match": '"x"', "If-Modified-Since": DATE}, False),
    "date": ({"If-Modified-Since": DATE}, True),
    "older": ({"If-Modified-Since": "Fri, 15 Jan 2027 07:59:59 GMT"}, False),
    "no-date": ({"If-Modified-Since": "yesterday"}, False),
}


@pytest.mark.parametrize(("headers", "expected"), CONDITIONS.values(), ids=CONDITIONS)
def test_condition(headers, expected):
    """What the client has is not sent again."""
    assert is_unchanged(headers, etag=ETAG, modified=MODIFIED) is expected


def test_target():
    """A path is decoded segment by segment; the query stays as it came."""
    assert parse_target("/simple/a%2Fb/?format=a%2Bb+c&x") == Target(
        segments=("simple", "a/b"), has_slash=True, query="format=a%2Bb+c&x"
    )
    assert parse_target("/simple/?format=a%2Bb+c").format == "a+b+c"
    assert parse_target("http://user:secret@host/simple").segments == ("simple",)
    assert parse_target("/") == Target(segments=(), has_slash=True, query="")


@pytest.mark.parametrize("raw", ["/%", "/%zz", "/%4", "/%00", "/%ff", "x", f"/{'a' * 5000}"])
def test_malformed_target(raw):
    """What can't be read is said to be so."""
    with pytest.raises(MalformedTargetError):
        parse_target(raw)


@given(st.text())
def test_any_target_has_a_route(text):
    """No address breaks the way to its route."""
    try:
        target = parse_target(text)
    except MalformedTargetError:
        return
    find_route(target)
