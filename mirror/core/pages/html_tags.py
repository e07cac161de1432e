"""The few tags of an HTML document that make up an index page, in document order and in constant
memory.

A DOM takes fifteen times the memory of its page, and a hostile page of some hundred kilobytes can
cost a DOM parser seconds, since misnested formatting and long lists of attributes are quadratic. So
a linear scan first cuts the document into its tokens; only the wanted tags go on to lexbor, batch
by batch, which reads attributes and character references as a browser does. The scan knows all of
HTML that pages of indexes contain. Any other construct (such as SVG, templates, unclosed quotes)
makes a page odd: a small odd page is read whole by lexbor, a large one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser

Tag = tuple[str, dict[str, str]]
"""A tag's lower-case name and its attributes; an attribute without a value has an empty one."""

ODD_LIMIT_BYTES = 256 * 1024
"""The largest odd document that is given to the DOM parser as a whole."""

MAX_TEXT_BYTES = 1024
"""Maximum length of an anchor's text that is read; a longer one is not a name."""

_BATCH = 4096
_WANTED = "a, base, input, meta"

# Possessive quantifiers are used on single character classes only: on groups, Python 3.11.0 to
# 3.11.4 get them wrong. No two ways lead through a token, so a failing match costs one pass over
# it.
_SPACE = rb"[ \t\n\f\r]"
_NAME_ENDS = rb"(?=[ \t\n\f\r/>])"
_VALUE = rb"""(?:"[^"]*+"|'[^']*+'|[^ \t\n\f\r"'<>=`][^ \t\n\f\r"'<>`]*+)"""
_ATTRIBUTE = rb"""[^ \t\n\f\r"'<>/=]++(?:""" + _SPACE + rb"*+=" + _SPACE + rb"*+" + _VALUE + rb")?"
_REST_OF_TAG = rb"(?:[ \t\n\f\r/]++|" + _ATTRIBUTE + rb"){0,256}>"
_TEXT_ELEMENTS = (
    b"script",
    b"style",
    b"title",
    b"textarea",
    b"xmp",
    b"iframe",
    b"noembed",
    b"noframes",
)
_ODD_ELEMENTS = (b"svg", b"math", b"plaintext", b"template", b"frameset")


# A repeated group costs memory for each time: a script of nothing but "<" must not take gigabytes.
_FEW = rb"{0,20000}"


def _text_element(name: bytes) -> bytes:
    """Return the pattern of an element whose content is text up to its own end tag."""
    stop = rb"(?!/" + name + _NAME_ENDS + (rb"|!--)" if name == b"script" else rb")")
    content = rb"[^<]*+(?:<" + stop + rb"[^<]*+)" + _FEW
    return name + _NAME_ENDS + _REST_OF_TAG + content + rb"</" + name + _NAME_ENDS + _REST_OF_TAG


_COMMENT = rb"!--(?:-?>|[^-]*+(?:-(?!->|-!>)[^-]*+)" + _FEW + rb"--!?>)"
_DECLARATION = rb"(?:!(?!--)|\?|/(?=[^a-z>]))[^>]*+>|/>"
_OTHER_TAG = (
    rb"(?!(?:"
    + b"|".join((*_TEXT_ELEMENTS, *_ODD_ELEMENTS))
    + rb")"
    + _NAME_ENDS
    + rb")/?[a-z][^ \t\n\f\r/>]*+"
) + _REST_OF_TAG
_TOKEN = re.compile(
    rb"[^<]*+(?:"
    rb"(?P<wanted><(?:a|base|input|meta)" + _NAME_ENDS + _REST_OF_TAG + rb")"
    rb"|<(?:"
    + b"|".join((_OTHER_TAG, _COMMENT, _DECLARATION, *map(_text_element, _TEXT_ELEMENTS)))
    + rb")"
    rb"|<(?=[^a-z!/?])"
    rb"|(?P<odd><)"
    rb"|\Z)",
    re.IGNORECASE,
)


class OddDocumentError(ValueError):
    """The document is too large to be read whole and too odd to be read in pieces."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"its HTML can't be read from byte {offset} on")


def iter_tags(html: bytes | bytearray) -> Iterator[Tag]:
    """Yield each ``a``, ``base``, ``input`` and ``meta`` of UTF-8.

    Raises ``OddDocumentError``, also late.
    """
    if len(html) <= ODD_LIMIT_BYTES:
        try:
            batches = list(_iter_batches(html))
        except OddDocumentError:
            batches = [bytes(html)]
        for batch in batches:
            yield from _read_tags(batch)
        return
    for batch in _iter_batches(html):
        yield from _read_tags(batch)


def iter_anchors(html: bytes | bytearray) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the attributes and the text of each ``a`` of UTF-8. Raises ``OddDocumentError``.

    This costs much more than ``iter_tags``, since it scans all the text.
    """
    try:
        for batch in _iter_batches(html, with_text=True):
            yield from _read_anchors(batch)
    except OddDocumentError:
        if len(html) > ODD_LIMIT_BYTES:
            raise
        yield from _read_anchors(bytes(html))


def _iter_batches(html: bytes | bytearray, *, with_text: bool = False) -> Iterator[bytes]:
    """Yield flat documents that consist of the wanted tags, and of the text of anchors if
    wanted.
    """
    wanted: list[bytes] = []
    texts = _Texts(wanted) if with_text else None
    length = 0
    for token in _TOKEN.finditer(html):
        if texts is not None:
            texts.pass_by(token)
        match token.lastgroup:
            case "wanted":
                tag_length = token.end() - token.start("wanted")
                if tag_length > ODD_LIMIT_BYTES:  # lexbor would take many times its length
                    raise OddDocumentError(token.start("wanted"))
                if len(wanted) >= _BATCH or length + tag_length > ODD_LIMIT_BYTES:
                    yield b"</a>".join(wanted)
                    wanted.clear()
                    length = 0
                length += tag_length
                wanted.append(token["wanted"])
            case "odd":
                raise OddDocumentError(token.end() - 1)
    if wanted:
        yield b"</a>".join(wanted)


class _Texts:
    """Puts the text of an anchor behind its tag while the tokens pass."""

    __slots__ = ("_is_open", "_left", "_wanted")

    def __init__(self, wanted: list[bytes]) -> None:
        self._wanted = wanted
        self._is_open = False
        self._left = 0

    def pass_by(self, token: re.Match[bytes]) -> None:
        """Collect the text before a token; to be called before its tag is added to the wanted
        ones.
        """
        lead, _, tag = token.group().partition(b"<")
        if self._is_open and lead and self._left > 0:
            self._wanted[-1] += lead[: self._left]
            self._left -= len(lead)
        if token.lastgroup == "wanted":
            self._is_open = tag[:1] in b"aA"
            self._left = MAX_TEXT_BYTES
        elif tag[:2] in {b"/a", b"/A"} and tag[2:3] in b" \t\n\f\r/>":
            self._is_open = False


def _read_tags(html: bytes) -> Iterator[Tag]:
    for node in LexborHTMLParser(html).css(_WANTED):
        yield node.tag or "", {name: value or "" for name, value in node.attributes.items()}


def _read_anchors(html: bytes) -> Iterator[tuple[dict[str, str], str]]:
    for node in LexborHTMLParser(html).css("a"):
        yield {name: value or "" for name, value in node.attributes.items()}, node.text()
