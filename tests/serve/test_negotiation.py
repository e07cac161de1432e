"""Which form and encoding a client gets, by tables."""

from __future__ import annotations

import pytest

from mirror.serve.requests.negotiation import Form, select_form, takes_gzip

V = "application/vnd.pypi.simple."
PIP = f"{V}v1+json, {V}v1+html; q=0.1, text/html; q=0.01"
UV = f"{V}v1+json, {V}v1+html;q=0.2, text/html;q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"

ACCEPTS = {
    "none": (None, Form.HTML),
    "empty": ("", Form.HTML),
    "anything": ("*/*", Form.HTML),
    "anything-with-quality": ("*/*;q=0.1", Form.HTML),
    "pip": (PIP, Form.JSON),
    "uv": (UV, Form.JSON),
    "browser": (BROWSER, Form.HTML),
    "json": (f"{V}v1+json", Form.JSON),
    "html": (f"{V}v1+html", Form.HTML_V1),
    "latest-json": (f"{V}latest+json", Form.JSON),
    "latest-html": (f"{V}latest+html", Form.HTML_V1),
    "capitals": (f"{V}V1+JSON", Form.JSON),
    "text": ("text/*", Form.HTML),
    "application": ("application/*", Form.JSON),
    "json-before-anything": (f"*/*, {V}v1+json", Form.JSON),
    "json-liked-less": (f"text/html, {V}v1+json;q=0.9", Form.HTML),
    "json-refused": (f"{V}v1+json;q=0, */*", Form.HTML),
    "html-refused": ("text/html;q=0, */*;q=0.1", Form.JSON),
    "parameters": (f"{V}v1+json;profile=x;q=1", Form.JSON),
    "other": ("application/json", None),
    "newer": (f"{V}v2+json", None),
    "newer-or-html": (f"{V}v2+json, text/html;q=0.1", Form.HTML),
    "nothing": ("*/*;q=0", None),
    "bad-quality": ("text/html;q=nan", None),
    "equal": (f"text/html, {V}v1+html, {V}v1+json", Form.JSON),
}


@pytest.mark.parametrize(("accept", "expected"), ACCEPTS.values(), ids=ACCEPTS)
def test_accept(accept, expected):
    """What is liked best counts, what is named most exactly where that is equal."""
    assert select_form(accept) is expected


ASKED = {
    "json": (f"{V}v1+json", Form.JSON),
    "html": (f"{V}v1+html", Form.HTML_V1),
    "plain": ("text/html", Form.HTML),
    "latest": (f"{V}latest+json", Form.JSON),
    "other": ("application/json", None),
    "empty": ("", None),
}


@pytest.mark.parametrize(("asked", "expected"), ASKED.values(), ids=ASKED)
def test_format_wins(asked, expected):
    """The parameter wins over the header."""
    assert select_form("text/html", asked) is expected


ENCODINGS = {
    "none": (None, False),
    "gzip": ("gzip, deflate, br", True),
    "x-gzip": ("x-gzip", True),
    "anything": ("*", True),
    "refused": ("gzip;q=0", False),
    "refused-beside-anything": ("*, gzip;q=0", False),
    "identity-liked-more": ("identity, gzip;q=0.5", False),
    "other": ("br", False),
    "capitals": ("GZIP", True),
}


@pytest.mark.parametrize(("header", "expected"), ENCODINGS.values(), ids=ENCODINGS)
def test_encoding(header, expected):
    """Gzip is used where it is taken and liked no less."""
    assert takes_gzip(header) is expected
