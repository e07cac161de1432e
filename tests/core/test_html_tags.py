"""The scan that finds a page's tags without a DOM: it must see what a DOM sees, and refuse what it can't be sure of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from mirror.core.pages import html_tags
from mirror.core.pages.html_tags import ODD_LIMIT_BYTES, OddDocumentError, Tag, iter_anchors, iter_tags

FILLING = b"<p>text</p>\n" * (ODD_LIMIT_BYTES // 12 + 1)
"""Makes a document too large to be read whole."""

FEW_BYTES = 100 * 12
"""Of it, where the limit is lower: longer than each tag of the generated documents."""


def seen_by_a_dom(html: bytes) -> list[Tag]:
    """Return what a whole DOM of the document contains."""
    nodes = LexborHTMLParser(html).css("a, base, input, meta")
    return [(node.tag or "", {name: value or "" for name, value in node.attributes.items()}) for node in nodes]


REGULAR = {
    "empty": b"",
    "no tags": b"a < b > c & d <3 << ",
    "all that is wanted": b"<meta name=a content=b><base href=/><a href='x'>x</a><input type=\"password\">",
    "capitals": b"<A HREF=x DATA-Yanked>x</A>",
    "attribute forms": b"<a href=x/y?a=b data-yanked data-x = '1' data-y=\"2\"data-z=3 />",
    "slashes between attributes": b"<a/href=x/ / data-y=1/>",
    "line breaks": b"<a\n\thref\n=\r\n'x'\n>x</a\n>",
    "brackets in values": b'<a href="x" data-requires-python=">=3,<4">x</a><a href="<a href=y>">y</a>',
    "character references": b"<a href='a&amp;b&#x3D;&eacute;&nope;&copy'>x</a>",
    "same attribute twice": b"<a href=1 href=2>x</a>",
    "comment": b"<!-- <a href=x> -- > - -> --><a href=y>",
    "comment with a bang": b"<!-- <a href=x> --!><a href=y>",
    "empty comments": b"<!--><a href=x><!---><a href=y><!----><a href=z>",
    "comment of dashes": b"<!--a---><a href=x><!-----><a href=y>",
    "declarations": b"<!DOCTYPE html><?xml version='1'><!x><![CDATA[<a href=x>]]></1 ></><a href=y>",
    "script": b"<script>if (1 < 2) '<a href=x>' </scripty></script ><a href=y>",
    "style, title": b"<title><a href=x></titles></title><style a=b><a href=y></style><a href=z>",
    "textarea": b"<textarea><a href=x></a></textarea><a href=y>",
    "end tag with attributes": b"<a href=x>x</a href=y><b></b x='>'><a href=z>",
    "names that begin alike": b"<abbr href=x><address><basefont><a-b href=y><input2><metal><a href=z>",
    "names that begin like text": b"<scripts><a href=x></a></scripts><titled><svgx><a href=y>",
    "NUL and bytes that are no UTF-8": b"<a href='a\x00b\xff'>\xff\xfe</a>",
    "noscript": b"<noscript><a href=x></noscript>",
    "in a table": b"<table><tr><td><a href=x>x</a></td></tr></table><a href=y>y</a>",
}


@pytest.mark.parametrize("html", REGULAR.values(), ids=REGULAR.keys())
def test_the_scan_sees_what_a_dom_sees(html: bytes) -> None:
    """For a regular document, also one too large for a DOM, the tags are those of a DOM, in its order."""
    expected = seen_by_a_dom(html)
    assert list(iter_tags(html)) == expected
    assert list(iter_tags(FILLING + html)) == expected


ODD = {
    "unclosed quote": b"<a href='x'><a href=\"y>z</a>",
    "unclosed tag": b"<a href=x><a href=y",
    "unclosed comment": b"<a href=x><!-- <a href=y>",
    "unclosed script": b"<a href=x><script><a href=y>",
    "script that hides its end": b"<script><!--<script></script><a href=x>--></script><a href=y>",
    "vector graphics": b"<svg><title><a href=x></title></svg>",
    "template": b"<template><a href=x></template><a href=y>",
    "plain text": b"<a href=x><plaintext><a href=y>",
    "quote in an attribute's name": b"<a x\"y='1' href=z>",
    "equals sign before a name": b"<a =x href=y>",
    "value that is missing": b"<a href=>x</a>",
    "bracket in a name": b"<a <b href=x>",
    "very many attributes": b"<a " + b" ".join(b"x%d" % n for n in range(200)) + b" href=x>",
    "end tag that ends the document": b"<a href=x></",
    "bracket that ends the document": b"<a href=x>x</a><",
}


@pytest.mark.parametrize("html", ODD.values(), ids=ODD.keys())
def test_a_small_odd_document_is_read_whole(html: bytes) -> None:
    """What the scan can't be sure of is left to a DOM."""
    assert list(iter_tags(html)) == seen_by_a_dom(html)


