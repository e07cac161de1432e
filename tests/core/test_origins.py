"""Which origins pages may come from."""

from __future__ import annotations

import pytest

from mirror.core.files.origins import page_origins

ALLOWED = {
    "https": ("https://index.example/simple/", (), {"https://index.example"}),
    "http on the usual port": ("http://index.example/", (), {"http://index.example", "https://index.example"}),
    "http on another port": ("http://index.example:8080/", (), {"http://index.example:8080"}),
    "IPv6": ("http://[::1]/", (), {"http://[::1]", "https://[::1]"}),
    "hosts of an https index": (
        "https://index.example/",
        ("Pages.example", "pages.example:443", "other.example:8443", "[::1]:80"),
        {"https://index.example", "https://pages.example", "https://other.example:8443", "https://[::1]:80"},
    ),
    "hosts of an http index": (
        "http://index.example:81/",
        ("pages.example",),
        {"http://index.example:81", "https://pages.example", "http://pages.example"},
    ),
}


@pytest.mark.parametrize(("url", "hosts", "expected"), ALLOWED.values(), ids=ALLOWED)
def test_allowed(url: str, hosts: tuple[str, ...], expected: set[str]) -> None:
    """The index's own origin, its https where it is http, and the configured hosts; never http of an https index."""
    assert page_origins(url, hosts).allowed == expected


def test_own() -> None:
    """A configured host is allowed, and not the index's own."""
    assert page_origins("http://index.example/", ["x.example"]).own == {"http://index.example", "https://index.example"}
