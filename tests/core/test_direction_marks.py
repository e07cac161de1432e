"""Marks that turn text around are seen in messages, and stay the same data in pages."""

from __future__ import annotations

import html
import json
import unicodedata

import pytest

from mirror.core.words.direction_marks import HTML_REFERENCES, escape_marks, escape_marks_in_json
from mirror.errors import shown_text

MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
KINDS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_all_marks() -> None:
    """The marks here are all that Unicode has: those of an embedding, override or isolate, and three without a kind."""
    of_unicode = [chr(n) for n in range(0x110000) if unicodedata.bidirectional(chr(n)) in KINDS]
    assert sorted([*of_unicode, "\u061c", "\u200e", "\u200f"]) == list(MARKS)


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: f"{ord(mark):04x}")
def test_a_mark(mark: str) -> None:
    """Each mark is visible where people read, a reference in HTML and an escape in JSON, of the same value."""
    text = f"é{mark}gpj.exe"
    shown = f"é\\u{ord(mark):04x}gpj.exe"
    assert escape_marks(text) == shown
    assert mark not in shown_text(text)
    in_html = text.translate(HTML_REFERENCES)
    assert (mark in in_html, html.unescape(in_html)) == (False, text)
    in_json = escape_marks_in_json(json.dumps({text: [text]}, ensure_ascii=False).encode())
    assert (mark.encode() in in_json, json.loads(in_json)) == (False, {text: [text]})
    assert in_json.decode() == escape_marks(json.dumps({text: [text]}, ensure_ascii=False))


def test_other_text_stays() -> None:
    """Letters of scripts that are written from the right, emoji and ASCII are no marks."""
    text = 'plain "é" שלום مرحبا 👩‍💻 \\u202e'
    assert escape_marks(text) == text
    assert escape_marks_in_json(text.encode()) == text.encode()