@pytest.mark.parametrize("html", ODD.values(), ids=ODD.keys())
def test_a_large_odd_document_is_refused(html: bytes) -> None:
    """A DOM of a large odd document could take minutes and gigabytes: it is an error that says where the oddity is."""
    with pytest.raises(OddDocumentError) as caught:
        list(iter_tags(FILLING + html))
    offset = int(str(caught.value).removeprefix("its HTML can't be read from byte ").removesuffix(" on"))
    assert (FILLING + html)[offset : offset + 1] == b"<"
    assert offset >= len(FILLING)


def test_more_tags_than_one_batch_keep_their_order() -> None:
    """Batches change nothing: ten thousand anchors come in the order of the document."""
    html = b"".join(b'<a href="p%d/">p%d</a><br>\n' % (n, n) for n in range(10_000))
    assert list(iter_tags(html)) == [("a", {"href": f"p{n}/"}) for n in range(10_000)]


@pytest.mark.parametrize("html", ODD.values(), ids=ODD.keys())
def test_anchors_of_an_odd_document(html: bytes) -> None:
    """Anchors are read with their texts as tags are: of a small odd document by a DOM, of a large one not at all."""
    anchors = [attributes for name, attributes in seen_by_a_dom(html) if name == "a"]
    assert [attributes for attributes, _ in iter_anchors(html)] == anchors
    with pytest.raises(OddDocumentError):
        list(iter_anchors(FILLING + html))


def test_a_very_long_tag_makes_a_document_odd() -> None:
    """A DOM would take many times the length of one tag: a large document with such a tag is refused."""
    tag = b'<a href="' + b"x" * ODD_LIMIT_BYTES + b'">'
    with pytest.raises(OddDocumentError, match="from byte 3 on"):
        list(iter_tags(b"<p>" + tag))


PIECES = st.sampled_from([piece for name, piece in REGULAR.items() if not name.startswith("in a table")])


@given(st.lists(PIECES | st.text(alphabet="<>/!-?='\" abc").map(str.encode), max_size=6).map(b"".join))
def test_whatever_the_scan_passes_is_what_a_dom_sees(html: bytes) -> None:
    """A document made of pieces and of debris is either odd, or has the same anchors for the scan and for a DOM.

    A DOM may repeat an anchor that was not closed (HTML standard, adoption agency); neither invents or loses one.
    """
    document = FILLING[:FEW_BYTES] + html
    with pytest.MonkeyPatch.context() as lower:
        lower.setattr(html_tags, "ODD_LIMIT_BYTES", FEW_BYTES - 1)
        try:
            tags = list(iter_tags(document))
        except OddDocumentError:
            return
    assert {repr(tag) for tag in tags} == {repr(tag) for tag in seen_by_a_dom(document)}


@given(st.binary())
def test_any_bytes_are_read_or_odd(html: bytes) -> None:
    """No bytes lead to another exception, and all texts can be encoded."""
    for name, attributes in iter_tags(html):
        assert name in {"a", "base", "input", "meta"}
        assert repr(attributes).encode()
