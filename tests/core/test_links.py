"""Links, API versions and warnings: what the two forms of a page have in common."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.core.files.links import Base, Doubts, check_api_version, is_https, last_segment, parse_base, resolve_link
from mirror.errors import BadPage

PAGE = "https://packages.example/simple/demo/"

RESOLVED = {
    "absolute": ("https://files.example/a/demo-1.0.tar.gz", "https://files.example/a/demo-1.0.tar.gz"),
    "http": ("http://files.example/a", "http://files.example/a"),
    "scheme and host in capitals": ("HTTPS://Files.Example/A", "https://files.example/A"),
    "scheme relative": ("//cdn.example/a", "https://cdn.example/a"),
    "root relative": ("/packages/a", "https://packages.example/packages/a"),
    "relative": ("a.whl", "https://packages.example/simple/demo/a.whl"),
    "relative, up": ("../../p/a.whl", "https://packages.example/p/a.whl"),
    "relative, up beyond the root": ("../../../../../a.whl", "https://packages.example/a.whl"),
    "relative, single dots": ("./x/./a.whl", "https://packages.example/simple/demo/x/a.whl"),
    "folder above": ("..", "https://packages.example/simple/"),
    "this folder": (".", "https://packages.example/simple/demo/"),
    "name that begins with dots": ("..a/.b", "https://packages.example/simple/demo/..a/.b"),
    "dots of an absolute link stay": ("https://h.example/a/../b", "https://h.example/a/../b"),
    "empty segments stay": ("//h.example//a///b", "https://h.example//a///b"),
    "empty": ("", "https://packages.example/simple/demo/"),
    "query only": ("?C=N;O=D", "https://packages.example/simple/demo/?C=N;O=D"),
    "empty query": ("a.whl?", "https://packages.example/simple/demo/a.whl?"),
    "fragment": ("a.whl#sha256=ab#c", "https://packages.example/simple/demo/a.whl"),
    "slashes in a query": ("a.whl?x=/../b", "https://packages.example/simple/demo/a.whl?x=/../b"),
    "user info": ("https://user:p%40ss@h.example/a", "https://h.example/a"),
    "two at signs": ("https://a@b@h.example/a", "https://h.example/a"),
    "no path": ("https://h.example", "https://h.example/"),
    "query instead of a path": ("https://h.example?q=/x", "https://h.example/?q=/x"),
    "port": ("https://h.example:8443/a", "https://h.example:8443/a"),
    "default port": ("https://h.example:443/a", "https://h.example/a"),
    "default port of http": ("http://h.example:80/a", "http://h.example/a"),
    "empty port": ("https://h.example:/a", "https://h.example/a"),
    "trailing dot of a host": ("https://h.example./a", "https://h.example./a"),
    "IPv6": ("http://[::1]:8080/a", "http://[::1]:8080/a"),
    "escapes stay as they are": (
        "https://s.example/a%2Bb%2fc%7E%zz?sig=a%2Fb+c%3d&x=%7E",
        "https://s.example/a%2Bb%2fc%7E%zz?sig=a%2Fb+c%3d&x=%7E",
    ),
    "what may stand in a URL stays": (
        "https://h.example/a!$&'()*+,;=:@[]|~-._",
        "https://h.example/a!$&'()*+,;=:@[]|~-._",
    ),
    "spaces": (" a b.whl ", "https://packages.example/simple/demo/a%20b.whl"),
    "line breaks": ("a\r\n\tb.whl\n", "https://packages.example/simple/demo/ab.whl"),
    "control characters": ("a\x00b\x7fc", "https://packages.example/simple/demo/a%00b%7Fc"),
    "not ASCII": ("é.whl?q=é", "https://packages.example/simple/demo/%C3%A9.whl?q=%C3%A9"),
    "lone surrogate": ("a\ud800.whl", "https://packages.example/simple/demo/a%ED%A0%80.whl"),
    "not allowed in a path": ('<a>"`{}^\\', "https://packages.example/simple/demo/%3Ca%3E%22%60%7B%7D%5E%5C"),
    "not allowed in a query": ('a?<b>"`{}^\\ ', "https://packages.example/simple/demo/a?%3Cb%3E%22`{}^\\"),
}


@pytest.mark.parametrize(("href", "expected"), RESOLVED.values(), ids=RESOLVED.keys())
def test_a_link_is_resolved_and_its_path_and_query_stay_byte_for_byte(href: str, expected: str) -> None:
    """A link becomes absolute, without user info and fragment, and is only escaped where it could not be a URL."""
    assert resolve_link(parse_base(PAGE), href) == expected


NOWHERE = {
    "other scheme": ("ftp://h.example/a", "it is not an http or https URL"),
    "file": ("file:///etc/passwd", "it is not an http or https URL"),
    "script": ("javascript:alert(1)", "it is not an http or https URL"),
    "no slashes": ("https:a.whl", "it is a URL without a host"),
    "one slash": ("https:/a.whl", "it is a URL without a host"),
    "no host": ("https:///a.whl", "it is a URL without a usable host"),
    "only a port": ("https://:443/a.whl", "it is a URL without a usable host"),
    "only user info": ("https://user@/a.whl", "it is a URL without a usable host"),
    "space in the host": ("https://a b/c", "it is a URL without a usable host"),
    "host that is not ASCII": ("https://bücher.example/a", "it is a URL without a usable host"),
    "backslash for a slash": ("https://h.example\\a", "it is a URL without a usable host"),
    "empty label": ("https://h..example/a", "it is a URL without a usable host"),
    "long label": (f"https://{'h' * 64}.example/a", "it is a URL without a usable host"),
    "long host": (f"https://{'.'.join(['h' * 50] * 6)}/a", "it is a URL without a usable host"),
    "port that is no number": ("https://h.example:x/a", "it is a URL without a usable host"),
    "port out of range": ("https://h.example:65536/a", "it is a URL without a usable host"),
    "bracket that is not closed": ("https://[::1/a", "it is a URL without a usable host"),
    "too long": ("x" * 16_385, "its URL is longer than 16384 characters"),
    "no IPv6 address": ("https://[::1::2]/a", "it is a URL without a usable host"),
}


@pytest.mark.parametrize(("href", "cause"), NOWHERE.values(), ids=NOWHERE.keys())
def test_a_link_that_can_not_be_asked_for_is_refused(href: str, cause: str) -> None:
    """A link of another scheme or without a usable host is a ValueError that says so."""
    with pytest.raises(ValueError, match=rf"\A{cause}\Z"):
        resolve_link(parse_base(PAGE), href)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param(
            "HTTPS://u:p@H.example/simple?a=b#c",
            Base(scheme="https", authority="h.example", path="/simple", query="?a=b"),
            id="all parts",
        ),
        pytest.param("http://h", Base(scheme="http", authority="h", path="/", query=""), id="only a host"),
    ],
)
def test_the_url_of_a_page_is_taken_apart(url: str, expected: Base) -> None:
    """The page's own URL becomes scheme, authority, path and query."""
    assert parse_base(url) == expected


def test_an_empty_link_leads_to_the_page_itself_with_its_query() -> None:
    """A link of nothing but a fragment keeps path and query of the page."""
    assert resolve_link(parse_base("https://h/a/b?c=d"), "#top") == "https://h/a/b?c=d"


@given(st.text() | st.from_regex(r"(https?:)?(//)?[a-z.@:/\\?#%\[\] ]*", fullmatch=True))
@example("https://a?b/c")
def test_whatever_a_link_says_it_is_resolved_or_refused(href: str) -> None:
    """A resolved link is ASCII, has neither blanks nor fragment nor user info, and resolves to itself."""
    base = parse_base(PAGE)
    try:
        url = resolve_link(base, href)
    except ValueError:
        return
    assert url.startswith(("https://", "http://"))
    assert url.isascii()
    assert url.isprintable()
    assert not set(url) & set(' #"<>')
    assert "@" not in url.split("/")[2]
    assert resolve_link(base, url) == url
    assert "/" not in last_segment(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("https://h.example/a/b#d", True, id="https"),
        pytest.param("https://h.example/a/b?c#d", False, id="query"),
        pytest.param("https://h.example/a/b?", False, id="empty query"),
        pytest.param("http://h.example/a", False, id="http"),
        pytest.param("/a", False, id="relative"),
        pytest.param("", False, id="empty"),
        pytest.param("https://", False, id="no host"),
        pytest.param("https://u:p@h.example/", False, id="user info"),
        pytest.param("https://h.example/@x", True, id="at sign in the path"),
        pytest.param("https://h.example/a b", False, id="space"),
        pytest.param(" https://h.example/", False, id="blank before it"),
    ],
)
def test_only_an_absolute_https_url_counts_as_one(url: str, *, expected: bool) -> None:
    """PEP 740 wants a fully qualified https URL; user info and a query would be a secret."""
    assert is_https(url) is expected


@pytest.mark.parametrize(
    ("version", "warning"),
    [
        pytest.param("1.0", None, id="first"),
        pytest.param(" 1.4 ", None, id="known"),
        pytest.param("1", None, id="no minor"),
        pytest.param(
            "1.5",
            "the page has the API version 1.5, newer than 1.4: what is new in it may be left out",
            id="higher minor",
        ),
    ],
)
def test_a_minor_version_is_read(version: str, warning: str | None) -> None:
    """Any version 1.x is read; one that is newer than what we know, with a warning (PEP 629)."""
    assert check_api_version(version, url=PAGE) == warning


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0", "", "one", "1.x", "1.0.0", "-1.0", "1٠.0"])
def test_another_major_version_is_refused(version: str) -> None:
    """A major version other than 1, or what is no version, is no page that can be read."""
    with pytest.raises(BadPage) as caught:
        check_api_version(version, url=PAGE)
    assert caught.value.cause == (
        f"it has the API version {version.encode('unicode_escape').decode() if not version.isprintable() else version}"
        ", and only 1.x can be read"
    )


def test_doubts_of_one_kind_become_one_sentence() -> None:
    """However many files have the same fault, it is one warning with their number."""
    doubts = Doubts()
    doubts.count("size")
    doubts.add("first")
    doubts.add(None)
    doubts.count("size")
    doubts.count("yanked")
    assert doubts.warnings() == (
        "first",
        "size: not as specified, left out (2 times)",
        "yanked: not as specified, left out (1 times)",
    )
